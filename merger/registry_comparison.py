# SPDX-License-Identifier: BSD-3-Clause
"""Deltas against the central registry, for verify."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from merger.dataset_conflicts import Side, sides_of
from merger.delta_checks import GoodDelta
from merger.delta_listing import DeltaListing
from merger.delta_reading import ReadDeltas
from merger.findings import Finding, FindingKind
from merger.packed_ids import pack_ids, unpack_ids
from merger.registry_rows import AttemptFacts, RegistryRows
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import Delta


@dataclass(frozen=True, slots=True)
class Decisive:
    """The attempt that decides the status of a quantum; a success counts more than a higher id."""

    rank: tuple[bool, str]
    status: str
    sides: list[Side]

    @property
    def attempt_id(self) -> str:
        """Id of the attempt."""
        return self.rank[1]

    @property
    def is_successful(self) -> bool:
        """Whether the attempt counts."""
        return self.rank[0]


@dataclass(frozen=True, slots=True)
class Made:
    """What a successful attempt made: keys of objects."""

    quantum_id: str
    keys: list[str]


@dataclass(slots=True)
class ExpectedRows:
    """What the merged deltas make of the registry, and which ones are not merged."""

    quanta: dict[str, Decisive] = field(default_factory=dict)
    superseded: dict[str, Made] = field(default_factory=dict)
    """Merged successful attempts that do not count."""
    waiting: dict[str, Made] = field(default_factory=dict)
    """Successful attempts whose deltas are good and not merged."""
    forgotten: set[str] = field(default_factory=set)
    """Keys of objects that forgotten attempts made."""
    bad: set[str] = field(default_factory=set)
    """Attempts whose deltas no merge takes."""
    newer: set[str] = field(default_factory=set)
    """Attempts whose deltas wait for an upgrade."""
    tried: set[str] = field(default_factory=set)
    """Quanta with any delta, merged or not."""

    def add(self, good: GoodDelta, datasets: Mapping[str, Side]) -> None:
        """Add a merged delta, in any order; what the registry has as well takes no more memory."""
        delta = good.delta
        rank = (delta.status is AttemptStatus.SUCCESSFUL, delta.attempt_id)
        sides = [
            known if (known := datasets.get(side.dataset_id)) == side else side
            for side in sides_of([delta])
        ]
        new = Decisive(rank, delta.status.value, sides)
        old = self.quanta.get(delta.quantum_id)
        if old is None:
            self.quanta[delta.quantum_id] = new
            return
        loser, winner = sorted([old, new], key=lambda decisive: decisive.rank)
        self.quanta[delta.quantum_id] = winner
        if loser.is_successful:
            keys = [side.object_key for side in loser.sides if side.object_key is not None]
            self.superseded[loser.attempt_id] = Made(delta.quantum_id, keys)

    def add_waiting(self, delta: Delta) -> None:
        """Add a good delta that the registry does not have as it is."""
        if delta.status is AttemptStatus.SUCCESSFUL:
            keys = [record.object_key for record in delta.rows.datastore_record]
            self.waiting[delta.attempt_id] = Made(delta.quantum_id, keys)

    def newest_successes(self) -> dict[str, str]:
        """Return the attempt of each quantum that counts when everything is merged."""
        newest = {q: found.attempt_id for q, found in self.quanta.items() if found.is_successful}
        for attempt_id, made in self.waiting.items():
            newest[made.quantum_id] = max(attempt_id, newest.get(made.quantum_id, ""))
        return newest


def compare_deltas(
    batch: ReadDeltas, rows: RegistryRows, expected: ExpectedRows
) -> Iterator[Finding]:
    """Compare deltas with ledger and attempts, and add the merged ones to what is expected."""
    for bad in batch.bad:
        yield bad_delta(bad.key, f"{bad.reason}: {bad.message}", rows)
    for key in batch.newer:
        yield Finding(FindingKind.DELTA_NEWER_FORMAT, None, key)
    for keys, attempts in (
        ([bad.key for bad in batch.bad], expected.bad),
        (batch.newer, expected.newer),
    ):
        for named in filter(None, map(names.parse_delta_key, keys)):
            expected.tried.add(named[0])
            attempts.add(named[1])
    for good in batch.good:
        expected.tried.add(good.delta.quantum_id)
        yield from _compare_delta(good, rows, expected)


def bad_delta(key: str, found: str, rows: RegistryRows) -> Finding:
    """Return the finding of a delta that no merge takes; a note if a person gave it up."""
    kind = FindingKind.DROPPED if key in rows.dropped else FindingKind.DELTA_BAD
    return Finding(kind, None, key, "a good delta", found)


def _compare_delta(
    good: GoodDelta, rows: RegistryRows, expected: ExpectedRows
) -> Iterator[Finding]:
    delta = good.delta
    merged = rows.ledger.get(delta.attempt_id)
    if delta.attempt_id in rows.forgotten:
        expected.forgotten |= {record.object_key for record in delta.rows.datastore_record}
        yield Finding(FindingKind.FORGOTTEN, delta.attempt_id, good.key)
    elif merged is None:
        if good.key in rows.quarantine:
            expected.bad.add(delta.attempt_id)
            yield bad_delta(good.key, ": ".join(rows.quarantine[good.key]), rows)
        else:
            expected.add_waiting(delta)
            yield Finding(FindingKind.DELTA_NOT_MERGED, delta.attempt_id, good.key)
    elif merged != (delta.quantum_id, good.checksum):
        expected.add_waiting(delta)
        yield Finding(
            FindingKind.DELTA_CHANGED, delta.attempt_id, good.key, merged[1], good.checksum
        )
    else:
        expected.add(good, rows.datasets)
        yield from _compare_attempt(good, rows)


def _compare_attempt(good: GoodDelta, rows: RegistryRows) -> Iterator[Finding]:
    attempt_id, wanted = good.delta.attempt_id, AttemptFacts.of_delta(good.delta)
    found = rows.attempts.get(attempt_id)
    if found is None:
        yield Finding(FindingKind.ATTEMPT_DIFFERS, attempt_id, good.key, wanted.status, "no row")
    elif found[1] != wanted:
        texts = wanted.differences(found[1])
        yield Finding(FindingKind.ATTEMPT_DIFFERS, attempt_id, good.key, *texts)


def compare_ledger(rows: RegistryRows, listing: DeltaListing) -> Iterator[Finding]:
    """Find ledger rows without a delta in the bucket."""
    gone = np.setdiff1d(pack_ids(list(rows.ledger)), listing.attempts)
    for attempt_id in sorted({*unpack_ids(gone)} - rows.forgotten):
        quantum_id, checksum = rows.ledger[attempt_id]
        wanted = f"delta of quantum {quantum_id} with {checksum}"
        yield Finding(FindingKind.DELTA_MISSING, attempt_id, None, wanted, "none")


def compare_quanta(rows: RegistryRows, expected: ExpectedRows) -> Iterator[Finding]:
    """Compare status and attempt that counts of every quantum, and who is superseded."""
    for quantum_id, decisive in expected.quanta.items():
        wanted = (decisive.status, decisive.attempt_id)
        found = rows.quanta.get(quantum_id)
        if found != wanted:
            shown = "no row" if found is None else f"{found[0]}, attempt {found[1]}"
            wanted_text = f"{wanted[0]}, attempt {wanted[1]}"
            yield Finding(FindingKind.QUANTUM_DIFFERS, quantum_id, None, wanted_text, shown)
    merged_quanta = {decisive.attempt_id for decisive in expected.quanta.values()}
    for attempt_id, (superseded, _) in rows.attempts.items():
        is_known = attempt_id in merged_quanta or attempt_id in expected.superseded
        if is_known and superseded is not (attempt_id in expected.superseded):
            yield Finding(
                FindingKind.ATTEMPT_DIFFERS,
                attempt_id,
                None,
                f"superseded: {attempt_id in expected.superseded}",
                f"superseded: {superseded}",
            )


def compare_datasets(rows: RegistryRows, expected: ExpectedRows) -> Iterator[Finding]:
    """Compare datasets and datastore records with the attempts that count."""
    lost = {(s.content["dataset_id"], s.attempt_id) for s in rows.lost_datasets()}
    wanted = {
        side.dataset_id: side
        for decisive in expected.quanta.values()
        for side in decisive.sides
        if (side.dataset_id, side.attempt_id) not in lost
    }
    for dataset_id, side in wanted.items():
        found = rows.datasets.get(dataset_id)
        if found is None:
            text = f"{side.dataset_type} {side.data_id}"
            yield Finding(FindingKind.DATASET_MISSING, dataset_id, side.object_key, text, "no row")
        elif found != side and not (found.attempt_id is None and found.is_same_dataset(side)):
            yield Finding(
                FindingKind.DATASET_DIFFERS,
                dataset_id,
                side.object_key,
                *side.differences(found),
            )
    for dataset_id, side in rows.datasets.items():
        if dataset_id not in wanted and _comes_from_merge(side, rows):
            text = f"{side.dataset_type} {side.data_id} of attempt {side.attempt_id}"
            yield Finding(
                FindingKind.DATASET_UNEXPECTED, dataset_id, side.object_key, "no row", text
            )


def _comes_from_merge(side: Side, rows: RegistryRows) -> bool:
    """Tell whether only a merged attempt can have a dataset; others come from outside.

    A private registry that was imported has the id of an attempt that nobody has merged. Its
    datasets stand until a success of the quantum is merged.
    """
    status, _ = rows.quanta.get(side.quantum_id or "", ("", ""))
    is_decided = side.attempt_id is not None and status == AttemptStatus.SUCCESSFUL
    return is_decided or side.attempt_id in rows.ledger
