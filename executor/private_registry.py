# SPDX-License-Identifier: BSD-3-Clause
"""The private registry: a SQLite file that one quantum may read and write with any client.

It is seeded with what the quantum may see. Whatever is in it afterwards and was not seeded is
what the delta carries, and the delta takes it from nowhere else.
"""

import math
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import registry
from registry.delta import AddedRows, DatasetRow, DatastoreRow, MetricRow, ReadInput
from registry.errors import FormatError, QuantumExecError
from registry.job import Job
from registry.model import DataId, DimensionRecord, format_data_id
from registry.typed_json import canonical, load

Row = tuple[object, ...]
Snapshot = dict[str, set[Row]]

_COLUMNS = {
    "run": ("run",),
    "dataset_type": ("dataset_type", "dimensions", "storage_class"),
    "dimension_record": ("dimension", "data_id", "record"),
    "dataset": ("dataset_id", "run", "dataset_type", "data_id", "quantum_id", "attempt_id"),
    "datastore_record": ("dataset_id", "object_key", "size_bytes", "checksum", "storage_class"),
    "metric": ("attempt_id", "name", "value"),
}
"""Tables and columns of ``private_registry.sql``; a test keeps the two equal."""
# The task may add rows to these, and to no others.
_WRITABLE = frozenset({"dimension_record", "dataset", "datastore_record", "metric"})
_BUSY_TIMEOUT_S = 30.0
_MAX_JSON_DEPTH = 100
# A delta is a few kB; at this number it is some 20 MB and something has gone wrong in the task.
_MAX_ROWS = 100_000
# Both are in keys of the central registry, where an entry of an index has 2704 bytes.
_MAX_NAME = 200
_MAX_DATA_ID_BYTES = 2000


class PrivateRegistryError(QuantumExecError):
    """The task left the private registry in a state that cannot be merged."""

    error_type = "private_registry"


def connect(path: Path) -> sqlite3.Connection:
    """Open a private registry, waiting up to 30 s for a lock; raises `sqlite3.Error` if damaged."""
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        # An attempt does not outlive its machine, so nothing is gained by waiting for the disk.
        connection.execute("PRAGMA synchronous = OFF")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def create(path: Path, job: Job, inputs: Iterable[ReadInput]) -> Snapshot:
    """Make the file and seed it; an older one is replaced.

    Returns
    -------
    Snapshot
        The seeded rows by table, to tell later what was added.
    """
    path.unlink(missing_ok=True)
    ddl = _ddl()
    with closing(connect(path)) as connection:
        connection.executescript(f"BEGIN;\n{ddl}COMMIT;")
        with connection:
            for table, rows in _seeds(job, inputs).items():
                _insert(connection, table, rows)
        return _read_all(connection, path)


def _ddl() -> str:
    """The text of ``private_registry.sql``, from a directory or an archive of ours."""
    # importlib.resources would do it too, for 10 ms of imports.
    path = os.path.join(os.path.dirname(registry.__file__), "private_registry.sql")
    loader = registry.__spec__ and registry.__spec__.loader
    content: bytes = loader.get_data(path)  # type: ignore[union-attr]
    return content.decode()


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


def check_file(path: Path) -> None:
    """Look at what the task left in the place of the registry, before it is opened.

    Raises
    ------
    PrivateRegistryError
        If it is no regular file: SQLite would follow a link out of the sandbox.
    """
    for name in (path, *(Path(f"{path}{end}") for end in ("-journal", "-wal", "-shm"))):
        try:
            is_regular = stat.S_ISREG(os.lstat(name).st_mode)
        except OSError as error:
            if name is path:
                raise PrivateRegistryError(
                    f"private registry {path.name}: expected a file, found none: {error.strerror}"
                ) from error
            continue
        if not is_regular:
            raise PrivateRegistryError(
                f"private registry {name.name}: expected a regular file, found a directory, a "
                "link or a special file"
            )


def _check_schema(connection: sqlite3.Connection) -> None:
    """Refuse views and triggers: a view in the place of a table may never end."""
    query = "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger')"
    for kind, name in connection.execute(query):
        raise PrivateRegistryError(f"private registry: expected tables only, found {kind} {name!r}")


def _read_all(connection: sqlite3.Connection, path: Path) -> Snapshot:
    try:
        _check_schema(connection)
        return {table: _read_table(connection, table) for table in _COLUMNS}
    except sqlite3.Error as error:
        raise PrivateRegistryError(f"private registry {path.name}: {error}") from error


