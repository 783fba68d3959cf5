# SPDX-License-Identifier: BSD-3-Clause
"""The quarantine: bad deltas of a RUN with their reasons, looked at again by every merge.

But for those that a person has given up (*dropped*): they stay on record and are never read.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from psycopg import Cursor

from merger import quarantine_statements as statements
from merger.central_registry import CentralRegistry
from merger.delta_checks import BadDelta
from merger.packed_ids import PackedIds, pack_ids
from registry import names


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A bad delta on record."""

    key: str
    run: str
    reason: str
    message: str
    dropped: bool


def list_quarantine(registry: CentralRegistry, run: str | None = None) -> list[Quarantined]:
    """Return what is in the quarantine, of one RUN or of all, ordered by key."""

    def read(cursor: Cursor) -> list[Quarantined]:
        rows = cursor.execute(statements.LIST_QUARANTINE, {"run": run}).fetchall()
        return [Quarantined(*row) for row in rows]

    return registry.read_snapshot(read)


def release(cursor: Cursor, run: str, keys: Iterable[str]) -> int:
    """Let deltas that became good leave the quarantine, in the transaction that merges them.

    Returns how many left it.
    """
    # Most RUNs have none in it, and many keys take long to send.
    if cursor.execute(statements.HAS_QUARANTINE, (run,)).fetchone() == (True,):
        return cursor.execute(statements.DELETE_QUARANTINE, (list(keys),)).rowcount
    return 0


def attempts_of(run: str, keys: Iterable[str]) -> PackedIds:
    """Return the attempts that keys of deltas name; those that name none are left out."""
    merged_as = (_merged_as(run, key) for key in keys)
    return pack_ids(sorted(attempt_id for _, attempt_id in merged_as if attempt_id))


def renew_quarantine(
    registry: CentralRegistry, run: str, before: Collection[str], bad: Sequence[BadDelta]
) -> int:
    """Write the bad deltas that a merge found, and forget those that it no longer found.

    Returns how many more there are now.

    Nothing is written, and nobody kept waiting, if all of it is on record.

    Parameters
    ----------
    before
        Keys that were in the quarantine before the deltas were listed, and that were looked at
        again; others are not ours to judge.
    """
    if not bad and not before:
        return 0
    on_record = {(q.key, q.reason, q.message): q for q in list_quarantine(registry, run)}
    new = {b.key: b for b in bad if (b.key, b.reason, _text(b)) not in on_record}
    gone = sorted(set(before) - {found.key for found in bad})
    if not new and not gone:
        return 0

    rows = json.dumps([_row(run, found) for found in new.values()])

    def write(cursor: Cursor) -> int:
        ((n_before,),) = cursor.execute(statements.COUNT_QUARANTINE, (run,)).fetchall()
        cursor.execute(statements.DELETE_QUARANTINE, (gone,))
        cursor.execute(statements.INSERT_QUARANTINE, {"run": run, "bad": rows})
        ((n_after,),) = cursor.execute(statements.COUNT_QUARANTINE, (run,)).fetchall()
        return int(n_after - n_before)

    # Alone: another merger that knows more graphs may be merging one of these just now.
    return registry.transact(write, alone=True)


def set_dropped(
    registry: CentralRegistry, run: str, keys: Collection[str], *, dropped: bool
) -> int:
    """Give deltas up, or take that back; returns how many it changed."""
    ordered = sorted(keys)

    def write(cursor: Cursor) -> int:
        return cursor.execute(statements.SET_DROPPED, (dropped, run, ordered, dropped)).rowcount

    return registry.transact(write)


def _row(run: str, found: BadDelta) -> dict[str, str | None]:
    quantum_id, attempt_id = _merged_as(run, found.key)
    told = {"delta_key": found.key, "reason": found.reason, "message": _text(found)}
    return told | {"quantum_id": quantum_id, "attempt_id": attempt_id}


def _text(found: BadDelta) -> str:
    # PostgreSQL takes no NUL in text, and a message may quote the delta.
    return found.message.replace("\0", "\\0")


def _merged_as(run: str, key: str) -> tuple[str, str] | tuple[None, None]:
    """Return quantum and attempt of the ledger row that a key has once it is merged.

    The key of a copy names an attempt, too, and stays in the quarantine whatever is merged.
    """
    named = names.parse_delta_key(key)
    return named if named and key == names.delta_key(run, *named) else (None, None)
