# SPDX-License-Identifier: BSD-3-Clause
"""What errors of PostgreSQL and of poolers mean: which pass by themselves."""

import psycopg

_RETRIED = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53300",  # too_many_connections, from a pooler
        "55P03",  # lock_not_available
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "25P03",  # idle_in_transaction_session_timeout
    }
)

# A refused connection has no SQLSTATE, only text.
_BUSY = (
    "too many clients already",
    "remaining connection slots",
    "too many connections for",
    "starting up",
    "shutting down",
    "in recovery",
    "not accepting connections",
    "not yet accepting connections",
    "no more connections allowed",
    "query_wait_timeout",
    "server_login_retry",
    "max_db_connections",
    # It went away just now.
    "server closed the connection unexpectedly",
    "connection reset by peer",
    # The queue of a socket is full: many began at once.
    "resource temporarily unavailable",
)


def passes_by_itself(error: psycopg.Error) -> bool:
    """Tell whether the same transaction may succeed if it is simply run again."""
    state = error.sqlstate
    return state is not None and (state in _RETRIED or state.startswith("08"))


def is_server_busy(error: psycopg.Error) -> bool:
    """Tell whether a connection was refused by a server, or pooler, that will take one later."""
    text = str(error).lower()
    return any(words in text for words in _BUSY)


def is_lock_timeout(error: psycopg.Error) -> bool:
    """Tell whether a lock was not to be had in time."""
    return error.sqlstate == "55P03"


def is_cancelled(error: psycopg.Error) -> bool:
    """Tell whether a statement was cancelled: by its timeout, or by a person."""
    return error.sqlstate == "57014"


def describe(error: psycopg.Error) -> str:
    """Return what PostgreSQL said, without the lines that depend on how rows were grouped."""
    return error.diag.message_primary or str(error).strip()
