# SPDX-License-Identifier: BSD-3-Clause
"""The central registry: its connection, its transactions, and what is worth another try."""

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import psycopg
from psycopg import Connection, Cursor, IsolationLevel

from merger import schema, statements
from merger.database_address import DatabaseAddress, connect
from registry.errors import QuantumExecError

T = TypeVar("T")

_TRIES = 9
_LONGEST_PAUSE_S = 8.0
_RETRIED = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "25P03",  # idle_in_transaction_session_timeout
    }
)


class CentralRegistryError(QuantumExecError):
    """The central registry cannot be reached, or refuses what was asked."""

    error_type = "central_registry"


class CentralRegistry:
    """One connection to PostgreSQL, opened when first needed and again when it is lost.

    Nothing outlives a transaction (settings, temporary tables, locks), so that a pooler in
    transaction mode may stand between.
    """

    def __init__(self, address: str | DatabaseAddress) -> None:
        self._address = address
        self._connection: Connection | None = None
        self._was_connected = False

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

    def transact(self, work: Callable[[Cursor], T], *, alone: bool = False) -> T:
        """Run one transaction of a merge, again from its start if that may help.

        Parameters
        ----------
        work
            Is called with a cursor, once per try; what it returns is returned after the COMMIT.
            It must find out by itself what is left to do: a connection may be lost during the
            COMMIT of a try that did succeed.
        alone
            Wait until no other transaction of a merge runs, and let none begin.

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
            cursor.execute(statements.BEGIN_ALONE if alone else statements.BEGIN_SHARED)
            schema.check_version(cursor)
            return work(cursor)

        return self._again(locked)

    def read_snapshot(self, work: Callable[[Cursor], T]) -> T:
        """Read in one transaction that sees one state of the registry; raises as `transact`."""

        def reading(cursor: Cursor) -> T:
            cursor.execute(statements.BEGIN_SNAPSHOT)
            schema.check_version(cursor)
            return work(cursor)

        return self._again(reading)

    def _again(self, work: Callable[[Cursor], T]) -> T:
        for n_try in range(1, _TRIES + 1):
            try:
                connection = self._connect()
                with connection.transaction(), connection.cursor() as cursor:
                    return work(cursor)
            except psycopg.Error as error:
                if not self._is_worth_a_try(error):
                    raise
                if n_try == _TRIES or not self._was_connected:
                    tries = f" (tried {n_try} times)" if n_try > 1 else ""
                    raise CentralRegistryError(
                        f"central registry: {describe(error)}{tries}"
                    ) from error
            time.sleep(min(0.05 * 2**n_try, _LONGEST_PAUSE_S) * random.uniform(0.5, 1))
        raise AssertionError("the loop returns or raises")

    def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed:
            # Poolers in transaction mode know no prepared statements of a session.
            self._connection = connect(
                self._address, autocommit=True, prepare_threshold=None, client_encoding="UTF8"
            )
            self._connection.isolation_level = IsolationLevel.READ_COMMITTED
            self._was_connected = True
        return self._connection

    def _is_worth_a_try(self, error: psycopg.Error) -> bool:
        if error.sqlstate is not None:
            return error.sqlstate in _RETRIED or error.sqlstate.startswith("08")
        return self._connection is None or self._connection.closed


def describe(error: psycopg.Error) -> str:
    """Return what PostgreSQL said, without the lines that depend on how rows were grouped."""
    return error.diag.message_primary or str(error).strip()