def _read_table(connection: sqlite3.Connection, table: str) -> set[Row]:
    rows = connection.execute(f"SELECT * FROM {table}")
    columns = tuple(column[0] for column in rows.description)
    if columns != _COLUMNS[table]:
        raise PrivateRegistryError(
            f"table {table}: expected columns {_COLUMNS[table]}, found {columns}"
        )
    found = rows.fetchmany(_MAX_ROWS + 1)
    if len(found) > _MAX_ROWS:
        raise PrivateRegistryError(f"table {table}: expected at most {_MAX_ROWS} rows, found more")
    return set(found)


def check_unharmed(path: Path, seeded: Snapshot) -> Snapshot:
    """Return all rows, if the file is one that may be written to and read from.

    To be called before anything is inserted: a trigger that a task left may never end.

    Raises
    ------
    PrivateRegistryError
        If the file is damaged, its tables are not those that it was made with, or a seeded row
        was changed or taken away.
    """
    check_file(path)
    try:
        with closing(connect(path)) as connection:
            found = _read_all(connection, path)
    except sqlite3.Error as error:
        raise PrivateRegistryError(f"private registry {path.name}: {error}") from error
    for table in _COLUMNS:
        _check_seeds(table, seeded[table], found[table])
    return found


def added_rows(path: Path, seeded: Snapshot, job: Job, attempt_id: str) -> AddedRows:
    """Return the rows that are in the file and were not seeded.

    Raises
    ------
    PrivateRegistryError
        If the file is damaged, a seeded row was changed or taken away, a row is in a table that
        is not for tasks, or its values are of the wrong kind.
    """
    found = check_unharmed(path, seeded)
    added = {table: _ordered(found[table] - seeded[table]) for table in _COLUMNS}
    if added["dimension_record"]:
        _check_one_record_each(found["dimension_record"])
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


def _check_one_record_each(rows: set[Row]) -> None:
    """Refuse a second record of the same data ID, in another spelling of its JSON.

    To SQLite they are two keys; the merger would refuse the whole attempt.
    """
    records = [_dimension_row(row) for row in rows]
    counts = Counter(
        (r.dimension, format_data_id(dict(sorted(r.data_id.items())))) for r in records
    )
    for (dimension, data_id), number in counts.items():
        if number > 1:
            raise PrivateRegistryError(
                f"table dimension_record: expected one record of {dimension} ({data_id}), found "
                f"{number}, in different spellings of its JSON"
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
    if not _is_name(dimension):
        raise PrivateRegistryError(
            f"table dimension_record: expected the name of a dimension, found {dimension!r}"
        )
    return DimensionRecord(str(dimension), _data_id("dimension_record", data_id), facts)


def _metric_row(row: Row, attempt_id: str) -> MetricRow:
    row_attempt, name, value = row
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if row_attempt != attempt_id or not _is_name(name) or not is_number:
        raise PrivateRegistryError(
            f"table metric: expected a name and a finite number for attempt {attempt_id}, "
            f"found {row!r}"
        )
    return MetricRow(str(name), float(value))  # type: ignore[arg-type]


def _is_name(value: object) -> bool:
    """Whether a value is a text that PostgreSQL takes as a name."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and "\0" not in value


def _data_id(table: str, text: object) -> DataId:
    found = _json_object(table, "data_id", text)
    if len(canonical(found).encode()) > _MAX_DATA_ID_BYTES:
        raise PrivateRegistryError(
            f"table {table}: expected a data ID of at most {_MAX_DATA_ID_BYTES} bytes, found "
            f"{str(text)[:100]!r}…"
        )
    for value in found.values():
        if type(value) not in (str, int):
            raise PrivateRegistryError(
                f"table {table}: expected strings and integers in data_id, found {text!r}"
            )
    return found  # type: ignore[return-value]


def _json_object(table: str, column: str, text: object) -> dict[str, object]:
    place = f"table {table}, column {column}"
    if not isinstance(text, str):
        raise PrivateRegistryError(f"{place}: expected a JSON object, found {text!r}")
    try:
        value = load(text, place)
    except FormatError as error:
        raise PrivateRegistryError(str(error)) from error
    if not isinstance(value, dict):
        raise PrivateRegistryError(f"{place}: expected a JSON object, found {text!r}")
    _check_storable(value, place, _MAX_JSON_DEPTH)
    return value


def _check_storable(value: object, place: str, depth: int) -> None:
    """Refuse what is JSON, but what PostgreSQL does not take; better here than at the merge."""
    if depth == 0:
        raise PrivateRegistryError(f"{place}: expected at most {_MAX_JSON_DEPTH} nested levels")
    if isinstance(value, str) and "\0" in value:
        raise PrivateRegistryError(f"{place}: expected text without NUL, found {value!r}")
    if isinstance(value, dict):
        for key in value:
            _check_storable(key, place, depth)
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_storable(inner, place, depth - 1)
