# SPDX-License-Identifier: BSD-3-Clause
"""Datasets on the careful way: superseded attempts, and two claims to one dataset.

A *side* is a dataset with its datastore record, as the attempt that counts for its quantum gave
it, or as it was in the registry before any merge. Two sides conflict if they claim one key: the
same id, or the same RUN, dataset type and data ID. Which ones stay is decided over all sides:
those that were there before any merge first, then from the highest attempt id down, each if no
key of it is taken yet. The others wait in ``merge_conflict``, whole, so that they come back if
the attempt that displaced them is itself superseded. Two quanta that made one dataset conflict
even if the bytes are equal: a row can name only one of them. What was there before any merge
stands for an equal dataset that an attempt brings. Policies and decisions change who is first
(`conflict_choice`).
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from psycopg import Cursor

from merger import conflict_statements as statements
from merger.collation import dataset_tables
from merger.conflict_choice import choose, claims_of, refuse
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.conflict_records import (
    ConflictCounts,
    ConflictSide,
    ConflictsRefusedError,
    Decision,
    checksums_of,
    policy_decision,
    read_decisions,
    replace_conflicts,
)
from merger.copy_format import CopyRows
from registry.delta import Delta
from registry.typed_json import canonical

_PART = 5000


class _NoRecord:
    """The datastore record of a dataset that was not kept."""

    object_key = size_bytes = checksum = storage_class = None


_NO_RECORD = _NoRecord()


@dataclass(frozen=True)
class Side:
    """A dataset with its datastore record, if it was kept; ``data_id`` is canonical JSON."""

    dataset_id: str
    run: str
    dataset_type: str
    data_id: str
    quantum_id: str | None
    attempt_id: str | None
    object_key: str | None
    size_bytes: int | None
    checksum: str | None
    storage_class: str | None

    def __hash__(self) -> int:
        return hash((self.dataset_id, self.attempt_id))

    @cached_property
    def keys(self) -> tuple[str, str]:
        """The two keys that it claims, as canonical JSON."""
        natural = {"run": self.run, "dataset_type": self.dataset_type}
        return (
            canonical({"dataset_id": self.dataset_id}),
            canonical(natural | {"data_id": json.loads(self.data_id)}),
        )

    @cached_property
    def content(self) -> str:
        """The side as ``merge_conflict`` holds it: all but the attempt, as JSON."""
        fields = self.columns() | {"data_id": json.loads(self.data_id)}
        del fields["attempt_id"]
        return canonical(fields)

    def columns(self) -> dict[str, Any]:
        """Return the columns of its two rows."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def is_same_dataset(self, other: "Side") -> bool:
        """Tell whether both are one dataset with the same bytes, wherever these lie."""
        return (self.keys, self.size_bytes, self.checksum) == (
            other.keys,
            other.size_bytes,
            other.checksum,
        )

    def differences(self, other: "Side") -> tuple[str, str]:
        """Return the fields in which another side differs, here and there."""
        mine, theirs = self.columns(), other.columns()
        names = [name for name in mine if mine[name] != theirs[name]]
        return (
            ", ".join(f"{name}={mine[name]}" for name in names),
            ", ".join(f"{name}={theirs[name]}" for name in names),
        )


def sides_of(deltas: Iterable[Delta]) -> list[Side]:
    """Return the sides that attempts bring which count for their quanta."""
    sides = []
    for delta in deltas:
        records = {record.dataset_id: record for record in delta.rows.datastore_record}
        for row in delta.rows.dataset:
            # Read deltas have been checked: without a record it is one that was not kept.
            record = records.get(row.dataset_id, _NO_RECORD)
            sides.append(
                Side(
                    *(row.dataset_id, delta.run, row.dataset_type, canonical(row.data_id)),
                    *(delta.quantum_id, delta.attempt_id, record.object_key),
                    *(record.size_bytes, record.checksum, record.storage_class),
                )
            )
    return sides


