# SPDX-License-Identifier: BSD-3-Clause
"""The tables: one definition for both databases, and the DDL that workers use."""

import dataclasses
import importlib.resources
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from executor import private_registry
from registry import tables
from registry.delta import AddedRows, DatasetRow, DatastoreRow, MetricRow
from registry.model import DimensionRecord

DDL = importlib.resources.files("registry").joinpath("private_registry.sql").read_text()


def test_ddl_of_workers_is_that_of_the_tables() -> None:
    assert tables.private_registry_ddl() == DDL, "run python -m registry.tables > its file"


def test_module_prints_the_ddl() -> None:
    done = subprocess.run([sys.executable, "-m", "registry.tables"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (DDL, "")


def test_sqlite_takes_the_ddl_and_has_the_same_columns() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(DDL)
        for table in tables.PRIVATE_TABLES:
            columns = connection.execute(f"PRAGMA table_info({table.name})").fetchall()
            assert [column[1] for column in columns] == list(table.columns.keys())
            not_null = {column[1] for column in columns if column[3]}
            assert not_null == {c.name for c in table.columns if not c.nullable}


@pytest.mark.parametrize(
    ("table", "row", "of_the_delta"),
    [
        ("dataset", DatasetRow, {"run", "quantum_id", "attempt_id"}),
        ("datastore_record", DatastoreRow, set()),
        ("dimension_record", DimensionRecord, set()),
        ("metric", MetricRow, {"attempt_id"}),
    ],
)
def test_rows_of_a_delta_have_the_columns_of_their_table(
    table: str, row: type, of_the_delta: set[str]
) -> None:
    assert table in AddedRows.__dataclass_fields__
    columns = set(tables.metadata.tables[table].columns.keys())
    assert {f.name for f in dataclasses.fields(row)} == columns - of_the_delta


def test_workers_know_every_private_table() -> None:
    columns = {table.name: tuple(table.columns.keys()) for table in tables.PRIVATE_TABLES}
    assert columns == private_registry._COLUMNS


def test_names_are_lower_case_and_no_column_tells_the_order_of_a_merge() -> None:
    for table in tables.metadata.tables.values():
        names = [table.name, *table.columns.keys()]
        assert all(name == name.lower() and name.isidentifier() for name in names)
        assert not {"merged", "merged_at", "inserted", "id", "serial"} & set(names)


def test_inputs_have_no_foreign_key() -> None:
    assert not tables.quantum_input.foreign_keys
