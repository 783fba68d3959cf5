# SPDX-License-Identifier: BSD-3-Clause
"""Dimension records: attempts may agree on one, and must not silently disagree.

Of several contents of one record the one with the greatest JSON text (by bytes) stays, whoever
brought it and whenever, unless a policy or a person decided otherwise. ``keep`` prefers what a
graph or somebody outside brought, then the oldest attempt; ``replace`` the newest attempt.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import Cursor

from merger import conflict_statements, statements
from merger.conflict_policy import DEFER_ALL, ConflictPolicies, Policy
from merger.conflict_records import (
    ConflictCounts,
    ConflictSide,
    ConflictsRefusedError,
    Decision,
    NeedsCareError,
    Refusal,
    policy_decision,
    read_decisions,
    replace_conflicts,
)
from merger.copy_format import CopyRows
from registry.typed_json import canonical

Contended = Sequence[tuple[str, str]]
"""Dimension and data ID (JSON text) of records."""


@dataclass(frozen=True, slots=True)
class _Side:
    """One content of a record; texts are JSON."""

    dimension: str
    data_id: str
    record: str
    first_attempt: str | None
    last_attempt: str | None
    is_of_graph: bool
    checksums: list[str]
    """Of the content in all texts in which it was brought."""

    @property
    def key(self) -> str:
        return canonical({"dimension": self.dimension, "data_id": json.loads(self.data_id)})

    @property
    def content(self) -> str:
        # Spliced, not parsed: a float would lose digits that PostgreSQL keeps.
        return (
            f'{{"dimension":{canonical(self.dimension)},"data_id":{self.data_id},'
            f'"record":{self.record}}}'
        )

    def rank(self, decision: Decision | None) -> tuple[bool, bool, int, bytes]:
        """Higher is better; the text makes the order total."""
        kind = decision.kind if decision else None
        is_chosen = decision is not None and decision.content_checksum in self.checksums
        is_from_before = self.is_of_graph or self.first_attempt is None
        text = self.record.encode()
        if kind == Policy.KEEP:
            return is_chosen, is_from_before, -_number(self.first_attempt), text
        if kind == Policy.REPLACE:
            return is_chosen, self.last_attempt is not None, _number(self.last_attempt), text
        return is_chosen, False, 0, text


def _number(attempt_id: str | None) -> int:
    return 0 if attempt_id is None else int(attempt_id.replace("-", ""), 16)


def insert_dimensions(
    cursor: Cursor, rows: CopyRows, *, careful: bool, policies: ConflictPolicies = DEFER_ALL
) -> ConflictCounts:
    """Ensure the dimension records of a batch and note who brought them.

    Parameters
    ----------
    rows
        Each with the attempt or graph that brought it; without one it comes from outside.

    Returns
    -------
    ConflictCounts
        Conflicts that were not recorded before.

    Raises
    ------
    NeedsCareError
        On the plain way, if a record is there with other content.
    ConflictsRefusedError
        If attempts conflict where the policy is ``fail``; nothing may be committed then.
    """
    if rows.n_rows == 0:
        return ConflictCounts()
    cursor.execute(statements.STAGE_DIMENSIONS)
    rows.copy_into(cursor, "staged_dimension")
    if careful and policies.may_fail:
        _refuse(cursor, policies)
    counts = ConflictCounts()
    counts.rows["dimension_source"] = cursor.execute(statements.INSERT_DIMENSION_SOURCES).rowcount
    counts.rows["dimension_record"] = cursor.execute(statements.INSERT_DIMENSIONS).rowcount
    if contended := cursor.execute(statements.READ_CONTENDED_DIMENSIONS).fetchall():
        if not careful:
            raise NeedsCareError
        statement = conflict_statements.READ_STAGED_DIMENSION_SIDES
        counts.add(_settle(cursor, statement, contended, policies))
    return counts


def settle_dimensions(cursor: Cursor, contended: Contended) -> None:
    """Settle records anew, after sides or decisions changed, in a transaction alone."""
    _settle(cursor, conflict_statements.READ_DIMENSION_SIDES, contended, DEFER_ALL)


def _settle(
    cursor: Cursor, statement: str, contended: Contended, policies: ConflictPolicies
) -> ConflictCounts:
    if not contended:
        return ConflictCounts()
    dimensions, data_ids = map(list, zip(*contended, strict=True))
    cursor.execute(statement.encode(), {"dimensions": dimensions, "data_ids": data_ids})
    keys = {_key(*one) for one in contended}
    found = sorted((_Side(*row) for row in cursor.fetchall()), key=lambda s: (s.key, s.record))
    by_key = {key: list(group) for key, group in itertools.groupby(found, key=lambda s: s.key)}
    on_record = read_decisions(cursor, "dimension_record", by_key)
    decisions, kept, sides = {}, [], []
    for key, claimants in by_key.items():
        decision = on_record.get(key) or policy_decision(
            policies.of_dimension(claimants[0].dimension)
        )
        if decision is not None:
            decisions[key] = decision
        best = max(claimants, key=lambda side: side.rank(decision))
        kept.append(best)
        if len(claimants) > 1:
            sides += [
                ConflictSide(key, side.content, side.first_attempt, side is best)
                for side in claimants
            ]
    cursor.execute(
        conflict_statements.ENSURE_DIMENSIONS,
        {
            "dimensions": [side.dimension for side in kept],
            "data_ids": [side.data_id for side in kept],
            "records": [side.record for side in kept],
        },
    )
    return replace_conflicts(cursor, "dimension_record", keys, sides, decisions)


def _refuse(cursor: Cursor, policies: ConflictPolicies) -> None:
    """Refuse attempts whose records differ from what is there or from those of older ones."""
    cursor.execute(conflict_statements.READ_DIFFERING_DIMENSIONS)
    rows = [row for row in cursor.fetchall() if policies.of_dimension(row[0]) is Policy.FAIL]
    decided = read_decisions(cursor, "dimension_record", {_key(*row[:2]) for row in rows})
    holders: dict[str, tuple[object, str]] = {}
    refusals = []
    for attempt_id, of_attempt in itertools.groupby(rows, key=lambda row: row[2]):
        brought = {}
        clash = None
        for dimension, data_id, _, record, there in of_attempt:
            key = _key(dimension, data_id)
            holder = holders.get(key) or (there and ("the central registry", json.loads(there)))
            if holder and holder[1] != json.loads(record) and key not in decided:
                clash = clash or (key, record, *holder)
            brought[key] = (f"attempt {attempt_id!r}", json.loads(record))
        if clash is None or attempt_id is None:
            holders |= brought
        else:
            refusals.append(_refusal(attempt_id, *clash))
    if refusals:
        raise ConflictsRefusedError(refusals)


def key_parts(conflict_key: str) -> tuple[str, str]:
    """Return dimension and data ID (JSON text) of a recorded conflict."""
    parts = json.loads(conflict_key)
    return parts["dimension"], canonical(parts["data_id"])


def _key(dimension: str, data_id: str) -> str:
    return canonical({"dimension": dimension, "data_id": json.loads(data_id)})


def _refusal(attempt_id: str, key: str, record: str, holder: str, held: object) -> Refusal:
    return Refusal(
        attempt_id,
        f"attempt {attempt_id!r} left unmerged: policy 'fail', and it has {record} for {key}, "
        f"{holder} has {canonical(held)}; settle it with another policy, or forget one of the two",
    )
