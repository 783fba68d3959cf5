# SPDX-License-Identifier: BSD-3-Clause
"""What the central registry says about one RUN, read in one snapshot for verify."""

import functools
import json
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import msgspec
from psycopg import Cursor

from merger import verify_statements as statements
from merger.dataset_conflicts import Side, side_from_row
from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.job import ResourceRequest
from registry.structs import Decoder

_requested = Decoder(ResourceRequest)


@dataclass(frozen=True, slots=True)
class RecordedSide:
    """A row of ``merge_conflict``."""

    table_name: str
    conflict_key: str
    content: dict[str, Any]
    attempt_id: str | None
    kept: bool
    is_settled: bool


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """What verify compares of an attempt: some of its row, and how many rows belong to it."""

    status: str
    no_work: bool
    n_inputs: int
    n_metrics: int
    n_dimension_records: int
    read_bytes: int | None
    write_bytes: int | None
    scratch_bytes: int | None
    requested: object
    versions: object

    @classmethod
    def of_delta(cls, delta: Delta) -> "AttemptFacts":
        """Return what a merged delta makes of them."""
        is_successful = delta.status is AttemptStatus.SUCCESSFUL
        use = delta.resources
        return cls(
            delta.status.value,
            delta.no_work,
            len(delta.inputs),
            len(delta.rows.metric),
            len(delta.rows.dimension_record) if is_successful else 0,
            *(use.read_bytes, use.write_bytes, use.scratch_bytes),
            *(delta.requested, delta.versions),
        )

    def differences(self, other: "AttemptFacts") -> tuple[str, str]:
        """Return the facts in which the other ones differ, here and there."""
        names = [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]
        here, there = (
            ", ".join(f"{name} {getattr(side, name)!r}" for name in names) for side in (self, other)
        )
        return here, there


@dataclass(frozen=True, slots=True)
class RegistryRows:
    """Rows of one RUN by id."""

    ledger: dict[str, tuple[str, str]]
    """Quantum and checksum of the delta, by attempt."""
    quanta: dict[str, tuple[str, str]]
    """Status and attempt that counts."""
    attempts: dict[str, tuple[bool, AttemptFacts]]
    """Whether superseded, and the rest."""
    dimensions: list[tuple[str, dict[str, Any], str, str | None]]
    """Dimension, data ID, record as brought and as it is, of those that are not as brought."""
    datasets: dict[str, Side]
    conflicts: list[RecordedSide]
    quarantine: dict[str, tuple[str, str]]
    """Reason and message, by key of the delta."""
    dropped: frozenset[str]
    """Keys of deltas in quarantine that a person gave up."""
    forgotten: frozenset[str]
    """Attempts in the ledger whose rows were taken out."""
    forgotten_inputs: list[tuple[str, str, int]]
    """Id and key of datasets that such attempts made, and how often they were read."""

    def lost_datasets(self) -> list[RecordedSide]:
        """Return the datasets that lost a conflict and wait in ``merge_conflict``."""
        return [s for s in self.conflicts if s.table_name == "dataset" and not s.kept]


def read_rows(cursor: Cursor, run: str) -> RegistryRows:
    """Read everything that the registry has of a RUN."""
    ledger = _by_id(cursor, statements.READ_LEDGER, run)
    return RegistryRows(
        ledger=ledger,
        dimensions=cursor.execute(statements.READ_DIFFERING_DIMENSIONS, (run,)).fetchall(),
        datasets=_read_datasets(cursor, run),
        quanta=_by_id(cursor, statements.READ_QUANTA, run),
        attempts={
            row[0]: (row[1], _attempt_facts(row[2:]))
            for row in cursor.stream(statements.READ_ATTEMPTS, (run,))
        },
        conflicts=_read_conflicts(cursor, run, ledger),
        quarantine=_by_id(cursor, statements.READ_QUARANTINED, run),
        dropped=frozenset(_by_id(cursor, statements.READ_DROPPED, run)),
        forgotten=frozenset(_by_id(cursor, statements.READ_FORGOTTEN, run)),
        forgotten_inputs=cursor.execute(statements.READ_FORGOTTEN_INPUTS, (run,)).fetchall(),
    )


def _by_id(cursor: Cursor, statement: str, run: str) -> dict[str, Any]:
    return {row[0]: row[1:] for row in cursor.stream(statement.encode(), (run,))}


def _read_datasets(cursor: Cursor, run: str) -> dict[str, Side]:
    """Read the datasets; what many have is in memory once."""
    texts: dict[str, str] = {}
    found = {}
    for row in cursor.stream(statements.READ_DATASETS, (run,)):
        found[row[0]] = side_from_row(
            tuple(
                texts.setdefault(value, value) if place in _SHARED and value is not None else value
                for place, value in enumerate(row)
            )
        )
    return found


_SHARED = {1, 2, 4, 5, 9}
"""Columns of a dataset that many share: RUN, dataset type, quantum, attempt, storage class."""


def _attempt_facts(row: Any) -> AttemptFacts:
    facts = [*row[:-2], _read_requested(row[-2]), _read(row[-1])]
    return AttemptFacts(*facts)


# A RUN has few of both, and each may stand in the rows of thousands of attempts.
@functools.lru_cache(maxsize=1024)
def _read_requested(text: str | None) -> object:
    try:
        # As numbers that a delta may have: jsonb has 1e300 as a whole number of 301 digits.
        return None if text is None else _requested.decode(text.encode())
    except msgspec.DecodeError:
        return json.loads(text or "null")


@functools.lru_cache(maxsize=1024)
def _read(text: str | None) -> object:
    return {} if text is None else json.loads(text)


def _read_conflicts(cursor: Cursor, run: str, ledger: Collection[str]) -> list[RecordedSide]:
    """Conflicts with a side in this RUN: by the RUN of a dataset, else by an attempt."""
    sides = [RecordedSide(*row) for row in cursor.execute(statements.READ_CONFLICTS)]
    concerned = {
        (side.table_name, side.conflict_key)
        for side in sides
        if side.attempt_id in ledger or side.content.get("run") == run
    }
    return [side for side in sides if (side.table_name, side.conflict_key) in concerned]
