# SPDX-License-Identifier: BSD-3-Clause
"""The quarantine: bad deltas of a RUN with their reasons, looked at again by every merge."""

from collections.abc import Sequence

from psycopg import Cursor

from merger import statements
from merger.central_registry import CentralRegistry
from merger.delta_checks import BadDelta
from registry import names


def read_quarantine(registry: CentralRegistry, run: str) -> frozenset[str]:
    """Return the keys of the deltas of a RUN that are in the quarantine."""

    def read(cursor: Cursor) -> frozenset[str]:
        return frozenset(
            key for (key,) in cursor.execute(statements.READ_QUARANTINE, (run,)).fetchall()
        )

    return registry.transact(read)


def renew_quarantine(
    registry: CentralRegistry, run: str, before: frozenset[str], bad: Sequence[BadDelta]
) -> None:
    """Write the bad deltas that a merge found, and forget those that it no longer found.

    Parameters
    ----------
    before
        Keys that were in the quarantine before the deltas were listed; later ones are not ours
        to judge.
    """
    if not bad and not before:
        return

    def write(cursor: Cursor) -> None:
        cursor.execute(
            statements.DELETE_QUARANTINE, (sorted(before - {found.key for found in bad}),)
        )
        for found in bad:
            quantum_id, attempt_id = _merged_as(run, found.key)
            cursor.execute(
                statements.INSERT_QUARANTINE,
                {
                    "delta_key": found.key,
                    "run": run,
                    "reason": found.reason,
                    # PostgreSQL takes no NUL in text, and a message may quote the delta.
                    "message": found.message.replace("\0", "\\0"),
                    "quantum_id": quantum_id,
                    "attempt_id": attempt_id,
                },
            )

    # Alone: another merger that knows more graphs may be merging one of these just now.
    registry.transact(write, alone=True)


def _merged_as(run: str, key: str) -> tuple[str, str] | tuple[None, None]:
    """Return quantum and attempt of the ledger row that a key has once it is merged.

    The key of a copy names an attempt, too, and stays in the quarantine whatever is merged.
    """
    named = names.parse_delta_key(key)
    return named if named and key == names.delta_key(run, *named) else (None, None)
