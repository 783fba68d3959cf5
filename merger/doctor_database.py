# SPDX-License-Identifier: BSD-3-Clause
"""What the doctor looks at in the database."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.errors import InsufficientPrivilege

from merger import doctor_statements as statements
from merger import rights, schema
from merger.check import Check, Standing, judged
from merger.database_address import DatabaseAddress

_OLDEST = 140000
_FREE_CONNECTIONS = 3
_IDLE_S = 60
_LITTLE_BYTES = 10 * 1024**3
_TOO_LITTLE_BYTES = 1024**3
_LOCKS = 64
_GIB = 1024**3


def _row(connection: Connection, statement: LiteralString, *values: object) -> tuple[Any, ...]:
    found = connection.execute(statement, values or None).fetchone()
    assert found is not None
    return found


def connection_check(address: DatabaseAddress, connection: Connection) -> Check:
    """Where we are, who we are, by which credential, and whether others on the way can read it."""
    role, database, _ = _row(connection, statements.WHO)
    host = connection.info.host
    is_near = host.startswith("/") or host in ("localhost", "127.0.0.1", "::1")
    is_encrypted = connection.pgconn.ssl_in_use
    how = "TLS" if is_encrypted else "socket" if host.startswith("/") else "not encrypted"
    return judged(
        "connection",
        is_near or is_encrypted,
        "encrypted, or on this machine",
        f"{role!r} in {database!r} at {host}, {how}, credential: {address.source}",
        "add sslmode=verify-full (or require) to --database",
        otherwise=Standing.WARNING,
    )


def _version(connection: Connection) -> Iterator[Check]:
    number, text = _row(connection, statements.VERSION)
    yield judged("server", number >= _OLDEST, "PostgreSQL 14 or newer", text, "upgrade the server")


def _pooler(connection: Connection) -> Iterator[Check]:
    (pid,) = _row(connection, statements.BACKEND)
    is_pooled = pid != connection.info.backend_pid
    found = "a pooler is in between" if is_pooled else "none"
    yield Check("pooler", Standing.OK, "none, or in session or transaction mode", found)


def _read_only(connection: Connection) -> Iterator[Check]:
    is_standby, is_read_only = _row(connection, statements.READ_ONLY)
    if is_standby:
        remedy = "name the primary server in --database, or add target_session_attrs=read-write"
        yield Check("writing", Standing.BAD, "primary server", "a standby: read-only", remedy)
    else:
        remedy = "ALTER ROLE … SET default_transaction_read_only = off; same of the database"
        found = "read-only" if is_read_only else "allowed"
        yield judged("writing", not is_read_only, "allowed", found, remedy)


def _schema(connection: Connection) -> Iterator[Check]:
    with connection.cursor() as cursor:
        found = schema.read_version(cursor)
    ours = schema.SCHEMA_VERSION
    remedy = "registry-merge init" if found is None else "registry-merge migrate"
    if found is None:
        remedy = _remedy_for_unseen(connection) or remedy
    elif found > ours:
        remedy = "upgrade registry-merge"
    yield judged("schema", found == ours, f"version {ours}", f"version {found}", remedy)


def _remedy_for_unseen(connection: Connection) -> str | None:
    """What lets us see tables that are there; None if there are none."""
    role, *_ = _row(connection, statements.WHO)
    found = connection.execute(statements.UNSEEN, (rights.VERSION_TABLE,)).fetchall()
    for place, is_usable in found:
        if not is_usable:
            return f'GRANT USAGE ON SCHEMA "{place}" TO "{role}";'
    if found:
        return f'ALTER ROLE "{role}" SET search_path = "{found[0][0]}"; or options in --database'
    return None


def _table_rights(connection: Connection) -> Iterator[Check]:
    names = [*rights.table_names(), rights.VERSION_TABLE]
    role, database, _ = _row(connection, statements.WHO)
    found = connection.execute(statements.TABLE_RIGHTS, (names, list(rights.RIGHTS))).fetchall()
    if all(table is None for _, table, _, _ in found):
        remedy = _remedy_for_unseen(connection) or "registry-merge init"
        yield Check("rights", Standing.BAD, "tables that we can see", "none", remedy)
        return
    if absent := sorted({name for name, table, _, _ in found if table is None}):
        remedy = "registry-merge migrate; if it has nothing to do, restore them from a backup"
        yield Check("tables", Standing.BAD, "all", f"no {', '.join(absent)}", remedy)
    refused = {(name, privilege) for name, table, privilege, ok in found if table and not ok}
    missing: dict[str, list[str]] = {}
    for name in names:
        if lacking := [right for right in rights.needed(name) if (name, right) in refused]:
            missing[name] = lacking
    for name, privileges in missing.items():
        yield Check(
            f"rights on {name}",
            Standing.BAD,
            ", ".join(rights.needed(name)),
            f"{role!r} has not {', '.join(privileges)}",
            f'GRANT {", ".join(privileges)} ON {name} TO "{role}";',
        )
    if not missing:
        yield Check("rights on tables", Standing.OK, ", ".join(rights.RIGHTS), "all")
    (is_granted,) = _row(connection, statements.TEMPORARY_RIGHT)
    remedy = f'GRANT TEMPORARY ON DATABASE "{database}" TO "{role}";'
    yield judged("temporary tables", is_granted, "allowed", _allowed(is_granted), remedy)


def _allowed(is_allowed: bool) -> str:
    return "allowed" if is_allowed else "not allowed"


def _migration_rights(connection: Connection) -> Iterator[Check]:
    names = [*rights.table_names(), rights.VERSION_TABLE]
    place, may_create, n_tables, foreign = _row(connection, statements.MIGRATION_RIGHTS, names)
    role, *_ = _row(connection, statements.WHO)
    remedy = "only for registry-merge migrate: run it as the owner of the tables"
    standing, found = Standing.WARNING, "as owner"
    if foreign:
        found = f"another role owns {foreign[0]} and {len(foreign) - 1} more tables"
    elif place is None:
        found, remedy = "no schema in search_path", "see what it says about the schema"
    elif not may_create:
        found = f"no right to create tables in schema {place!r}"
    if place is not None and not may_create and not n_tables:
        remedy = f'GRANT CREATE ON SCHEMA "{place}" TO "{role}"; or run init as another role'
        standing = Standing.BAD
    is_fit = may_create and not foreign
    expected = "run by the owner of the tables"
    yield judged("init and migrate", is_fit, expected, found, remedy, otherwise=standing)


def _connections(connection: Connection) -> Iterator[Check]:
    most, reserved, used, of_role, of_database = _row(connection, statements.CONNECTIONS)
    free = most - reserved - used
    limits = [limit for limit in (of_role, of_database) if limit is not None and limit >= 0]
    found = f"{free} free: max_connections {most}, {reserved} reserved, {used} in use"
    if limits:
        found += f"; role or database limited to {min(limits)}"
    yield judged(
        "connections",
        free >= _FREE_CONNECTIONS and 0 not in limits,
        f"{_FREE_CONNECTIONS} free",
        found,
        "ALTER SYSTEM SET max_connections = …, and restart; or a pooler; mergers wait meanwhile",
        otherwise=Standing.WARNING,
    )


def _settings(connection: Connection) -> Iterator[Check]:
    found: dict[str, str] = dict(connection.execute(statements.SETTINGS).fetchall())
    locks = int(found["max_locks_per_transaction"])
    yield judged(
        "locks",
        locks >= _LOCKS,
        f"max_locks_per_transaction {_LOCKS} or more",
        str(locks),
        f"ALTER SYSTEM SET max_locks_per_transaction = {_LOCKS}, and restart",
        otherwise=Standing.WARNING,
    )
    losses = {
        "fsync": "a crash of the machine may damage the database",
        "full_page_writes": "a crash of the machine may damage the database",
        "synchronous_commit": "a crash loses what was reported as merged; merge the RUNs again",
        "autovacuum": "tables and indexes grow, and plans get old",
    }
    for name, loss in losses.items():
        remedy = f"{loss}: ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"
        is_on, warning = found[name] != "off", Standing.WARNING
        yield judged(name, is_on, "on", found[name], remedy, otherwise=warning)
    yield Check("time zone", Standing.OK, "any: times are stored with it", found["TimeZone"])


def _encoding(connection: Connection) -> Iterator[Check]:
    encoding, collation = _row(connection, statements.ENCODING)
    remedy = "make the database anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;"
    yield judged("encoding", encoding == "UTF8", "UTF8", f"{encoding}, {collation}", remedy)


def _blocking(connection: Connection) -> Iterator[Check]:
    names = [*rights.table_names(), rights.VERSION_TABLE]
    rows = connection.execute(statements.BLOCKING, (names, _IDLE_S)).fetchall()
    for pid, role, state, since_s, is_blocking, tables in rows:
        what = f", locks {tables}" if tables else ""
        what += ", others wait for it" if is_blocking else ""
        yield Check(
            "sessions",
            Standing.WARNING,
            "none that blocks, or is idle in a transaction",
            f"process {pid} of {role!r}: {state}, for {since_s} s{what}",
            f"SELECT pg_terminate_backend({pid});",
        )
    prepared = [gid for (gid,) in connection.execute(statements.PREPARED).fetchall()]
    for gid in prepared:
        remedy = f"ROLLBACK PREPARED '{gid}';"
        found = f"prepared transaction {gid!r}"
        yield Check("sessions", Standing.WARNING, "none that holds locks", found, remedy)
    if not rows and not prepared:
        yield Check("sessions", Standing.OK, "none that blocks", "none")


def _disk(connection: Connection) -> Iterator[Check]:
    size, wal = _row(connection, statements.SIZE)
    found = f"database {size / _GIB:.1f} GiB, max_wal_size {wal / _GIB:.1f} GiB"
    free = _free_bytes(connection)
    if free is None:
        text = f"{found}; free space is not to be seen from here: ask df on the server"
        yield Check("disk", Standing.OK, "room for the RUN", text)
        return
    yield judged(
        "disk",
        free >= _LITTLE_BYTES,
        f"{_LITTLE_BYTES // _GIB} GiB free",
        f"{free / _GIB:.1f} GiB free; {found}",
        "make room on the server: a full disk ends merges, and the server if its log cannot grow",
        otherwise=Standing.BAD if free < _TOO_LITTLE_BYTES else Standing.WARNING,
    )


def _free_bytes(connection: Connection) -> int | None:
    host = connection.info.host
    if not (host.startswith("/") or host in ("localhost", "127.0.0.1", "::1")):
        return None
    try:
        (place,) = _row(connection, statements.DATA_DIRECTORY)
        # A tunnel also ends on this machine.
        return shutil.disk_usage(place).free if Path(place).exists() else None
    except (InsufficientPrivilege, OSError):
        return None


def _left(connection: Connection) -> Iterator[Check]:
    n_leases, n_quarantined, n_conflicts = _row(connection, statements.LEFT)
    yield Check("leases", Standing.OK, "any", f"{n_leases} that ended, of mergers that are gone")
    for subject, number, command in (
        ("quarantine", n_quarantined, "registry-merge quarantine list RUN"),
        ("conflicts", n_conflicts, "registry-merge conflicts list"),
    ):
        warning = Standing.WARNING
        yield judged(subject, number == 0, "none open", str(number), command, otherwise=warning)


DATABASE_CHECKS: dict[str, Callable[[Connection], Iterable[Check]]] = {
    "server": _version,
    "pooler": _pooler,
    "writing": _read_only,
    "encoding": _encoding,
    "schema": _schema,
    "rights": _table_rights,
    "init and migrate": _migration_rights,
    "connections": _connections,
    "settings": _settings,
    "sessions": _blocking,
    "disk": _disk,
    "left by merges": _left,
}
"""Each is asked by itself, so that one that is refused does not keep the others."""
