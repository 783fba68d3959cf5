# SPDX-License-Identifier: BSD-3-Clause
"""The private registry: a SQLite file that one quantum may read and write with any client.

It is seeded with what the quantum may see. Whatever is in it afterwards and was not seeded is
what the delta carries, and the delta takes it from nowhere else.
"""

import importlib.resources
import json
import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from registry.delta import AddedRows, DatasetRow, DatastoreRow, MetricRow, ReadInput
from registry.errors import QuantumExecError
from registry.job import Job
from registry.model import DataId, DimensionRecord
from registry.typed_json import canonical

Row = tuple[object, ...]
Snapshot = dict[str, set[Row]]

_TABLES = ("run", "dataset_type", "dimension_record", "dataset", "datastore_record", "metric")
# The task may add rows to these, and to no others.
_WRITABLE = frozenset({"dimension_record", "dataset", "datastore_record", "metric"})
_BUSY_TIMEOUT_S = 30.0


class PrivateRegistryError(QuantumExecError):
    """The task left the private registry in a state that cannot be merged."""

    error_type = "private_registry"


def connect(path: Path) -> sqlite3.Connection:
    """Open a private registry, waiting up to 30 s for a task that still writes."""
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def create(path: Path, job: Job, inputs: Iterable[ReadInput]) -> Snapshot:
    """Make the file and seed it; an older one is replaced.

    Returns
    -------
    Snapshot
        The seeded rows by table, to tell later what was added.
    """
    path.unlink(missing_ok=True)
    ddl = importlib.resources.files("registry").joinpath("private_registry.sql").read_text()
    with closing(connect(path)) as connection:
        connection.executescript(ddl)
        with connection:
            for table, rows in _seeds(job, inputs).items():
                _insert(connection, table, rows)
        return _read_all(connection, path)