def settle_datasets(
    cursor: Cursor,
    brought: Sequence[Side],
    retired: Collection[str],
    made: Sequence[str],
    policies: ConflictPolicies = DEFER_ALL,
) -> ConflictCounts:
    """Bring new sides in and take those of superseded attempts out, in a transaction alone.

    Parameters
    ----------
    brought
        Sides of the attempts that count now, if anything else claims a key of theirs.
    retired
        Attempts that no longer count.
    made
        Ids of all datasets that the quanta of ``retired`` can have made.
    policies
        For keys that nobody has decided about.

    Returns
    -------
    ConflictCounts
        Conflicts that were not recorded before.

    Raises
    ------
    ConflictsRefusedError
        If attempts conflict where the policy is ``fail``; nothing may be committed then.
    """
    return _settle(cursor, brought, _sides_retired(cursor, retired, made), retired, policies)


def settle_keys(cursor: Cursor, keys: Sequence[str]) -> None:
    """Settle recorded conflicts anew, after decisions about them changed, in a transaction alone.

    Raises nothing; a key without a conflict is passed over.
    """
    for some in _in_parts(keys):
        cursor.execute(statements.READ_SIDES_OF_KEYS, (json.dumps(some),))
        found = {_from_conflict(*row) for row in cursor.fetchall()}
        _settle(cursor, [], found, (), DEFER_ALL)


def retire_sides(cursor: Cursor, retired: Collection[str]) -> int:
    """Take the sides of attempts out of recorded conflicts, in a transaction alone.

    Who had lost against them comes back.

    Returns
    -------
    int
        Number of datasets that these attempts had in the table.
    """
    n_datasets = 0
    for some in _in_parts(sorted(retired)):
        cursor.execute(statements.READ_CONFLICT_SIDES_OF, (some,))
        rows = cursor.fetchall()
        gone = {_from_conflict(*row[:2]) for row in rows}
        n_datasets += len({row[0]["dataset_id"] for row in rows if row[2]})
        _settle(cursor, [], gone, retired, DEFER_ALL)
    return n_datasets


def _in_parts(ordered: Sequence[str]) -> Iterator[list[str]]:
    """Divide what may be too much to be held in memory with its sides."""
    for start in range(0, len(ordered), _PART):
        yield list(ordered[start : start + _PART])


def _settle(
    cursor: Cursor,
    brought: Sequence[Side],
    others: set[Side],
    retired: Collection[str],
    policies: ConflictPolicies,
) -> ConflictCounts:
    """Settle all that has to do with some sides; ``others`` need not be sides any more."""
    in_table, recorded = _sides_around(cursor, [*brought, *others])
    all_sides = {*brought, *in_table, *recorded}
    standing = {s for s in all_sides if s.attempt_id not in retired}
    sides = _without_repeated(standing - _imported_before(brought, standing))
    claims = claims_of(sides)
    on_record = read_decisions(cursor, "dataset", claims)
    if policies.may_fail:
        new = sides.intersection(brought) - in_table - recorded
        if refusals := refuse(new, sides - new, on_record, policies):
            raise ConflictsRefusedError(refusals)
    decisions = _by_policy(claims, policies) | on_record
    kept = choose(claims, decisions, _checksums(cursor, sides, decisions))
    cursor.execute(statements.DELETE_DATASETS, ([side.dataset_id for side in in_table - kept],))
    _insert_sides(cursor, kept - in_table)
    counts = replace_conflicts(
        cursor,
        "dataset",
        {key for side in {*all_sides, *others} for key in side.keys},
        [
            ConflictSide(key, side.content, side.attempt_id, side in kept)
            for key, claimants in claims.items()
            if len(claimants) > 1
            for side in claimants
        ],
        decisions,
    )
    counts.rows["dataset"] = len(kept) - len(in_table)
    n_gone = sum(side.object_key is not None for side in in_table - kept)
    n_come = sum(side.object_key is not None for side in kept - in_table)
    counts.rows["datastore_record"] = n_come - n_gone
    return counts


