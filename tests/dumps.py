# SPDX-License-Identifier: BSD-3-Clause
"""Dumps of a central registry, to be compared row for row."""

from typing import Any

import psycopg
from psycopg import sql

from registry.tables import metadata

Dump = dict[str, list[str]]

COMPARED = [table for table in metadata.sorted_tables if table.name != "merge_lease"]
"""All but leases: they say who is merging just now, and nothing about content."""


def dump(address: str) -> Dump:
    """Return the text of every row of every table, ordered by primary key."""
    with psycopg.connect(address) as connection:
        tables = {}
        for table in COMPARED:
            keys = [
                sql.SQL('{}::text COLLATE "C"').format(sql.Identifier(c.name))
                for c in table.primary_key.columns
            ]
            statement = sql.SQL("SELECT t::text FROM {} t ORDER BY {}").format(
                sql.Identifier(table.name), sql.SQL(", ").join(keys)
            )
            tables[table.name] = [row[0] for row in connection.execute(statement)]
        return tables


def empty(address: str) -> None:
    """Remove all rows, as if the tables had just been created."""
    with psycopg.connect(address) as connection:
        # TRUNCATE makes new files for every table and index, which takes longer for few rows.
        for table in reversed(metadata.sorted_tables):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))


def rows(address: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a query and return its rows."""
    with psycopg.connect(address) as connection:
        return connection.execute(statement.encode(), values).fetchall()
