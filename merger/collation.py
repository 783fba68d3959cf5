# SPDX-License-Identifier: BSD-3-Clause
"""Collation: rows of many deltas grouped by table, as Arrow, in insert order."""

import datetime
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from merger.delta_checks import GoodDelta
from merger.uuid_arrays import UUID, repeated_uuids, uuid_array
from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.model import DimensionRecord
from registry.typed_json import canonical

# The Arrow type decides how `copy_format` writes a column.
TEXT = pa.string()
JSON = pa.binary()
TIME = pa.timestamp("us", tz="UTC")
BOOLEAN, INTEGER, BIGINT, DOUBLE = pa.bool_(), pa.int32(), pa.int64(), pa.float64()

SCHEMAS: dict[str, pa.Schema] = {
    "merged_attempt": pa.schema(
        {
            **{"attempt_id": UUID, "run": TEXT, "quantum_id": UUID, "delta_checksum": TEXT},
            **{"forgotten": BOOLEAN},
        }
    ),
    "quantum": pa.schema(
        {
            **{"quantum_id": UUID, "run": TEXT, "graph_id": UUID, "task_label": TEXT},
            **{"data_id": JSON, "status": TEXT, "attempt_id": UUID},
        }
    ),
    "attempt": pa.schema(
        {
            **{"attempt_id": UUID, "quantum_id": UUID, "status": TEXT, "superseded": BOOLEAN},
            **{"no_work": BOOLEAN, "started": TIME, "finished": TIME, "host": TEXT},
            **{"wall_s": DOUBLE, "cpu_user_s": DOUBLE, "cpu_system_s": DOUBLE},
            **{"max_rss_bytes": BIGINT, "exit_code": INTEGER, "signal": INTEGER},
            **{"error": TEXT, "log_key": TEXT, "read_bytes": BIGINT, "write_bytes": BIGINT},
            **{"scratch_bytes": BIGINT, "requested": JSON, "versions": JSON},
        }
    ),
    "quantum_input": pa.schema(
        {
            **{"attempt_id": UUID, "dataset_id": UUID, "input_attempt_id": UUID},
            **{"object_key": TEXT, "size_bytes": BIGINT, "checksum": TEXT},
        }
    ),
    "metric": pa.schema({"attempt_id": UUID, "name": TEXT, "value": DOUBLE}),
    "dimension_source": pa.schema(
        {"dimension": TEXT, "data_id": JSON, "attempt_id": UUID, "record": JSON}
    ),
    "dataset": pa.schema(
        {
            **{"dataset_id": UUID, "run": TEXT, "dataset_type": TEXT, "data_id": JSON},
            **{"quantum_id": UUID, "attempt_id": UUID},
        }
    ),
    "datastore_record": pa.schema(
        {
            **{"dataset_id": UUID, "object_key": TEXT, "size_bytes": BIGINT},
            **{"checksum": TEXT, "storage_class": TEXT},
        }
    ),
}
"""Columns of each table that is filled by COPY, in the order of `registry.tables`."""

_encode = msgspec.json.Encoder(order="sorted").encode


def collate(
    deltas: Sequence[GoodDelta], outranked: Collection[str] = frozenset()
) -> dict[str, pa.Table]:
    """Group the rows of deltas by table.

    Parameters
    ----------
    deltas
        Checked deltas of one RUN, in the order of their attempt ids.
    outranked
        Successful attempts among them that do not count, because the central registry has a
        newer one of the same quantum.

    Returns
    -------
    dict
        A table for each of `SCHEMAS`; datasets only of attempts that count.

    Raises
    ------
    ValueError, OverflowError, pyarrow.ArrowException
        If a value does not fit its column.
    """
    decisive = _decisive(d.delta for d in deltas)
    counting = [
        d.delta
        for d in deltas
        if d.delta.status is AttemptStatus.SUCCESSFUL
        and decisive[d.delta.quantum_id] is d.delta
        and d.delta.attempt_id not in outranked
    ]
    counting_ids = {delta.attempt_id for delta in counting}
    all_deltas = [d.delta for d in deltas]
    return {
        "merged_attempt": _ledger(deltas),
        "quantum": _quanta(decisive.values()),
        "attempt": _attempts(all_deltas, counting_ids),
        "quantum_input": _inputs(all_deltas),
        "metric": _metrics(all_deltas),
        "dimension_source": _dimensions(all_deltas),
        "dataset": _datasets(counting),
        "datastore_record": _datastore_records(counting),
    }


def _decisive(deltas: Iterable[Delta]) -> dict[str, Delta]:
    """The attempt of each quantum that decides its status: the highest success, or the highest."""
    decisive: dict[str, Delta] = {}
    for delta in deltas:
        other = decisive.get(delta.quantum_id)
        if other is None or _rank(delta) > _rank(other):
            decisive[delta.quantum_id] = delta
    return decisive


def _rank(delta: Delta) -> tuple[bool, str]:
    return delta.status is AttemptStatus.SUCCESSFUL, delta.attempt_id


