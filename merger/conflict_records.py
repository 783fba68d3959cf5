# SPDX-License-Identifier: BSD-3-Clause
"""Tables ``merge_conflict`` and ``conflict_decision``: sides, and what was decided about them.

Both are always as the content has it: the sides of a key are there while several claim it, and
a decision that a policy made goes with the conflict. A person's decision stays, and holds again
if the conflict comes back.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from psycopg import Cursor

from merger import conflict_statements as statements
from merger.conflict_policy import Policy


class NeedsCareError(Exception):
    """The batch meets rows that other attempts brought, and must go the careful way.

    Raised to roll back the plain way; never leaves the package.
    """


@dataclass(frozen=True, slots=True)
class Refusal:
    """An attempt whose rows conflict where the policy is ``fail``; the message names both sides.

    ``attempt_id`` is None for a dataset that is registered from outside; then ``dataset_id`` says
    which one.
    """

    attempt_id: str | None
    message: str
    dataset_id: str | None = None


class ConflictsRefusedError(Exception):
    """Some attempts must be left unmerged; raised to roll back, never leaves the package."""

    def __init__(self, refusals: list[Refusal]) -> None:
        super().__init__("; ".join(refusal.message for refusal in refusals))
        self.refusals = refusals


@dataclass(frozen=True, slots=True)
class ConflictSide:
    """One row of ``merge_conflict`` without its table."""

    conflict_key: str
    content: str
    attempt_id: str | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of ``conflict_decision`` without its key."""

    kind: str
    content_checksum: str | None = None
    by_policy: bool = False


@dataclass(slots=True)
class ConflictCounts:
    """Keys with a side that was not recorded before: left to a person, and decided.

    ``rows`` is what the tables gained with that, by table; negative for what they lost.
    """

    n_open: int = 0
    n_settled: int = 0
    rows: Counter[str] = field(default_factory=Counter)

    def add(self, other: "ConflictCounts") -> None:
        """Add other counts."""
        self.n_open += other.n_open
        self.n_settled += other.n_settled
        self.rows.update(other.rows)


def read_decisions(cursor: Cursor, table_name: str, keys: Iterable[str]) -> dict[str, Decision]:
    """Return what is on record about these keys."""
    cursor.execute(statements.READ_DECISIONS, (table_name, json.dumps(list(keys))))
    return {key: Decision(*row) for key, *row in cursor.fetchall()}


def policy_decision(policy: Policy) -> Decision | None:
    """Return the decision that a policy makes; None if it leaves that to a person."""
    settles = policy in (Policy.KEEP, Policy.REPLACE)
    return Decision(policy.value, by_policy=True) if settles else None


def checksums_of(cursor: Cursor, contents: list[str]) -> list[str]:
    """Return the checksums of contents as ``merge_conflict`` has them."""
    cursor.execute(statements.READ_CHECKSUMS, (f"[{','.join(contents)}]",))
    return [checksum for (checksum,) in cursor.fetchall()]


def replace_conflicts(
    cursor: Cursor,
    table_name: str,
    keys: Iterable[str],
    sides: Iterable[ConflictSide],
    decisions: Mapping[str, Decision],
) -> ConflictCounts:
    """Make the rows about these keys what they have to be now.

    Parameters
    ----------
    decisions
        About these keys, on record or by policy; those by policy are recorded.
    """
    touched = list(keys)
    cursor.execute(statements.DELETE_CONFLICTS, (table_name, json.dumps(touched)))
    before = set(cursor.fetchall())
    after = _insert_sides(cursor, table_name, list(sides))
    in_conflict = {key for key, _ in after}
    lapsed = [key for key in touched if key not in in_conflict]
    cursor.execute(statements.DELETE_LAPSED_DECISIONS, (table_name, json.dumps(lapsed)))
    n_lapsed = cursor.rowcount
    made = {key: decisions[key].kind for key in in_conflict if _is_by_policy(decisions.get(key))}
    wanted = {"table_name": table_name, "kinds": json.dumps(made)}
    n_made = cursor.execute(statements.INSERT_DECISIONS, wanted).rowcount
    settled = {key for key in in_conflict & decisions.keys() if decisions[key].kind != "chosen"}
    settled |= {
        key
        for key, checksum in after
        if key in decisions and decisions[key].content_checksum == checksum
    }
    new = {key for key, _ in after - before}
    rows = {"merge_conflict": len(after) - len(before), "conflict_decision": n_made - n_lapsed}
    return ConflictCounts(len(new - settled), len(new & settled), Counter(rows))


def _is_by_policy(decision: Decision | None) -> bool:
    return decision is not None and decision.by_policy


def _insert_sides(
    cursor: Cursor, table_name: str, sides: list[ConflictSide]
) -> set[tuple[str, str]]:
    # Contents are JSON already, and stay the text that they are.
    rows = ",".join(
        f'{{"conflict_key":{json.dumps(side.conflict_key)},"content":{side.content},'
        f'"attempt_id":{json.dumps(side.attempt_id)},"kept":{json.dumps(side.kept)}}}'
        for side in sides
    )
    wanted = {"table_name": table_name, "sides": f"[{rows}]"}
    cursor.execute(statements.INSERT_CONFLICTS, wanted)
    return set(cursor.fetchall())
