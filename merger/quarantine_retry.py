# SPDX-License-Identifier: BSD-3-Clause
"""Bad deltas that a person picks out: looked at again now, or given up."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from merger.archived_deltas import with_archives
from merger.central_registry import CentralRegistry
from merger.delta_checks import BadDelta, Reason
from merger.delta_listing import list_deltas
from merger.delta_reading import read_batches
from merger.merge import MergeReport, RunMerge, stranger
from merger.predictions import read_predictions
from merger.progress import Progress
from merger.quarantine import Quarantined, attempts_of, set_dropped
from merger.settings import SettingsError
from registry import names
from transfer_plugins.object_store import ObjectStore

_BATCH_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deltas of a quarantine; empty is all."""

    keys: Sequence[str] = ()
    reasons: Sequence[str] = ()
    quanta: Sequence[str] = ()

    def of(self, found: Sequence[Quarantined]) -> list[Quarantined]:
        """Return what is selected.

        Raises
        ------
        SettingsError
            If a key is not in the quarantine, or no delta is quarantined for such a reason.
        """
        # A newer release may know more reasons.
        if unknown := set(self.reasons).difference(Reason, (one.reason for one in found)):
            raise SettingsError(
                f"--reason: expected one of {', '.join(Reason)}; found {sorted(unknown)}"
            )
        chosen = [one for one in found if self._has(one)]
        if unknown := set(self.keys) - {one.key for one in chosen}:
            raise SettingsError(
                f"--key: expected keys that are in the quarantine, found {sorted(unknown)}; "
                "registry-merge quarantine list has them"
            )
        return chosen

    def _has(self, one: Quarantined) -> bool:
        named = names.parse_delta_key(one.key)
        return (
            (not self.keys or one.key in self.keys)
            and (not self.reasons or one.reason in self.reasons)
            and (not self.quanta or (named is not None and named[0] in self.quanta))
        )


@dataclass(slots=True)
class Retried:
    """What came of looking again; ``n_good`` deltas are merged, or would be."""

    n_selected: int
    n_good: int = 0
    bad: list[BadDelta] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    report: MergeReport | None = None

    @property
    def n_gone(self) -> int:
        """Deltas that were merged meanwhile, or whose objects are no more."""
        return max(0, self.n_selected - self.n_good - len(self.bad) - len(self.newer))


def retry(merge: RunMerge, registry: CentralRegistry, selected: Sequence[Quarantined]) -> Retried:
    """Look at deltas again, those too that were given up, and merge what is good by now.

    Raises
    ------
    registry.errors.QuantumExecError
        As `merge.merge_run`.
    """
    keys = {one.key for one in selected}
    set_dropped(registry, merge.run, keys, dropped=False)
    report = merge.merge_pass(only=keys)
    n_good = report.counts.n_deltas
    return Retried(len(keys), n_good, report.quarantined, report.newer, report)


def rehearse_retry(
    store: ObjectStore,
    run: str,
    selected: Sequence[Quarantined],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Retried:
    """Look at deltas again and write nothing; raises as `retry`."""
    progress, store = progress or Progress(), with_archives(store, run)
    predictions, listing = read_predictions(store, run), list_deltas(store, run)
    keys = {one.key for one in selected}
    left = listing.only(attempts_of(run, keys))
    found = Retried(len(keys), bad=[stranger(k) for k in listing.strangers if k in keys])
    for archive in store.bad_archives():
        if archive.key in keys:
            found.bad.append(BadDelta(archive.key, Reason.BAD_ARCHIVE, archive.message))
    progress.start(len(left))
    for batch in read_batches(
        store, left.keys(), predictions, batch_size=_BATCH_SIZE, threads=threads
    ):
        found.n_good += len(batch.good)
        found.bad += batch.bad
        found.newer += batch.newer
        progress.advance(batch.n_keys)
    return found


def drop(
    registry: CentralRegistry, run: str, selected: Collection[Quarantined], *, is_dry: bool
) -> list[str]:
    """Give deltas up; returns the keys of those that were not given up before."""
    keys = sorted(one.key for one in selected if not one.dropped)
    if keys and not is_dry:
        set_dropped(registry, run, keys, dropped=True)
    return keys
