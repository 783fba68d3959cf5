# SPDX-License-Identifier: BSD-3-Clause
"""Table ``merge_conflict``: every side of every conflict, always as the whole content has it."""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import Cursor

from merger import conflict_statements


class NeedsCareError(Exception):
    """The batch meets rows that other attempts brought, and must go the careful way.

    Raised to roll back the plain way; never leaves the package.
    """


@dataclass(frozen=True, slots=True)
class ConflictSide:
    """One row of ``merge_conflict`` without its table."""

    conflict_key: str
    content: str
    attempt_id: str | None
    kept: bool


def replace_conflicts(
    cursor: Cursor, table_name: str, keys: Iterable[str], sides: Iterable[ConflictSide]
) -> int:
    """Make the rows about these keys what they have to be now.

    Returns
    -------
    int
        Number of keys with a side that was not recorded before.
    """
    cursor.execute(conflict_statements.DELETE_CONFLICTS, (table_name, list(keys)))
    before = set(cursor.fetchall())
    after = set()
    for side in sides:
        cursor.execute(
            conflict_statements.INSERT_CONFLICT,
            {
                "table_name": table_name,
                "conflict_key": side.conflict_key,
                "content": side.content,
                "attempt_id": side.attempt_id,
                "kept": side.kept,
            },
        )
        after.update(cursor.fetchall())
    return len({conflict_key for conflict_key, _ in after - before})
