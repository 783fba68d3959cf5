# SPDX-License-Identifier: BSD-3-Clause
"""Which exit code an error gives, and what a person should do about it."""

import re
from collections.abc import Iterator

import psycopg

from merger.database_address import NoPasswordError
from merger.database_errors import is_server_busy
from merger.exit_codes import ExitCode
from merger.schema import SchemaVersionError
from merger.settings_error import SettingsError
from registry.errors import InvalidNameError
from registry.hidden_words import without_secrets
from transfer_plugins.object_store import (
    BucketNotFoundError,
    ChecksumMismatchError,
    InvalidDatastoreError,
    NoCredentialsError,
    ObjectNotFoundError,
    TransferError,
    TransferRefusedError,
)

# By SQLSTATE, or its class where all of it is of one kind.
_BY_STATE = {
    "08": ExitCode.UNAVAILABLE,  # connection lost
    "25006": ExitCode.UNAVAILABLE,  # read-only transaction
    "25P03": ExitCode.UNAVAILABLE,  # idle in transaction for too long
    "28": ExitCode.NOT_PERMITTED,  # authentication
    "40": ExitCode.UNAVAILABLE,  # disturbed by other transactions, again and again
    "42501": ExitCode.NOT_PERMITTED,  # no right
    "53": ExitCode.UNAVAILABLE,  # disk, memory, connections
    "55P03": ExitCode.UNAVAILABLE,  # lock not available
    "57": ExitCode.UNAVAILABLE,  # shut down, cancelled
    "58030": ExitCode.UNAVAILABLE,  # the server cannot read or write its files
}

# A connection that is refused has no SQLSTATE, only text.
_REFUSED = re.compile(
    r"authentication failed|pg_hba\.conf|permission denied|not permitted to log in|no such user"
    r"|no password supplied|certificate|role \".*\" does not exist",
    re.IGNORECASE,
)
_UNUSABLE = re.compile(
    r"definition of service|syntax error in service file|invalid \S+ value|bad value for"
    r"|invalid (port number|integer value)|could not match \d+ port|could not match \d+ host",
    re.IGNORECASE,
)
_MISNAMED = re.compile(
    r"database \".*\" does not exist|no such database|does not support SSL", re.IGNORECASE
)

_ADVICE = {
    "25006": "connect to the primary server, or end its read-only mode; then run it again",
    "42501": "registry-merge doctor --grants ROLE prints the rights that a role needs",
    "53100": "free space on the database server, then run it again",
    "53200": "free memory on the database server, then run it again",
    "53300": "lower --connections or raise max_connections, then run it again",
    "55P03": "another session holds a lock for too long: registry-merge doctor names it",
}
_BY_CODE = {
    ExitCode.UNAVAILABLE: "what was merged stays; run it again later",
    ExitCode.NOT_PERMITTED: "see registry-merge doctor",
    ExitCode.USAGE: "mend --database, PGSERVICE or another setting of libpq",
}


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code of a command that an error ended."""
    match error:
        case SettingsError() | InvalidNameError() | InvalidDatastoreError():
            return ExitCode.USAGE
        case SchemaVersionError():
            return ExitCode.SCHEMA
        case TransferRefusedError() | NoCredentialsError():
            return ExitCode.NOT_PERMITTED
        case ObjectNotFoundError() | ChecksumMismatchError():
            return ExitCode.ERROR
        case BucketNotFoundError() | TransferError():
            return ExitCode.UNAVAILABLE
    told = _told_by_postgres(error)
    return ExitCode.ERROR if told is None else _code_of_postgres(told)


def message_of(error: BaseException) -> str:
    """Return one line: what happened, and what to do."""
    told = _told_by_postgres(error)
    text = without_secrets(" ".join(str(error).split()))
    if isinstance(error, psycopg.Error):
        state = f" ({error.sqlstate})" if error.sqlstate else ""
        text = f"central registry: {text}{state}"
    advice = _ADVICE.get(told.sqlstate or "") if told is not None else None
    if advice is None and (told is not None or isinstance(error, TransferError)):
        advice = _BY_CODE.get(exit_code_of(error))
    return text if advice is None else f"{text}; {advice}"


def _code_of_postgres(error: psycopg.Error) -> ExitCode:
    state = error.sqlstate
    if state is not None:
        return _BY_STATE.get(state) or _BY_STATE.get(state[:2]) or ExitCode.ERROR
    if isinstance(error, NoPasswordError) or _REFUSED.search(str(error)):
        return ExitCode.NOT_PERMITTED
    if _UNUSABLE.search(str(error)):
        return ExitCode.USAGE
    if _MISNAMED.search(str(error)):
        return ExitCode.ERROR
    if getattr(error.pgconn, "used_password", False) and not is_server_busy(error):
        # The server speaks another language, and had the password before it refused.
        return ExitCode.NOT_PERMITTED
    # Without a SQLSTATE it is a connection that was lost or never came about.
    return ExitCode.UNAVAILABLE if isinstance(error, psycopg.OperationalError) else ExitCode.ERROR


def _told_by_postgres(error: BaseException) -> psycopg.Error | None:
    """The error of PostgreSQL that is behind an error, if there is one."""
    return next((each for each in _chain(error) if isinstance(each, psycopg.Error)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
