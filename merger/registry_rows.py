# SPDX-License-Identifier: BSD-3-Clause
"""What the central registry says about one RUN, read in one snapshot for verify."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from psycopg import Cursor

from merger import verify_statements as statements
from merger.dataset_conflicts import Side, side_from_row


@dataclass(frozen=True, slots=True)
class RecordedSide:
    """A row of ``merge_conflict``."""

    table_name: str
    conflict_key: str
    content: dict[str, Any]
    attempt_id: str | None
    kept: bool


@dataclass(frozen=True, slots=True)
class RegistryRows:
    """Rows of one RUN by id."""

    ledger: dict[str, tuple[str, str]]
    """Quantum and checksum of the delta, by attempt."""
    quanta: dict[str, tuple[str, str]]
    """Status and attempt that counts."""
    attempts: dict[str, tuple[str, bool, int, int, int]]
    """Status, superseded, and numbers of inputs, metrics and dimension records."""
    dimensions: list[tuple[str, dict[str, Any], str, str | None]]
    """Dimension, data ID, record as brought and as it is, of those that are not as brought."""
    datasets: dict[str, Side]
    conflicts: list[RecordedSide]
    quarantine: dict[str, tuple[str, str]]
    """Reason and message, by key of the delta."""

    def lost_datasets(self) -> list[RecordedSide]:
        """Return the datasets that lost a conflict and wait in ``merge_conflict``."""
        return [s for s in self.conflicts if s.table_name == "dataset" and not s.kept]


def read_rows(cursor: Cursor, run: str) -> RegistryRows:
    """Read everything that the registry has of a RUN."""
    ledger = _by_id(cursor, statements.READ_LEDGER, run)
    return RegistryRows(
        ledger=ledger,
        dimensions=cursor.execute(statements.READ_DIFFERING_DIMENSIONS, (run,)).fetchall(),
        datasets={
            row[0]: side_from_row(row) for row in cursor.execute(statements.READ_DATASETS, (run,))
        },
        quanta=_by_id(cursor, statements.READ_QUANTA, run),
        attempts=_by_id(cursor, statements.READ_ATTEMPTS, run),
        conflicts=_read_conflicts(cursor, run, ledger),
        quarantine=_by_id(cursor, statements.READ_QUARANTINED, run),
    )


def _by_id(cursor: Cursor, statement: str, run: str) -> dict[str, Any]:
    return {row[0]: row[1:] for row in cursor.execute(statement.encode(), (run,))}


def _read_conflicts(cursor: Cursor, run: str, ledger: Collection[str]) -> list[RecordedSide]:
    """Conflicts with a side in this RUN: by the RUN of a dataset, else by an attempt."""
    sides = [RecordedSide(*row) for row in cursor.execute(statements.READ_CONFLICTS)]
    concerned = {
        (side.table_name, side.conflict_key)
        for side in sides
        if side.attempt_id in ledger or side.content.get("run") == run
    }
    return [side for side in sides if (side.table_name, side.conflict_key) in concerned]
