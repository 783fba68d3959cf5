# SPDX-License-Identifier: BSD-3-Clause
"""Recorded conflicts: found, shown side by side, and settled by a person.

A person's decision is a row of ``conflict_decision``; what it changes in the registry follows from
the same rule as in a merge. It may be replaced by another one at any time.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import Cursor

from merger import settling_statements as statements
from merger.central_registry import CentralRegistry
from merger.dataset_conflicts import settle_keys
from merger.dimension_conflicts import key_parts, settle_dimensions
from merger.settings import SettingsError

DEFER = "defer"
"""Takes a decision back."""

_SHOWN_DIGITS = 12


class ConflictNotFoundError(SettingsError, LookupError):
    """No recorded conflict, or more than one, is called so."""

    error_type = "conflict_not_found"


@dataclass(frozen=True, slots=True)
class ShownSide:
    """One side of a conflict, whole."""

    content_checksum: str
    content: dict[str, Any]
    attempt_id: str | None
    kept: bool


@dataclass(frozen=True, slots=True)
class RecordedConflict:
    """A key that several sides claim, the one in the table first."""

    digits: str
    table_name: str
    conflict_key: str
    decision: str | None
    chosen: str | None
    """Content checksum of the side that a person chose."""
    by_policy: bool | None
    sides: list[ShownSide]

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> "RecordedConflict":
        """Return the conflict that a row of the statements is."""
        digits, table_name, conflict_key, decision, chosen, by_policy, sides = row
        shown = [ShownSide(**side) for side in sides]
        return cls(digits, table_name, conflict_key, decision, chosen, by_policy, shown)

    @property
    def id(self) -> str:
        """What it is called on a command line."""
        return self.digits[:_SHOWN_DIGITS]

    @property
    def is_settled(self) -> bool:
        """Whether a decision holds."""
        if self.decision == "chosen":
            return any(side.content_checksum == self.chosen for side in self.sides)
        return self.decision is not None

    def as_object(self) -> dict[str, object]:
        """Return it as ``--json`` prints it."""
        shown = asdict(self) | {"id": self.id, "is_settled": self.is_settled}
        del shown["digits"]
        return shown


@dataclass(frozen=True, slots=True)
class Selection:
    """Which conflicts are meant; everything that is given narrows it down."""

    run: str | None = None
    type: str | None = None
    """A dataset type or a dimension."""
    table_name: str | None = None
    settled_too: bool = False
    task: str | None = None
    """Label of the task that made a side."""
    data_id: Mapping[str, str] | None = None
    """Some dimensions with their values, as text."""

    def columns(self) -> dict[str, Any]:
        """Return what the statements ask for."""
        given = self.data_id
        return asdict(self) | {"data_id": None if given is None else json.dumps(dict(given))}


@dataclass(slots=True)
class SettleReport:
    """What became of conflicts that were settled."""

    decision: str
    n_settled: int = 0
    n_moved: int = 0
    """Those in which another side than before is in the table now."""


def parse_data_id(text: str | None) -> dict[str, str] | None:
    """Read dimensions and values such as ``exposure=3,detector=1``.

    Raises
    ------
    SettingsError
    """
    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",")]
    wanted = {name.strip(): value.strip() for name, _, value in parts}
    if len(wanted) < len(parts) or not all(name.strip() and sign for name, sign, _ in parts):
        raise SettingsError(
            "--data-id: expected dimensions and values such as exposure=3,detector=1, each "
            f"dimension once, found {text!r}"
        )
    return wanted


def list_conflicts(
    registry: CentralRegistry, selection: Selection, *, limit: int | None = None
) -> tuple[int, list[RecordedConflict]]:
    """Return how many conflicts there are, and the first of them."""

    def read(cursor: Cursor) -> tuple[int, list[RecordedConflict]]:
        wanted = selection.columns() | {"limit": limit}
        (number,) = cursor.execute(statements.COUNT_CONFLICTS, wanted).fetchone() or (0,)
        cursor.execute(statements.READ_CONFLICTS, wanted)
        return number, [RecordedConflict.of_row(row) for row in cursor.fetchall()]

    return registry.read_snapshot(read)


def count_conflicts(registry: CentralRegistry, selection: Selection) -> int:
    """Return how many conflicts there are."""
    wanted = selection.columns()
    ((number,),) = registry.read_snapshot(
        lambda cursor: cursor.execute(statements.COUNT_CONFLICTS, wanted).fetchall()
    )
    return int(number)


def read_conflict(
    registry: CentralRegistry, name: str
) -> tuple[RecordedConflict, dict[str, dict[str, str]]]:
    """Return a conflict by key or beginning of its id, and who made its sides, by attempt.

    Raises
    ------
    ConflictNotFoundError
    """

    def read(cursor: Cursor) -> tuple[RecordedConflict, dict[str, dict[str, str]]]:
        conflict = _read_one(cursor, *_find(cursor, name))
        attempt_ids = [side.attempt_id for side in conflict.sides if side.attempt_id]
        cursor.execute(statements.READ_MAKERS, (attempt_ids,))
        columns = ("quantum_id", "task_label", "host", "finished")
        return conflict, {
            attempt_id: dict(zip(columns, row, strict=True))
            for attempt_id, *row in cursor.fetchall()
        }

    return registry.read_snapshot(read)


def settle_one(
    registry: CentralRegistry,
    name: str,
    *,
    decision: str | None = None,
    side: str | None = None,
    is_dry: bool = False,
) -> SettleReport:
    """Settle a conflict, and others between exactly the same sides.

    Parameters
    ----------
    decision
        ``keep``, ``replace`` or ``defer``, if no side is given.
    side
        Attempt or checksum (of the content, or of the dataset's bytes) of the side that stays;
        a beginning will do.

    Raises
    ------
    ConflictNotFoundError
        Also if no side of the conflict, or more than one, is called so.
    """

    def settle(cursor: Cursor) -> SettleReport:
        table_name, key = _find(cursor, name)
        chosen = None
        if side is not None:
            chosen = _find_side(_read_one(cursor, table_name, key), side).content_checksum
        wanted = {"table_name": table_name, "key": key}
        cursor.execute(statements.READ_KEYS_OF_SAME_SIDES, wanted)
        keys = {key, *(other for (other,) in cursor.fetchall())}
        pairs = [(table_name, one) for one in sorted(keys)]
        return _settle(cursor, pairs, decision or "chosen", chosen, is_dry=is_dry)

    return registry.transact(settle, alone=True)


def settle_selected(
    registry: CentralRegistry, selection: Selection, decision: str, *, is_dry: bool = False
) -> SettleReport:
    """Settle all conflicts of a selection by ``keep``, ``replace`` or ``defer``, all or none."""

    def settle(cursor: Cursor) -> SettleReport:
        cursor.execute(statements.READ_CONFLICT_KEYS, selection.columns())
        return _settle(cursor, cursor.fetchall(), decision, None, is_dry=is_dry)

    return registry.transact(settle, alone=True)


def _settle(
    cursor: Cursor,
    pairs: Iterable[tuple[str, str]],
    decision: str,
    chosen: str | None,
    *,
    is_dry: bool,
) -> SettleReport:
    by_table = defaultdict(list)
    for table_name, key in pairs:
        by_table[table_name].append(key)
    report = SettleReport(decision)
    with cursor.connection.transaction(force_rollback=is_dry):
        for table_name, keys in sorted(by_table.items()):
            wanted = {"table_name": table_name, "keys": json.dumps(keys)}
            before = set(cursor.execute(statements.READ_KEPT, wanted).fetchall())
            if decision == DEFER:
                cursor.execute(statements.DELETE_DECISIONS, wanted)
            else:
                made = {"decision": decision, "content_checksum": chosen}
                cursor.execute(statements.WRITE_DECISIONS, wanted | made)
            if table_name == "dataset":
                settle_keys(cursor, keys)
            else:
                settle_dimensions(cursor, [key_parts(key) for key in keys])
            after = set(cursor.execute(statements.READ_KEPT, wanted).fetchall())
            report.n_settled += len(keys)
            report.n_moved += len({key for key, _ in before ^ after})
    return report


def _find(cursor: Cursor, name: str) -> tuple[str, str]:
    cursor.execute(statements.READ_NAMED_KEYS, {"key": name})
    found: list[tuple[str, str]] = cursor.fetchall()
    if len(found) != 1:
        number = f"{len(found)} of them" if found else "none"
        raise ConflictNotFoundError(
            f"conflict {name!r}: expected one recorded conflict with this key or beginning of an "
            f"id, found {number}; see registry-merge conflicts list --all"
        )
    return found[0]


def _read_one(cursor: Cursor, table_name: str, key: str) -> RecordedConflict:
    (row,) = cursor.execute(statements.READ_CONFLICT, (table_name, key)).fetchall()
    return RecordedConflict.of_row(row)


def _find_side(conflict: RecordedConflict, name: str) -> ShownSide:
    found = [side for side in conflict.sides if any(_names(side, name))]
    if len(found) != 1:
        number = f"{len(found)} of them" if found else "none"
        raise ConflictNotFoundError(
            f"conflict {conflict.id!r}: expected one side with attempt or checksum {name!r}, found "
            f"{number}; see registry-merge conflicts show {conflict.id}"
        )
    return found[0]


def _names(side: ShownSide, name: str) -> Iterable[bool]:
    for text in (side.attempt_id, side.content_checksum, side.content.get("checksum")):
        if text is not None:
            yield str(text).startswith(name) or str(text).removeprefix("sha256:").startswith(name)
