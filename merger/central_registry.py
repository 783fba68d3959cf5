# SPDX-License-Identifier: BSD-3-Clause
"""The central registry: its connection, its transactions, and how long they are tried."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import psycopg
from psycopg import Connection, Cursor, IsolationLevel

from merger import schema, statements
from merger.database_address import DatabaseAddress, connect
from merger.database_errors import (
    describe,
    is_cancelled,
    is_lock_timeout,
    is_server_busy,
    passes_by_itself,
)
from registry.errors import QuantumExecError

__all__ = ["CentralRegistry", "CentralRegistryError", "Timeouts", "describe"]

T = TypeVar("T")

_LONGEST_PAUSE_S = 8.0
_TOLD_AFTER_S = 5.0

# A merger that was stopped (SIGSTOP) for longer than it is patient has still some tries.
_TRIES = 3

# Who is told to stop still gets over a deadlock, but not over an outage.
_PATIENCE_STOPPED_S = 3.0
_PAUSE_STOPPED_S = 0.3


class CentralRegistryError(QuantumExecError):
    """The central registry cannot be reached, or refuses what was asked."""

    error_type = "central_registry"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a merger waits for others, and how long it may keep them waiting; in seconds.

    Attributes
    ----------
    lock_s
        For a lock, before the transaction is begun anew.
    idle_s
        Between two statements of a transaction, until the server ends it.
    statement_s
        For one statement. The server ends it, but for a COPY whose client sends nothing: that is
        ended by the next merger that waits for a lock.
    check_s
        Until the server notices that the client it works for is gone.
    patience_s
        For a connection slot, or for a transaction that others disturb.
    outage_s
        For a server that was there and went away.
    """

    lock_s: float = 60
    idle_s: float = 120
    statement_s: float = 300
    check_s: float = 5
    patience_s: float = 600
    outage_s: float = 300


