# SPDX-License-Identifier: BSD-3-Clause
"""What a merge would do: deltas are read and checked, the registry is only read.

A role that may only read is enough. New conflicts, and what PostgreSQL refuses, only show when rows
are inserted; they are not told.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from merger.archive_file import BadArchive
from merger.archived_deltas import with_archives
from merger.central_registry import CentralRegistry
from merger.delta_checks import BadDelta, Reason
from merger.delta_listing import DeltaListing, list_deltas
from merger.delta_reading import read_batches
from merger.exit_codes import ExitCode, lowest
from merger.merge import stranger
from merger.predictions import read_predictions
from merger.progress import Progress
from merger.quarantine import attempts_of, list_quarantine
from merger.schema import SchemaVersionError
from merger.settling import Selection, count_conflicts
from merger.standings import read_merged
from registry.attempt import AttemptStatus
from transfer_plugins.object_store import ObjectStore

_BATCH_SIZE = 1000
_SHOWN = 20


@dataclass(slots=True)
class DryRun:
    """What a merge would find.

    Attributes
    ----------
    missing_schema
        Why the registry could not be asked what is merged; then nothing counts as merged.
    statuses
        Number of deltas that would be merged, by the status of their attempt.
    """

    run: str
    missing_schema: str | None = None
    n_listed: int = 0
    n_merged_before: int = 0
    n_dropped: int = 0
    n_datasets: int = 0
    n_open_conflicts: int = 0
    statuses: Counter[AttemptStatus] = field(default_factory=Counter)
    bad: list[BadDelta] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> ExitCode:
        """That of the merge, as far as it can be told."""
        return lowest(
            {
                ExitCode.SCHEMA: self.missing_schema,
                ExitCode.CONFLICTS: self.n_open_conflicts,
                ExitCode.QUARANTINED: self.bad,
                ExitCode.NEWER_FORMAT: self.newer,
            }
        )


def rehearse(
    registry: CentralRegistry,
    store: ObjectStore,
    run: str,
    *,
    threads: int | None = None,
    remerge: bool = False,
    progress: Progress | None = None,
) -> DryRun:
    """Read what a merge would merge, and write nothing at all.

    Raises
    ------
    registry.errors.QuantumExecError
        If the RUN has no graph record, or the datastore or the registry cannot be read; a
        registry without tables, or with those of another release, is told in the outcome.
    """
    progress = progress or Progress()
    store = with_archives(store, run)
    predictions = read_predictions(store, run)
    listing = list_deltas(store, run)
    found = DryRun(run, n_listed=len(listing) + len(listing.strangers))
    left = _unmerged(registry, listing, found, store.bad_archives(), remerge=remerge)
    progress.start(len(left))
    keys = (
        key for at in range(0, len(left), _BATCH_SIZE) for key in left.keys(at, at + _BATCH_SIZE)
    )
    batches = read_batches(
        store,
        keys,
        predictions,
        batch_size=_BATCH_SIZE,
        threads=threads,
        are_refused_left=True,
    )
    for batch in batches:
        found.statuses.update(good.delta.status for good in batch.good)
        found.n_datasets += sum(len(good.delta.rows.dataset) for good in batch.good)
        found.bad += batch.bad
        found.newer += batch.newer
        progress.advance(batch.n_keys)
    return found


def _unmerged(
    registry: CentralRegistry,
    listing: DeltaListing,
    found: DryRun,
    archives: Sequence[BadArchive],
    *,
    remerge: bool,
) -> DeltaListing:
    """Ask the registry what is left, if it has tables that can be asked."""
    dropped: set[str] = set()
    left = listing
    try:
        left = listing.without(read_merged(registry, listing.attempts, but_forgotten=remerge))
        dropped = {q.key for q in list_quarantine(registry, listing.run) if q.dropped}
        found.n_open_conflicts = count_conflicts(registry, Selection(listing.run))
    except SchemaVersionError as error:
        found.missing_schema = str(error)
    found.n_merged_before = len(listing) - len(left)
    found.n_dropped = len(dropped)
    found.bad += [stranger(key) for key in listing.strangers if key not in dropped]
    found.newer += [bad.key for bad in archives if bad.is_newer]
    found.bad += [
        BadDelta(bad.key, Reason.BAD_ARCHIVE, bad.message)
        for bad in archives
        if not bad.is_newer and bad.key not in dropped
    ]
    return left.without(attempts_of(listing.run, dropped))


def dry_run_object(found: DryRun) -> dict[str, object]:
    """Return what ``--json`` prints."""
    return {
        "run": found.run,
        "exit_code": int(found.exit_code),
        "dry_run": True,
        "missing_schema": found.missing_schema,
        "n_deltas_listed": found.n_listed,
        "n_deltas_merged_before": found.n_merged_before,
        "n_deltas_to_merge": found.statuses.total(),
        "n_datasets_to_merge": found.n_datasets,
        "statuses": {status: found.statuses[status] for status in AttemptStatus},
        "n_conflicts_open": found.n_open_conflicts,
        "n_quarantined": len(found.bad),
        "n_dropped": found.n_dropped,
        "n_newer_format": len(found.newer),
        "quarantined": [dataclasses.asdict(bad) for bad in found.bad],
        "newer_format": found.newer,
    }


def show_dry_run(console: Console, found: DryRun) -> None:
    """Print what would be merged, and what a person would have to do."""
    table = Table()
    table.add_column(f"RUN {found.run}: would be", overflow="fold", max_width=56)
    table.add_column("deltas", justify="right")
    for status in AttemptStatus:
        table.add_row(f"merged, attempt {status}", f"{found.statuses[status]:,}")
    table.add_row("found merged before", f"{found.n_merged_before:,}")
    table.add_row("quarantined", f"{len(found.bad):,}")
    table.add_row("left alone: given up", f"{found.n_dropped:,}")
    table.add_row("left alone: of a newer format", f"{len(found.newer):,}")
    console.print(table)
    console.print(f"{found.n_datasets:,} datasets; nothing was written", soft_wrap=True)
    if found.n_open_conflicts:
        console.print(f"{found.n_open_conflicts:,} conflicts are open already")
    for bad in found.bad[:_SHOWN]:
        line = f"would be quarantined ({bad.reason}): {bad.message}"
        console.print(line, markup=False, soft_wrap=True)
    if len(found.bad) > _SHOWN:
        console.print(f"… and {len(found.bad) - _SHOWN} more; --json has all")
    if found.missing_schema is not None:
        console.print(f"before a merge: {found.missing_schema}", markup=False, soft_wrap=True)
