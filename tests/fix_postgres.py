# SPDX-License-Identifier: BSD-3-Clause
"""A real PostgreSQL: one embedded server per session, a fresh database per test.

``QUANTUM_EXEC_TEST_PG_BIN`` names a directory with the programs of another release to test with.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from merger import schema
from tests.own_postgres import OwnPostgres, embedded_package

OTHER_RELEASE = "QUANTUM_EXEC_TEST_PG_BIN"
_TEMPLATE = "registry_template"
_numbers = itertools.count(1)


class PostgresServer:
    """A PostgreSQL that listens on a socket in a directory of its own, as superuser sees it."""

    def __init__(self, socket_dir: str) -> None:
        self._socket_dir = socket_dir

    @cached_property
    def release(self) -> int:
        """Its major version."""
        with psycopg.connect(self.address()) as connection:
            return connection.info.server_version // 10000

    def address(self, database: str = "postgres") -> str:
        """Return the URL of a database; there is no password."""
        return f"postgresql://postgres@/{database}?host={self._socket_dir}"

    def execute(self, statement: LiteralString, *names: str) -> None:
        """Run a statement about databases, with their names quoted."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            quoted = [sql.Identifier(name) for name in names]
            connection.execute(sql.SQL(statement).format(*quoted))


@contextmanager
def _embedded_server() -> Iterator[str]:
    # Paths of sockets are limited to 107 bytes, so not below pytest's own directory.
    directory = Path(tempfile.mkdtemp(prefix="qe-pg-", dir="/tmp"))
    servers = embedded_package().postgres_server
    server = servers.get_server(directory / "data", cleanup_mode="delete")
    try:
        yield str(server.get_postmaster_info().socket_dir)
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _server_of(bin_dir: Path) -> Iterator[str]:
    settings = "listen_addresses = ''\nmax_connections = 100"
    server = OwnPostgres(bin_dir, settings=settings, port=5432)
    try:
        server.initialise()
        server.start()
        yield str(server.directory)
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this session, with a template database that has the tables."""
    other = os.environ.get(OTHER_RELEASE)
    with _server_of(Path(other)) if other else _embedded_server() as socket_dir:
        server = PostgresServer(socket_dir)
        server.execute("ALTER SYSTEM SET fsync = off")
        server.execute("SELECT pg_reload_conf()")
        server.execute("CREATE DATABASE {}", _TEMPLATE)
        schema.create(server.address(_TEMPLATE))
        yield server


def _fresh(server: PostgresServer, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    if server.release < 15:  # which knows no other way than to copy files
        server.execute("CREATE DATABASE {} TEMPLATE {}", name, template)
    else:
        # Half the time of writing the template into the log.
        server.execute("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template)
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