def _ledger(deltas: Sequence[GoodDelta]) -> pa.Table:
    return _table(
        "merged_attempt",
        [d.delta.attempt_id for d in deltas],
        [d.delta.run for d in deltas],
        [d.delta.quantum_id for d in deltas],
        [d.checksum for d in deltas],
        [False] * len(deltas),
    )


def _quanta(deltas: Collection[Delta]) -> pa.Table:
    return _table(
        "quantum",
        [d.quantum_id for d in deltas],
        [d.run for d in deltas],
        [d.graph_id for d in deltas],
        [d.task_label for d in deltas],
        [_encode(d.data_id) for d in deltas],
        [d.status.value for d in deltas],
        [d.attempt_id for d in deltas],
    )


def _attempts(deltas: Sequence[Delta], counting: Collection[str]) -> pa.Table:
    return _table(
        "attempt",
        [d.attempt_id for d in deltas],
        [d.quantum_id for d in deltas],
        [d.status.value for d in deltas],
        [d.status is AttemptStatus.SUCCESSFUL and d.attempt_id not in counting for d in deltas],
        [d.no_work for d in deltas],
        [datetime.datetime.fromisoformat(d.started) for d in deltas],
        [datetime.datetime.fromisoformat(d.finished) for d in deltas],
        [d.host for d in deltas],
        [d.resources.wall_s for d in deltas],
        [d.resources.cpu_user_s for d in deltas],
        [d.resources.cpu_system_s for d in deltas],
        [d.resources.max_rss_bytes for d in deltas],
        [d.exit_code for d in deltas],
        [d.signal for d in deltas],
        [d.error for d in deltas],
        [d.log_key for d in deltas],
        [d.resources.read_bytes for d in deltas],
        [d.resources.write_bytes for d in deltas],
        [d.resources.scratch_bytes for d in deltas],
        [d.requested and _encode(d.requested) for d in deltas],
        [_encode(d.versions) if d.versions else None for d in deltas],
    )


def _inputs(deltas: Sequence[Delta]) -> pa.Table:
    return _table(
        "quantum_input",
        repeated_uuids([d.attempt_id for d in deltas], [len(d.inputs) for d in deltas]),
        [i.dataset_id for d in deltas for i in d.inputs],
        [i.attempt_id for d in deltas for i in d.inputs],
        [i.key for d in deltas for i in d.inputs],
        [i.size_bytes for d in deltas for i in d.inputs],
        [i.checksum for d in deltas for i in d.inputs],
    )


def _metrics(deltas: Sequence[Delta]) -> pa.Table:
    return _table(
        "metric",
        repeated_uuids([d.attempt_id for d in deltas], [len(d.rows.metric) for d in deltas]),
        [m.name for d in deltas for m in d.rows.metric],
        [m.value for d in deltas for m in d.rows.metric],
    )


def _dimensions(deltas: Sequence[Delta]) -> pa.Table:
    """Dimension records of every success, superseded ones too: they are facts, not products."""
    successes = [d for d in deltas if d.status is AttemptStatus.SUCCESSFUL]
    return dimension_table(
        (record, d.attempt_id) for d in successes for record in d.rows.dimension_record
    )


def dimension_table(brought: Iterable[tuple[DimensionRecord, str | None]]) -> pa.Table:
    """Collate dimension records, each with the attempt that brought it, or None."""
    rows = list(brought)
    return _table(
        "dimension_source",
        [r.dimension for r, _ in rows],
        [canonical(r.data_id).encode() for r, _ in rows],
        [attempt_id for _, attempt_id in rows],
        [canonical(r.record).encode() for r, _ in rows],
    )


def _datasets(deltas: Sequence[Delta]) -> pa.Table:
    counts = [len(d.rows.dataset) for d in deltas]
    return _table(
        "dataset",
        [r.dataset_id for d in deltas for r in d.rows.dataset],
        [d.run for d in deltas for _ in d.rows.dataset],
        [r.dataset_type for d in deltas for r in d.rows.dataset],
        [_encode(r.data_id) for d in deltas for r in d.rows.dataset],
        repeated_uuids([d.quantum_id for d in deltas], counts),
        repeated_uuids([d.attempt_id for d in deltas], counts),
    )


def _datastore_records(deltas: Sequence[Delta]) -> pa.Table:
    rows = [r for d in deltas for r in d.rows.datastore_record]
    return _table(
        "datastore_record",
        [r.dataset_id for r in rows],
        [r.object_key for r in rows],
        [r.size_bytes for r in rows],
        [r.checksum for r in rows],
        [r.storage_class for r in rows],
    )


def dataset_tables(sides: Sequence[Mapping[str, Any]]) -> dict[str, pa.Table]:
    """Collate datasets that are given with all columns of both their tables."""
    return {
        name: _table(
            name,
            *(
                [side[f.name].encode() if f.type == JSON else side[f.name] for side in sides]
                for f in SCHEMAS[name]
            ),
        )
        for name in ("dataset", "datastore_record")
    }


def _table(name: str, *columns: list[Any] | pa.Array) -> pa.Table:
    schema = SCHEMAS[name]
    arrays = [
        values
        if isinstance(values, pa.Array)
        else (uuid_array(values) if field.type == UUID else pa.array(values, field.type))
        for field, values in zip(schema, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
