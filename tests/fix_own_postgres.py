# SPDX-License-Identifier: BSD-3-Clause
"""PostgreSQL servers that a test has for itself: of any release, with passwords, as a standby."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.own_postgres import OwnPostgres, embedded_bin_dir


class MakePostgres(Protocol):
    """Starts a server, ended with the test; see `OwnPostgres`."""

    def __call__(
        self, *, bin_dir: Path | None = None, settings: str = "", hba: str = ""
    ) -> OwnPostgres: ...


@pytest.fixture
def make_postgres() -> Iterator[MakePostgres]:
    """Return a function that starts a server."""
    started: list[OwnPostgres] = []

    def make(*, bin_dir: Path | None = None, settings: str = "", hba: str = "") -> OwnPostgres:
        made = OwnPostgres(bin_dir or embedded_bin_dir(), settings=settings, hba=hba)
        started.append(made)
        made.initialise()
        made.start()
        return made

    yield make
    for each in started:
        each.remove()


@pytest.fixture
def own_postgres(make_postgres: MakePostgres) -> OwnPostgres:
    """A server with default settings."""
    return make_postgres()


@pytest.fixture(scope="module")
def password_postgres() -> Iterator[OwnPostgres]:
    """A server that asks everybody but the superuser for a password; role and database exist.

    Role ``merger`` owns database ``survey`` and has the password ``hidden-word``.
    """
    server = OwnPostgres(
        embedded_bin_dir(),
        hba="host all postgres all trust\nhost all all all scram-sha-256",
    )
    try:
        server.initialise()
        server.start()
        server.execute("CREATE ROLE merger LOGIN PASSWORD 'hidden-word'")
        server.execute("CREATE DATABASE survey OWNER merger")
        yield server
    finally:
        server.remove()