def _insert(connection: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def _seeds(job: Job, inputs: Iterable[ReadInput]) -> dict[str, list[Row]]:
    predicted = {i.dataset_id: i for i in job.inputs}
    read = {i.dataset_id: i for i in inputs}
    storage_classes = {t.name: t.storage_class for t in job.dataset_types}
    return {
        "run": [(run,) for run in sorted({job.run, *(i.run for i in job.inputs)})],
        "dataset_type": [
            (t.name, canonical(t.dimensions), t.storage_class) for t in job.dataset_types
        ],
        "dimension_record": [
            (r.dimension, canonical(r.data_id), canonical(r.record)) for r in job.dimension_records
        ],
        "dataset": [
            (
                *(i.dataset_id, i.run, i.dataset_type, canonical(i.data_id)),
                *(i.producer, read[i.dataset_id].attempt_id),
            )
            for i in job.inputs
            if i.dataset_id in read
        ],
        "datastore_record": [
            (*(i.dataset_id, i.key, i.size_bytes, i.checksum), storage_classes[dataset_type])
            for i in read.values()
            for dataset_type in [predicted[i.dataset_id].dataset_type]
        ],
    }


def _read_all(connection: sqlite3.Connection, path: Path) -> Snapshot:
    try:
        return {table: set(connection.execute(f"SELECT * FROM {table}")) for table in _TABLES}
    except sqlite3.Error as error:
        raise PrivateRegistryError(f"private registry {path.name}: {error}") from error


def added_rows(path: Path, seeded: Snapshot, job: Job, attempt_id: str) -> AddedRows:
    """Return the rows that are in the file and were not seeded.

    Raises
    ------
    PrivateRegistryError
        If the file is damaged, a seeded row was changed or taken away, a row is in a table that
        is not for tasks, or its values are of the wrong kind.
    """
    if not path.is_file():
        raise PrivateRegistryError(f"private registry {path.name}: expected a file, found none")
    try:
        with closing(connect(path)) as connection:
            found = _read_all(connection, path)
    except sqlite3.Error as error:
        raise PrivateRegistryError(f"private registry {path.name}: {error}") from error
    for table in _TABLES:
        _check_seeds(table, seeded[table], found[table])
    added = {table: _ordered(found[table] - seeded[table]) for table in _TABLES}
    return AddedRows(
        [_dataset_row(row, job, attempt_id) for row in added["dataset"]],
        [_datastore_row(row) for row in added["datastore_record"]],
        [_dimension_row(row) for row in added["dimension_record"]],
        [_metric_row(row, attempt_id) for row in added["metric"]],
    )


def _ordered(rows: set[Row]) -> list[Row]:
    """Rows in an order of their own, so that the same rows give the same delta."""
    return sorted(rows, key=repr)


def _check_seeds(table: str, seeded: set[Row], found: set[Row]) -> None:
    if not seeded <= found:
        lost = _ordered(seeded - found)[0]
        raise PrivateRegistryError(
            f"table {table}: expected the seeded row {lost!r}, found it changed or deleted; "
            "tasks may only add rows"
        )
    if table not in _WRITABLE and found != seeded:
        added = _ordered(found - seeded)[0]
        raise PrivateRegistryError(
            f"table {table}: expected no rows from the task, found {added!r}; what is in it is "
            "fixed when the graph is made"
        )


def _dataset_row(row: Row, job: Job, attempt_id: str) -> DatasetRow:
    dataset_id, run, dataset_type, text, quantum_id, row_attempt = row
    predicted = {o.dataset_id: o for o in job.outputs}.get(str(dataset_id))
    if predicted is None:
        raise PrivateRegistryError(
            f"table dataset: expected the predicted outputs of quantum {job.quantum_id}, found "
            f"{dataset_type!r} with id {dataset_id!r}"
        )
    data_id = _data_id("dataset", text)
    expected = (job.run, predicted.dataset_type, predicted.data_id, job.quantum_id, attempt_id)
    if (run, dataset_type, data_id, quantum_id, row_attempt) != expected:
        raise PrivateRegistryError(
            f"table dataset: expected {expected!r} for id {dataset_id}, found "
            f"{(run, dataset_type, data_id, quantum_id, row_attempt)!r}"
        )
    return DatasetRow(predicted.dataset_id, predicted.dataset_type, predicted.data_id)


def _datastore_row(row: Row) -> DatastoreRow:
    dataset_id, key, size, checksum, storage_class = row
    if (
        isinstance(dataset_id, str)
        and isinstance(key, str)
        and isinstance(size, int)
        and isinstance(checksum, str)
        and isinstance(storage_class, str)
    ):
        return DatastoreRow(dataset_id, key, size, checksum, storage_class)
    raise PrivateRegistryError(f"table datastore_record: expected id, key, size, found {row!r}")


def _dimension_row(row: Row) -> DimensionRecord:
    dimension, data_id, record = row
    facts = _json_object("dimension_record", "record", record)
    if not isinstance(dimension, str) or not dimension:
        raise PrivateRegistryError(
            f"table dimension_record: expected the name of a dimension, found {dimension!r}"
        )
    return DimensionRecord(dimension, _data_id("dimension_record", data_id), facts)


def _metric_row(row: Row, attempt_id: str) -> MetricRow:
    row_attempt, name, value = row
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if row_attempt != attempt_id or not isinstance(name, str) or not is_number:
        raise PrivateRegistryError(
            f"table metric: expected a name and a finite number for attempt {attempt_id}, "
            f"found {row!r}"
        )
    return MetricRow(name, float(value))  # type: ignore[arg-type]


def _data_id(table: str, text: object) -> DataId:
    found = _json_object(table, "data_id", text)
    for value in found.values():
        if type(value) not in (str, int):
            raise PrivateRegistryError(
                f"table {table}: expected strings and integers in data_id, found {text!r}"
            )
    return found  # type: ignore[return-value]


def _json_object(table: str, column: str, text: object) -> dict[str, object]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant) if isinstance(text, str) else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise PrivateRegistryError(
            f"table {table}: expected a JSON object in column {column}, found {text!r}"
        )
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
