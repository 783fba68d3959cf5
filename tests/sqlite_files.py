# SPDX-License-Identifier: BSD-3-Clause
"""SQLite registries for tests: with our tables, filled from a central registry or by hand."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert, select, text

from registry.tables import metadata

Rows = dict[str, list[tuple[Any, ...]]]

RUN, OTHER = "raw/all", "u/old/run"
FIRST, SECOND, THIRD = (f"0000000{n}-0000-4000-8000-000000000000" for n in (1, 2, 3))
SUM = "sha256:" + "ab" * 32

ROWS: Rows = {
    "run": [(RUN,), (OTHER,)],
    "dataset_type": [("raw", '["exposure", "detector"]', "Fits"), ("flat", "[]", "Fits")],
    "dimension_record": [("exposure", '{"exposure": 1}', '{"airmass": 1.5}')],
    "dataset": [
        (FIRST, RUN, "raw", '{"exposure": 1, "detector": 2}', None, None),
        (SECOND, RUN, "raw", '{"detector":"S1","exposure":2}', None, None),
        (THIRD, OTHER, "flat", "{}", None, None),
    ],
    "datastore_record": [(FIRST, "raw/1.fits", 10, SUM, "Fits"), (THIRD, "f", None, None, "Fits")],
    "metric": [],
}


def make(path: Path, rows: Rows = ROWS, *more: str) -> Path:
    """Make a registry as on a worker, with these rows, and run statements on it."""
    ddl = (Path(__file__).parents[1] / "registry" / "private_registry.sql").read_text()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(ddl)
        fill(connection, rows)
        for statement in more:
            connection.execute(statement)
        connection.commit()
    return path


def fill(connection: sqlite3.Connection, rows: Rows) -> None:
    """Insert rows."""
    for table, of_table in rows.items():
        for row in of_table:
            marks = ",".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)


def copy_of(address: str, path: Path, tables: Iterable[str] = metadata.tables) -> Path:
    """Make an SQLite registry with all tables and rows of a central one."""
    source = create_engine(address.replace("postgresql://", "postgresql+psycopg://"))
    target = create_engine(f"sqlite:///{path}")
    metadata.create_all(target)
    with source.connect() as reading, target.begin() as writing:
        for table in metadata.sorted_tables:
            if table.name not in tables:
                writing.execute(text(f"DROP TABLE {table.name}"))
                continue
            # JSON as text, as these tables have it in SQLite.
            columns = [
                text(f'"{c.name}"::text')
                if "JSONB" in str(c.type.dialect_impl(source.dialect))
                else c
                for c in table.columns
            ]
            for row in reading.execute(select(*columns).select_from(table)):
                writing.execute(
                    insert(table).values(dict(zip(table.columns.keys(), row, strict=True)))
                )
    source.dispose()
    target.dispose()
    return path
