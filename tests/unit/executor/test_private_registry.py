# SPDX-License-Identifier: BSD-3-Clause
"""The private registry: what is seeded, and what a task adds with plain sqlite3."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from executor import private_registry
from executor.private_registry import PrivateRegistryError, Snapshot, added_rows, create
from registry.delta import AddedRows, DatasetRow, DatastoreRow, MetricRow, ReadInput
from registry.model import DimensionRecord
from tests.samples import (
    ATTEMPT_ID,
    CALEXP_ID,
    DATA_ID,
    OTHER_QUANTUM_ID,
    QUANTUM_ID,
    RAW_ID,
    RAW_KEY,
    RUN,
    make_input,
    make_job,
)

JOB = make_job()
READ = [ReadInput(RAW_ID, None, RAW_KEY, 21, "sha256:00")]
DATA_ID_TEXT = '{"detector":1,"exposure":0}'
DATASET = (CALEXP_ID, RUN, "calexp", DATA_ID_TEXT, QUANTUM_ID, ATTEMPT_ID)
RECORD = (CALEXP_ID, f"{RUN}/calexp/x.img", 5, "sha256:01", "File")


class Registry:
    """A seeded private registry, written to as a task does it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seeded: Snapshot = create(path, JOB, READ)

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run a statement with plain sqlite3, which checks no foreign keys."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def insert(self, table: str, *values: object) -> None:
        """Add a row."""
        self.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", *values)

    def added(self) -> AddedRows:
        """What the delta would carry."""
        return added_rows(self.path, self.seeded, JOB, ATTEMPT_ID)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A seeded private registry."""
    return Registry(tmp_path / "registry.sqlite3")


def test_seeded_are_inputs_types_records_and_runs(registry: Registry) -> None:
    assert registry.execute("SELECT * FROM run") == [("raw/all",), (RUN,)]
    assert registry.execute("SELECT * FROM dataset_type ORDER BY 1") == [
        ("calexp", '["exposure","detector"]', "File"),
        ("raw", '["exposure","detector"]', "File"),
    ]
    assert registry.execute("SELECT * FROM dimension_record") == [
        ("exposure", '{"exposure":0}', '{"airmass":1.25}')
    ]
    assert registry.execute("SELECT * FROM dataset") == [
        (RAW_ID, "raw/all", "raw", DATA_ID_TEXT, None, None)
    ]
    assert registry.execute("SELECT * FROM datastore_record") == [
        (RAW_ID, RAW_KEY, 21, "sha256:00", "File")
    ]
    assert registry.execute("SELECT * FROM metric") == []


def test_input_of_a_producer_tells_who_made_it(tmp_path: Path) -> None:
    job = make_job(inputs=[make_input(producer=OTHER_QUANTUM_ID, run=RUN)])
    create(tmp_path / "r", job, [ReadInput(RAW_ID, ATTEMPT_ID, RAW_KEY, 21, "sha256:00")])
    with closing(sqlite3.connect(tmp_path / "r")) as connection:
        found = connection.execute("SELECT run, quantum_id, attempt_id FROM dataset").fetchall()
    assert found == [(RUN, OTHER_QUANTUM_ID, ATTEMPT_ID)]


def test_input_that_is_missing_is_not_seeded(tmp_path: Path) -> None:
    seeded = create(tmp_path / "r", JOB, [])
    assert seeded["dataset"] == seeded["datastore_record"] == set()


def test_older_file_is_replaced(registry: Registry) -> None:
    registry.insert("metric", ATTEMPT_ID, "n", 1.0)
    assert create(registry.path, JOB, READ) == registry.seeded
    assert registry.added() == AddedRows()


def test_nothing_added_is_nothing(registry: Registry) -> None:
    assert registry.added() == AddedRows()


def test_rows_added_with_plain_sqlite_come_out(registry: Registry) -> None:
    registry.insert("dataset", *DATASET)
    registry.insert("datastore_record", *RECORD)
    registry.insert("dimension_record", "star", '{ "exposure": 0 , "star" : 7}', '{"mag": 17.5}')
    registry.insert("dimension_record", "flag", '{"name": "é\U0001f600"}', "{}")
    registry.insert("metric", ATTEMPT_ID, "n_stars", 12)
    registry.insert("metric", ATTEMPT_ID, "seeing", 0.5)
    assert registry.added() == AddedRows(
        [DatasetRow(CALEXP_ID, "calexp", DATA_ID)],
        [DatastoreRow(*RECORD)],
        [
            DimensionRecord("flag", {"name": "é\U0001f600"}, {}),
            DimensionRecord("star", {"exposure": 0, "star": 7}, {"mag": 17.5}),
        ],
        [MetricRow("n_stars", 12.0), MetricRow("seeing", 0.5)],
    )


def test_order_of_insertion_does_not_matter(registry: Registry, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other")
    for number in range(10):
        registry.insert("metric", ATTEMPT_ID, f"m{number}", number)
        other.insert("metric", ATTEMPT_ID, f"m{9 - number}", 9 - number)
    assert registry.added() == other.added()


@pytest.mark.parametrize("mode", ["WAL", "PERSIST", "TRUNCATE"])
def test_journal_of_the_task_does_not_matter(registry: Registry, mode: str) -> None:
    # The task ends without closing its connection, as one that was killed does.
    connection = sqlite3.connect(registry.path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("INSERT INTO metric VALUES (?, 'n', 1)", (ATTEMPT_ID,))
    connection.commit()
    assert registry.added().metric == [MetricRow("n", 1.0)]
    connection.close()


CHANGES: list[tuple[str, str]] = [
    ("UPDATE dataset SET data_id = '{}'", "table dataset: expected the seeded row .*changed or"),
    ("DELETE FROM datastore_record", "table datastore_record: expected the seeded row"),
    ("UPDATE dimension_record SET record = '{}'", "table dimension_record: expected the seeded"),
    ("DELETE FROM dataset_type", "table dataset_type: expected the seeded row"),
    ("UPDATE run SET run = 'x' || run", "table run: expected the seeded row"),
    ("INSERT INTO run VALUES ('more')", r"table run: expected no rows from the task, found \('mo"),
    (
        "INSERT INTO dataset_type VALUES ('t', '[]', 'File')",
        "table dataset_type: expected no rows from the task",
    ),
    ("DROP TABLE metric", r"private registry registry.sqlite3: no such table: metric"),
    ("ALTER TABLE metric ADD COLUMN unit TEXT", "table metric: expected columns"),
]


@pytest.mark.parametrize(("statement", "message"), CHANGES)
def test_what_is_seeded_must_stay(registry: Registry, statement: str, message: str) -> None:
    registry.execute(statement)
    with pytest.raises(PrivateRegistryError, match=message):
        registry.added()


DEEP = "[" * 2000 + "]" * 2000
BAD_ROWS: list[tuple[str, tuple[object, ...], str]] = [
    ("dimension_record", ("d", "{}", "not json"), "column record: expected JSON, found"),
    ("dimension_record", ("d", "{}", "[1]"), "column record: expected a JSON object"),
    ("dimension_record", ("d", "{}", "null"), "column record: expected a JSON object"),
    ("dimension_record", ("d", "{}", b"{}"), "column record: expected a JSON object, found b'{}"),
    ("dimension_record", ("d", "{}", 7), "column record: expected a JSON object, found '7'"),
    ("dimension_record", ("d", "{}", '{"a": NaN}'), "number that is not finite: NaN"),
    ("dimension_record", ("d", "{}", '{"a": 1e999}'), "number that is not finite: 1e999"),
    ("dimension_record", ("d", "{}", '{"a": "\\ud800"}'), "surrogates not allowed"),
    ("dimension_record", ("d", "{}", '{"a": "\\u0000"}'), "NUL"),
    ("dimension_record", ("d", "{}", '{"a": ' + DEEP + "}"), "recursion|nested"),
    ("dimension_record", ("d", "[]", "{}"), "column data_id: expected a JSON object"),
    ("dimension_record", ("d", '{"a": 1.5}', "{}"), "expected strings and integers in data_id"),
    ("dimension_record", ("d", '{"a": true}', "{}"), "expected strings and integers in data_id"),
    ("dimension_record", ("d", '{"a": null}', "{}"), "expected strings and integers in data_id"),
    ("dimension_record", ("", "{}", "{}"), "expected the name of a dimension, found ''"),
    ("dimension_record", (b"d", "{}", "{}"), "expected the name of a dimension, found b'd'"),
    ("dimension_record", ("a\0b", "{}", "{}"), "expected the name of a dimension, found 'a"),
    ("metric", (ATTEMPT_ID, "m", "seven"), "expected a name and a finite number"),
    ("metric", (ATTEMPT_ID, "m", float("inf")), "expected a name and a finite number"),
    ("metric", (ATTEMPT_ID, "m", b"7"), "expected a name and a finite number"),
    ("metric", (ATTEMPT_ID, b"m", 7), "expected a name and a finite number"),
    ("metric", (ATTEMPT_ID, "m\0", 7), "expected a name and a finite number"),
    ("metric", (ATTEMPT_ID, "m" * 201, 7), "expected a name and a finite number"),
    ("dimension_record", ("d" * 201, "{}", "{}"), "expected the name of a dimension"),
    (
        "dimension_record",
        ("d", '{"a": "' + "x" * 2000 + '"}', "{}"),
        "expected a data ID of at most 2000 bytes",
    ),
    ("metric", ("another attempt", "m", 7), f"finite number for attempt {ATTEMPT_ID}, found"),
    ("dataset", ("no uuid", *DATASET[1:]), "expected the predicted outputs .* with id 'no uuid'"),
    ("dataset", (*DATASET[:1], "raw/all", *DATASET[2:]), "table dataset: expected .* found "),
    ("dataset", (*DATASET[:2], "raw", *DATASET[3:]), "table dataset: expected .* found "),
    ("dataset", (*DATASET[:3], '{"exposure": 9}', *DATASET[4:]), "table dataset: expected .* fo"),
    ("dataset", (*DATASET[:3], "nothing", *DATASET[4:]), "column data_id: expected JSON, found"),
    ("dataset", (*DATASET[:4], OTHER_QUANTUM_ID, ATTEMPT_ID), "table dataset: expected .* found "),
    ("dataset", (*DATASET[:5], None), "table dataset: expected .* found "),
    ("datastore_record", (*RECORD[:2], None, *RECORD[3:]), "table datastore_record: expected id"),
    ("datastore_record", (*RECORD[:2], "big", *RECORD[3:]), "table datastore_record: expected id"),
    ("datastore_record", (*RECORD[:3], None, "File"), "table datastore_record: expected id, key"),
    ("datastore_record", (b"x", *RECORD[1:]), "table datastore_record: expected id, key"),
]


@pytest.mark.parametrize(("table", "row", "message"), BAD_ROWS)
def test_row_that_cannot_be_merged_is_refused(
    registry: Registry, table: str, row: tuple[object, ...], message: str
) -> None:
    registry.insert(table, *row)
    with pytest.raises(PrivateRegistryError, match=message) as caught:
        registry.added()
    assert table in str(caught.value)


def test_nan_is_refused_when_it_is_written(registry: Registry) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        registry.insert("metric", ATTEMPT_ID, "m", float("nan"))


def test_one_record_in_two_spellings_is_refused(registry: Registry) -> None:
    registry.insert("dimension_record", "star", '{"star":7}', '{"mag":1}')
    registry.insert("dimension_record", "star", '{"star": 7}', '{"mag":2}')
    with pytest.raises(PrivateRegistryError, match=r"one record of star \(star=7\), found 2, in"):
        registry.added()


def test_seeded_record_in_another_spelling_is_refused(registry: Registry) -> None:
    registry.insert("dimension_record", "exposure", '{"exposure": 0}', '{"airmass": 9}')
    with pytest.raises(
        PrivateRegistryError, match=r"one record of exposure \(exposure=0\), found 2, in"
    ):
        registry.added()


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, "registry.sqlite3: expected a file, found none"),
    (lambda path: path.write_bytes(b"not a database at all" * 100), "file is not a database"),
    (lambda path: path.write_bytes(path.read_bytes()[:5000]), "malformed|not a database|no such"),
    (lambda path: path.write_bytes(b""), "no such table"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_file_is_told(
    registry: Registry, damage: Callable[[Path], object], message: str
) -> None:
    damage(registry.path)
    with pytest.raises(PrivateRegistryError, match=message):
        registry.added()


def test_text_that_is_no_utf8_is_told(registry: Registry) -> None:
    registry.execute("INSERT INTO dimension_record VALUES ('d', '{}', CAST(x'ff' AS TEXT))")
    with pytest.raises(PrivateRegistryError, match="Could not decode to UTF-8"):
        registry.added()


def test_writer_that_never_ends_is_told(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_registry, "_BUSY_TIMEOUT_S", 0.01)
    with closing(sqlite3.connect(registry.path)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(PrivateRegistryError, match="database is locked"):
            registry.added()


def test_facts_survive_as_they_are(registry: Registry) -> None:
    facts = {"a": [1, None, {"b": 2**60}], "c": 0.1, "d": '\n"é'}
    registry.insert("dimension_record", "d", "{}", json.dumps(facts, indent=2))
    assert registry.added().dimension_record == [DimensionRecord("d", {}, facts)]
