# SPDX-License-Identifier: BSD-3-Clause
"""What a merge is measured against: the limit, and what others do.

`time_copy` is the limit: all rows that a merge writes, ledger included, already encoded, by COPY
into the same tables with the same indexes and foreign keys, one transaction on each connection.
`time_executemany` is SQLAlchemy with ON CONFLICT DO NOTHING, a thousand rows at once.
`time_savepoints` is what the field did in 2019 (DMTN-137): row by row, a savepoint for each.
"""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, select
from sqlalchemy.dialects.postgresql import insert

from registry.tables import metadata

TABLES = [table for table in metadata.sorted_tables if table.name != "merge_lease"]

FORMATS: dict[str, LiteralString] = {"binary": "(FORMAT BINARY)", "text": "(FORMAT TEXT)"}

Encoded = dict[str, bytes]

_BATCH = 1000

# Which attempt a row belongs to, so that parents and children go over one connection.
_OF_ATTEMPT: dict[str, LiteralString] = {
    "quantum": "SELECT * FROM quantum",
    "attempt": "SELECT * FROM attempt",
    "quantum_input": "SELECT * FROM quantum_input",
    "metric": "SELECT * FROM metric",
    "dimension_source": "SELECT * FROM dimension_source",
    "merged_attempt": "SELECT * FROM merged_attempt",
    "dataset": "SELECT * FROM dataset",
    "datastore_record": "SELECT r.* FROM datastore_record r JOIN dataset USING (dataset_id)",
}


def encode_rows(address: str, form: str, n_parts: int = 1) -> tuple[Encoded, list[Encoded]]:
    """Return every table of a registry as COPY takes it, parents before children.

    Returns
    -------
    first, parts
        What all parts refer to, and the rest in as many parts.
    """
    first, parts = {}, [dict[str, bytes]() for _ in range(n_parts)]
    with psycopg.connect(address) as connection:
        for table in TABLES:
            if table.name not in _OF_ATTEMPT:
                query: sql.Composable = sql.SQL("SELECT * FROM {}").format(
                    sql.Identifier(table.name)
                )
                first[table.name] = _copy_out(connection, query, form)
                continue
            for number, part in enumerate(parts):
                chosen = sql.SQL(
                    "{} WHERE abs(hashtext(attempt_id::text)::bigint) % {} = {}"
                ).format(sql.SQL(_OF_ATTEMPT[table.name]), n_parts, number)
                part[table.name] = _copy_out(connection, chosen, form)
    return first, parts


def _copy_out(connection: psycopg.Connection, query: sql.Composable, form: str) -> bytes:
    statement = sql.SQL("COPY ({}) TO STDOUT " + FORMATS[form]).format(query)
    with connection.cursor().copy(statement) as copy:
        return b"".join(bytes(block) for block in copy)


def time_copy(address: str, first: Encoded, parts: list[Encoded], form: str) -> float:
    """COPY encoded rows, each part over a connection of its own; returns seconds."""
    began = time.perf_counter()
    _copy_in(address, first, form)
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: _copy_in(address, part, form), parts))
    return time.perf_counter() - began


def _copy_in(address: str, encoded: Encoded, form: str) -> None:
    with psycopg.connect(address) as connection:
        for name, content in encoded.items():
            statement = sql.SQL("COPY {} FROM STDIN " + FORMATS[form])
            with connection.cursor().copy(statement.format(sql.Identifier(name))) as copy:
                copy.write(content)


class Peers:
    """SQLAlchemy with the rows of a registry; ``n_quanta`` limits what is taken."""

    def __init__(self, address: str, n_quanta: int | None = None) -> None:
        engine = _engine(address)
        self._tables = _reflected(engine)
        with engine.connect() as connection:
            self._rows = {t.name: _read(connection, self._tables, t.name) for t in TABLES}
        engine.dispose()
        if n_quanta is not None:
            self._rows = _first_quanta(self._rows, n_quanta)

    @property
    def n_rows(self) -> int:
        """Rows that are inserted."""
        return sum(map(len, self._rows.values()))

    def time_executemany(self, address: str) -> float:
        """Insert with ON CONFLICT DO NOTHING, a batch of rows per statement; returns seconds."""
        engine = _engine(address)
        began = time.perf_counter()
        with engine.begin() as connection:
            for name, rows in self._rows.items():
                statement = insert(self._tables[name]).on_conflict_do_nothing()
                for start in range(0, len(rows), _BATCH):
                    connection.execute(statement, rows[start : start + _BATCH])
        took = time.perf_counter() - began
        engine.dispose()
        return took

    def time_savepoints(self, address: str) -> float:
        """Insert row by row, each in a savepoint; returns seconds."""
        engine = _engine(address)
        began = time.perf_counter()
        with engine.begin() as connection:
            for name, rows in self._rows.items():
                statement = insert(self._tables[name])
                for row in rows:
                    with connection.begin_nested():
                        connection.execute(statement, row)
        took = time.perf_counter() - began
        engine.dispose()
        return took


def _engine(address: str) -> Engine:
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(address))


def _reflected(engine: Engine) -> Mapping[str, Table]:
    # As PostgreSQL has them: our own columns of JSON are text, so that canonical JSON stays as is.
    found = MetaData()
    found.reflect(engine)
    return found.tables


def _read(connection: Connection, tables: Mapping[str, Table], name: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(tables[name])).mappings()]


def _first_quanta(
    rows: dict[str, list[dict[str, Any]]], n_quanta: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows of some quanta, with everything that they refer to."""
    attempts = {row["attempt_id"] for row in rows["quantum"][:n_quanta]}
    datasets = {row["dataset_id"] for row in rows["dataset"] if row["attempt_id"] in attempts}
    return {
        name: [
            row
            for row in table
            if (row["dataset_id"] in datasets if name == "datastore_record" else True)
            and row.get("attempt_id") in attempts | {None}
        ]
        for name, table in rows.items()
    }
