# SPDX-License-Identifier: BSD-3-Clause
"""Is this place fit for a merge? Checks of database, datastore and clocks, each by itself."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import psycopg
from psycopg import Connection

from merger import doctor_statements as statements
from merger.check import Check, Standing, judged
from merger.database_address import DatabaseAddress
from merger.doctor_database import DATABASE_CHECKS, connection_check
from merger.doctor_datastore import datastore_checks
from merger.exit_codes import ExitCode
from merger.failures import exit_code_of, message_of
from registry.errors import QuantumExecError
from transfer_plugins.object_store import ObjectStore

_FAR_S = 30.0
_TOO_FAR_S = 15 * 60.0


@dataclass(slots=True)
class Examination:
    """What the doctor found; ``failure`` is the exit code if something cannot even be reached."""

    checks: list[Check] = field(default_factory=list)
    failure: ExitCode | None = None

    @property
    def exit_code(self) -> ExitCode:
        """What a program acts on."""
        if self.failure is not None:
            return self.failure
        is_bad = any(check.standing is Standing.BAD for check in self.checks)
        return ExitCode.ADVICE if is_bad else ExitCode.OK


def examine(
    address: DatabaseAddress,
    store: ObjectStore | None = None,
    run: str | None = None,
    *,
    write: bool = False,
) -> Examination:
    """Look at everything; a thing that cannot be looked at is a line, not an end.

    Parameters
    ----------
    store, run
        The datastore, and the RUN to look for there; neither is needed.
    write
        Also put an object below the RUN's reserved prefix, and remove it.
    """
    found = Examination()
    ahead: dict[str, float] = {}
    _reached(found, "database", lambda: _examine_database(address, found, ahead))
    if store is not None:
        _reached(found, "datastore", lambda: _examine_datastore(store, run, write, found, ahead))
    found.checks += map(_clock_check, ahead.items())
    if len(ahead) == 2:
        apart = ahead["database"] - ahead["datastore"]
        found.checks.append(_clock_check(("database against datastore", apart)))
    # What is worst comes first.
    found.checks.sort(key=lambda check: list(Standing).index(check.standing), reverse=True)
    return found


def _reached(found: Examination, subject: str, look: Callable[[], None]) -> None:
    try:
        look()
    except (QuantumExecError, psycopg.Error) as error:
        remedy = f"{_remedy(error)}; nothing else of it could be looked at"
        check = Check(subject, Standing.BAD, "can be reached", message_of(error), remedy)
        found.checks.append(check)
        found.failure = found.failure or exit_code_of(error)


_REMEDIES = (
    (r"CONNECT privilege|permission denied for database", "GRANT CONNECT ON DATABASE … TO …"),
    (r"not permitted to log in", "ALTER ROLE … LOGIN"),
    (r"role \".*\" does not exist", "CREATE ROLE … LOGIN; registry-merge doctor --grants"),
    (r"database \".*\" does not exist", "name the right one, or CREATE DATABASE …"),
    (r"too many connections for role", "ALTER ROLE … CONNECTION LIMIT -1"),
    (r"too many connections for database", "ALTER DATABASE … CONNECTION LIMIT -1"),
    (r"too many clients|connection slots", "end some sessions, or raise max_connections"),
    (r"pg_hba\.conf", "add a line for it to pg_hba.conf of the server, and reload it"),
    (r"password|authentication failed", "mend the password where it is looked for"),
    (r"support SSL|SSL|certificate", "mend sslmode or sslrootcert in --database, or the server"),
    (r"AccessDenied|403|Permission denied", "allow s3:ListBucket (a directory: r and x)"),
    (r"credential|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken", "mend the credentials"),
    (r"no such bucket|not found", "name the right datastore, or make it"),
    (r"RequestTimeTooSkewed", "set the clock of this machine by NTP"),
)


def _remedy(error: Exception) -> str:
    """What to change so that database or datastore can be reached."""
    found = (remedy for text, remedy in _REMEDIES if re.search(text, str(error), re.IGNORECASE))
    return next(found, "is the address right, and the service up?")


def _examine_database(
    address: DatabaseAddress, found: Examination, ahead: dict[str, float]
) -> None:
    with address.connect(
        autocommit=True, prepare_threshold=None, client_encoding="UTF8"
    ) as connection:
        found.checks.append(connection_check(address, connection))
        for subject, look in DATABASE_CHECKS.items():
            found.checks += _looked(subject, look, connection)
        with connection.transaction():
            connection.execute(statements.LIMITS)
            before = time.time()
            (now,) = connection.execute(statements.CLOCK).fetchone() or (before,)
            ahead["database"] = now - (before + time.time()) / 2


def _looked(
    subject: str, look: Callable[[Connection], Iterable[Check]], connection: Connection
) -> list[Check]:
    try:
        with connection.transaction():
            connection.execute(statements.LIMITS)
            return list(look(connection))
    except psycopg.Error as error:
        if connection.closed:
            raise
        text = f"cannot tell: {error.diag.message_primary or error}"
        return [Check(subject, Standing.WARNING, "can be looked at", text)]


def _examine_datastore(
    store: ObjectStore,
    run: str | None,
    write: bool,
    found: Examination,
    ahead: dict[str, float],
) -> None:
    before = time.time()
    now = store.now_s()
    ahead["datastore"] = now - (before + time.time()) / 2
    found.checks += datastore_checks(store, run, write=write)


def _clock_check(clock: tuple[str, float]) -> Check:
    subject, ahead_s = clock
    far = abs(ahead_s)
    against = "" if "against" in subject else " against this machine"
    return judged(
        f"clock of {subject}",
        far <= _FAR_S,
        f"at most {_FAR_S:.0f} s apart{against}",
        f"{ahead_s:+.1f} s",
        "set the clocks by NTP; what a merge does never depends on them, but S3 refuses signatures "
        "that are 15 minutes off",
        otherwise=Standing.BAD if far > _TOO_FAR_S else Standing.WARNING,
    )