class CentralRegistry:
    """One connection to PostgreSQL, opened when first needed and again when it is lost.

    Nothing outlives a transaction (settings, temporary tables, locks), so that a pooler in
    transaction mode may stand between.

    Parameters
    ----------
    address
        A connection string, or what makes connections.
    on_wait
        Is told in one line, once per transaction, if it has waited for some seconds.
    """

    def __init__(
        self,
        address: str | DatabaseAddress,
        *,
        timeouts: Timeouts | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self._address = address
        self._timeouts = timeouts or Timeouts()
        self._on_wait = on_wait
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._was_there = False

    def __enter__(self) -> "CentralRegistry":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def sibling(self) -> "CentralRegistry":
        """Return the same registry with a connection of its own."""
        made = CentralRegistry(self._address, timeouts=self._timeouts, on_wait=self._on_wait)
        made._was_there = self._was_there
        made._stop = self._stop
        return made

    def stop(self) -> None:
        """Let no transaction be tried again, by siblings neither; may be called from anywhere."""
        self._stop.set()

    def transact(
        self, work: Callable[[Cursor], T], *, alone: bool = False, once: bool = False
    ) -> T:
        """Run one transaction of a merge, again from its start if that may help.

        Parameters
        ----------
        work
            Is called with a cursor, once per try; what it returns is returned after the COMMIT,
            even if the answer to that was lost. Who cannot be told (the server has forgotten) is
            called again, and must find out by itself what is left to do.
        alone
            Wait until no other transaction of a merge runs, and let none begin.
        once
            Do not try again.

        Raises
        ------
        schema.SchemaVersionError
            If the tables are not there or of another version.
        CentralRegistryError
            If there is no connection, or it is lost again and again.
        psycopg.Error
            Everything that another try would not change.
        """

        def locked(cursor: Cursor) -> T:
            self._begin(cursor)
            cursor.execute(statements.LOCK_ALONE if alone else statements.LOCK_SHARED)
            schema.check_version(cursor)
            return work(cursor)

        return self._again(locked, once=once)

    def read_snapshot(self, work: Callable[[Cursor], T]) -> T:
        """Read in one transaction that sees one state of the registry; raises as `transact`."""

        def reading(cursor: Cursor) -> T:
            cursor.execute(statements.BEGIN_SNAPSHOT)
            schema.check_version(cursor)
            return work(cursor)

        return self._again(reading)

    def _begin(self, cursor: Cursor) -> None:
        limits = self._timeouts
        seconds = (limits.lock_s, limits.idle_s, limits.statement_s, limits.check_s)
        cursor.execute(statements.BEGIN, [f"{int(1000 * limit)}ms" for limit in seconds])

    def _again(self, work: Callable[[Cursor], T], *, once: bool = False) -> T:
        tries = _Tries(self._on_wait, self._stop, once=once)
        in_doubt: tuple[str | None, T] | None = None
        while True:
            began = time.monotonic()
            try:
                connection = self._connect()
                if in_doubt is not None and _is_committed(connection, in_doubt[0]):
                    return in_doubt[1]
                in_doubt = None
                with connection.transaction(), connection.cursor() as cursor:
                    result = work(cursor)
                    ((xid,),) = cursor.execute(statements.READ_TRANSACTION_ID).fetchall()
                    in_doubt = (xid, result)
                return result
            except psycopg.Error as error:
                if in_doubt is not None and in_doubt[0] is None:
                    # It has written nothing, so there was nothing to commit.
                    return in_doubt[1]
                patience_s = self._patience_s(error, time.monotonic() - began)
                if patience_s is None:
                    raise
                tries.give_up_after(patience_s, error)
                if is_lock_timeout(error):
                    self._end_stopped()
            tries.pause()

    def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = None
            # Poolers in transaction mode know no prepared statements of a session.
            self._connection = connect(
                self._address, autocommit=True, prepare_threshold=None, client_encoding="UTF8"
            )
            self._connection.isolation_level = IsolationLevel.READ_COMMITTED
            self._was_there = True
        return self._connection

    def _patience_s(self, error: psycopg.Error, tried_s: float) -> float | None:
        """Return how long to try in spite of an error; None if another try changes nothing."""
        limits = self._timeouts
        if is_cancelled(error):
            # A person may have cancelled it, too; then it is not run again.
            return limits.patience_s if tried_s >= limits.statement_s else None
        if error.sqlstate is not None and passes_by_itself(error):
            return limits.patience_s
        if self._connection is None:
            if is_server_busy(error):
                self._was_there = True
                return limits.patience_s
            return limits.outage_s if self._was_there else 0
        return limits.outage_s if self._connection.closed else None

    def _end_stopped(self) -> None:
        """End transactions of mergers that stopped in the middle of a COPY."""
        # No more than help for the next try, which tells if the registry is in trouble.
        with suppress(psycopg.Error):
            self._connect().execute(statements.END_STOPPED, (self._timeouts.statement_s,))


def _is_committed(connection: Connection, xid: str | None) -> bool:
    """Tell what became of a transaction whose COMMIT was sent and not answered.

    Raises
    ------
    psycopg.errors.LockNotAvailable
        If the server does not know yet; it holds what the transaction has locked.
    """
    try:
        (row,) = connection.execute(statements.READ_TRANSACTION_STATUS, (xid,)).fetchall()
    except psycopg.DataError:
        # Of a server that has not come so far: another one, or an older state of it.
        return False
    if row == ("in progress",):
        raise psycopg.errors.LockNotAvailable("whether a COMMIT succeeded is not known yet")
    return bool(row == ("committed",))


class _Tries:
    """How often and since when a transaction is tried."""

    def __init__(
        self, on_wait: Callable[[str], None] | None, stop: threading.Event, *, once: bool
    ) -> None:
        self._on_wait = on_wait
        self._stop = stop
        self._once = once
        self._since = time.monotonic()
        self._n_tries = 0
        self._why = ""

    def give_up_after(self, patience_s: float, error: psycopg.Error) -> None:
        """Count a try that failed.

        Raises
        ------
        CentralRegistryError
            If time is up.
        """
        self._n_tries += 1
        if self._n_tries == 1:
            self._since = time.monotonic()
        self._why = describe(error)
        waited_s, least = time.monotonic() - self._since, _TRIES
        if self._stop.is_set():
            patience_s, least = min(patience_s, _PATIENCE_STOPPED_S), 1
        is_up = waited_s >= patience_s and self._n_tries >= least
        if self._once or patience_s == 0 or is_up:
            times = f" (tried {self._n_tries} times in {waited_s:.0f} s)" * (self._n_tries > 1)
            raise CentralRegistryError(f"central registry: {self._why}{times}") from error

    def pause(self) -> None:
        """Wait before the next try; not in step with others that failed at the same moment."""
        if self._on_wait is not None and time.monotonic() - self._since > _TOLD_AFTER_S:
            self._on_wait(f"waits for the central registry: {' '.join(self._why.split())}")
            self._on_wait = None
        longest = min(0.05 * 2 ** min(self._n_tries, 10), _LONGEST_PAUSE_S)
        if self._stop.is_set():
            time.sleep(min(longest, _PAUSE_STOPPED_S))
        else:
            self._stop.wait(longest * random.uniform(0.3, 1))
