# SPDX-License-Identifier: BSD-3-Clause
"""A real pgbouncer in transaction mode before a PostgreSQL server."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from tests.own_postgres import free_port, server_user
from tests.processes import wait_until

REQUIRED = "TESTS_REQUIRE"
"""Names services without which a test fails, where it would else be skipped."""

# Debian puts it where only root's PATH leads.
_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))

_SETTINGS = """\
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
auth_type = trust
auth_file = {directory}/users
admin_users = pooler
logfile = {directory}/log
pidfile = {directory}/pid
server_round_robin = 1
"""


class Pgbouncer:
    """One pooler process. Every transaction of a client gets the server session whose turn it is.

    So a client that leaves something in a session is found out at its next transaction.
    """

    def __init__(self, program: str, directory: Path, server: str, pool_size: int) -> None:
        parsed = conninfo_to_dict(server)
        self.port = free_port()
        self._directory = directory
        self._user = str(parsed.get("user", "postgres"))
        (directory / "users").write_text(f'"{self._user}" ""\n"pooler" ""\n')
        (directory / "pgbouncer.ini").write_text(
            _SETTINGS.format(
                host=parsed["host"],
                server_port=parsed.get("port", 5432),
                port=self.port,
                pool_size=pool_size,
                directory=directory,
            )
        )
        user = server_user()
        if user is not None:
            shutil.chown(directory, user)
        # It refuses to run as root.
        self._process = subprocess.Popen(
            [program, "-q", str(directory / "pgbouncer.ini")],
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, "pgbouncer answers")

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._directory / "log").read_text()
        with suppress(psycopg.OperationalError):
            return bool(self.show("VERSION"))
        return False

    def address(self, database: str) -> str:
        """Return the URL of a database through the pooler; there is no password."""
        name = conninfo_to_dict(database)["dbname"] if "://" in database else database
        return f"postgresql://{self._user}@127.0.0.1:{self.port}/{name}"

    def show(self, what: str) -> list[dict[str, Any]]:
        """Ask its console, such as ``POOLS``."""
        console = f"postgresql://pooler@127.0.0.1:{self.port}/pgbouncer"
        with (
            psycopg.connect(console, autocommit=True, row_factory=dict_row) as connection,
            psycopg.ClientCursor(connection, row_factory=dict_row) as cursor,
        ):
            return cursor.execute(f"SHOW {what}".encode()).fetchall()

    def stop(self) -> None:
        """End it at once: its clients lose their connections."""
        self._process.kill()
        self._process.wait()


def find_pgbouncer() -> str | None:
    """The program, if it is installed."""
    return shutil.which("pgbouncer", path=_PLACES)


class MakePgbouncer(Protocol):
    """Starts a pooler before the server that a URL leads to; ended with the test."""

    def __call__(self, server: str, *, pool_size: int = 2) -> Pgbouncer: ...


@pytest.fixture
def make_pgbouncer() -> Iterator[MakePgbouncer]:
    """Return a function that starts a pooler."""
    program = find_pgbouncer()
    if program is None:
        refuse = pytest.fail if "pgbouncer" in os.environ.get(REQUIRED, "") else pytest.skip
        refuse("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    started: list[Pgbouncer] = []
    with tempfile.TemporaryDirectory(prefix="qe-pgbouncer-") as directory:

        def make(server: str, *, pool_size: int = 2) -> Pgbouncer:
            place = Path(tempfile.mkdtemp(dir=directory))
            started.append(Pgbouncer(program, place, server, pool_size))
            return started[-1]

        Path(directory).chmod(0o755)
        yield make
        for each in started:
            each.stop()


@pytest.fixture
def pooled_database(database: str, make_pgbouncer: MakePgbouncer) -> str:
    """URL of an empty central registry through a pooler with two server sessions."""
    return make_pgbouncer(database).address(database)