def _imported_before(brought: Sequence[Side], sides: set[Side]) -> set[Side]:
    """Sides from private registries of attempts whose deltas say that the dataset was not kept.

    A job of several quanta decides that at its end, when these registries have been written.
    """
    not_kept = {(s.dataset_id, s.attempt_id) for s in brought if s.object_key is None}
    return {
        side
        for side in sides
        if side.object_key is not None and (side.dataset_id, side.attempt_id) in not_kept
    }


def _without_repeated(sides: set[Side]) -> set[Side]:
    """Leave out what an attempt brought and was there before any merge, with the same bytes."""
    before = {(s.keys, s.size_bytes, s.checksum) for s in sides if s.attempt_id is None}
    return {
        side
        for side in sides
        if side.attempt_id is None or (side.keys, side.size_bytes, side.checksum) not in before
    }


def _by_policy(
    claims: Mapping[str, Collection[Side]], policies: ConflictPolicies
) -> dict[str, Decision]:
    decisions = {
        key: policy_decision(policies.of_datasets({side.dataset_type for side in claimants}))
        for key, claimants in claims.items()
        if len(claimants) > 1
    }
    return {key: decision for key, decision in decisions.items() if decision is not None}


def _checksums(
    cursor: Cursor, sides: Collection[Side], decisions: Mapping[str, Decision]
) -> dict[Side, str]:
    if not any(decision.kind == "chosen" for decision in decisions.values()):
        return {}
    ordered = list(sides)
    contents = [side.content for side in ordered]
    return dict(zip(ordered, checksums_of(cursor, contents), strict=True))


def _sides_retired(cursor: Cursor, retired: Collection[str], made: Sequence[str]) -> set[Side]:
    if not retired:
        return set()
    claimed = json.dumps([{"dataset_id": dataset_id} for dataset_id in made])
    cursor.execute(statements.READ_DATASET_SIDES, {"claimed": claimed})
    gone = {side for side in map(side_from_row, cursor.fetchall()) if side.attempt_id in retired}
    cursor.execute(statements.READ_CONFLICT_SIDES_OF, (list(retired),))
    return gone | {_from_conflict(*row[:2]) for row in cursor.fetchall()}


def _sides_around(cursor: Cursor, sides: Iterable[Side]) -> tuple[set[Side], set[Side]]:
    """Find all sides, in the table and in recorded conflicts, that these have to do with."""
    in_table: set[Side] = set()
    recorded: set[Side] = set()
    new = set(sides)
    known = set(new)
    while new:
        # The content has all columns of both keys.
        keys = {"claimed": f"[{','.join(side.content for side in new)}]"}
        rows = cursor.execute(statements.READ_DATASET_SIDES, keys).fetchall()
        found_in_table = {side_from_row(row) for row in rows}
        rows = cursor.execute(statements.READ_CONFLICT_SIDES, keys).fetchall()
        found_recorded = {_from_conflict(*row) for row in rows}
        in_table |= found_in_table
        recorded |= found_recorded
        new = (found_in_table | found_recorded) - known
        known |= new
    return in_table, recorded


def side_from_row(row: tuple[object, ...]) -> Side:
    """Return the side that a row of the statements above is."""
    side = Side(*row)  # type: ignore[arg-type]
    return dataclasses.replace(side, data_id=canonical(json.loads(side.data_id)))


def _from_conflict(content: dict[str, object], attempt_id: str | None) -> Side:
    fields = content | {"data_id": canonical(content["data_id"]), "attempt_id": attempt_id}
    return Side(**fields)  # type: ignore[arg-type]


def _insert_sides(cursor: Cursor, sides: Iterable[Side]) -> None:
    ordered = sorted(sides, key=lambda side: side.dataset_id)
    has_record = [side for side in ordered if side.object_key is not None]
    for name, of_table in (("dataset", ordered), ("datastore_record", has_record)):
        if of_table:
            table = dataset_tables([side.columns() for side in of_table])[name]
            CopyRows.encode(table).copy_into(cursor, name)
