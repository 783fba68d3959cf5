# SPDX-License-Identifier: BSD-3-Clause
"""Collation: rows of many deltas grouped by table, as Arrow, sorted by key.

A row is an object for as long as it takes to make columns of some hundred deltas. All tables are
sorted, so that mergers that meet wait for each other and do not deadlock, and that what is
inserted together lies together in an index.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merger.delta_checks import GoodDelta
from merger.packed_ids import PackedIds, pack_ids
from merger.uuid_arrays import UUID, uuid_array
from registry.attempt import AttemptStatus
from registry.delta import Delta, ResourceUse
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

_FACTS = pa.schema(
    {
        **{field.name: field.type for field in SCHEMAS["merged_attempt"]},
        **{field.name: field.type for field in SCHEMAS["quantum"]},
        **{field.name: field.type for field in SCHEMAS["attempt"]},
    }
)
"""Columns of the three tables that have a row for each delta."""

_OWNER = pa.field("owner", pa.int64())
"""Which delta a row is of, where it is not said otherwise."""

_ROWS = {
    "quantum_input": SCHEMAS["quantum_input"].remove(0).append(_OWNER),
    "metric": SCHEMAS["metric"].remove(0).append(_OWNER),
    "dataset": pa.schema({"dataset_id": UUID, "dataset_type": TEXT, "data_id": JSON}).append(
        _OWNER
    ),
    "datastore_record": SCHEMAS["datastore_record"].append(_OWNER),
    "dimension_source": SCHEMAS["dimension_source"],
}

_DELTAS_AT_ONCE = 250

_encode = msgspec.json.Encoder(order="sorted").encode
_input_values = attrgetter("dataset_id", "attempt_id", "key", "size_bytes", "checksum")
_record_values = attrgetter("dataset_id", "object_key", "size_bytes", "checksum", "storage_class")
_of_dataset, _of_name = attrgetter("dataset_id"), attrgetter("name")
_FACT_NAMES = [
    *("attempt_id", "run", "quantum_id", "graph_id", "task_label", "no_work", "host"),
    *("exit_code", "signal", "error", "log_key"),
]
_MEASURES = [field.name for field in dataclasses.fields(ResourceUse)]
_fact_values, _measures = attrgetter(*_FACT_NAMES), attrgetter(*_MEASURES)


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
    collation = Collation()
    for start in range(0, len(deltas), _DELTAS_AT_ONCE):
        collation.add(deltas[start : start + _DELTAS_AT_ONCE])
    return collation.tables(outranked)


class Collation:
    """Columns that grow by the rows of some deltas at a time."""

    def __init__(self) -> None:
        self._n_deltas = 0
        self._facts = [_FACTS.empty_table()]
        self._rows = {name: [schema.empty_table()] for name, schema in _ROWS.items()}

    def add(self, goods: Sequence[GoodDelta]) -> None:
        """Add deltas with higher attempt ids than those before; raises as `collate`."""
        deltas = [good.delta for good in goods]
        data_ids = [_encode(delta.data_id) for delta in deltas]
        self._facts.append(_facts(goods, data_ids))
        owners = np.arange(self._n_deltas, self._n_deltas + len(deltas))
        for name, table in (
            ("quantum_input", _inputs(deltas, owners)),
            ("metric", _metrics(deltas, owners)),
            ("dataset", _datasets(deltas, data_ids, owners)),
            ("datastore_record", _datastore_records(deltas, owners)),
            ("dimension_source", _dimensions(deltas)),
        ):
            self._rows[name].append(table)
        self._n_deltas += len(deltas)

    def tables(self, outranked: Collection[str] = frozenset()) -> dict[str, pa.Table]:
        """Return all tables; see `collate`."""
        facts = pa.concat_tables(self._facts).combine_chunks()
        rows = {name: pa.concat_tables(parts) for name, parts in self._rows.items()}
        is_decisive, is_counting = _decide(facts, outranked)
        is_success = _is_success(facts)
        facts = _replace(facts, "superseded", pa.array(is_success & ~is_counting))
        for name in ("dataset", "datastore_record"):
            owners = rows[name]["owner"].to_numpy()
            rows[name] = _sorted(rows[name].filter(pa.array(is_counting[owners])), "dataset_id")
        return {
            "merged_attempt": facts.select(SCHEMAS["merged_attempt"].names),
            "quantum": _sorted(
                facts.filter(pa.array(is_decisive)).select(SCHEMAS["quantum"].names), "quantum_id"
            ),
            "attempt": facts.select(SCHEMAS["attempt"].names),
            **{
                name: _owned(SCHEMAS[name], rows[name], facts)
                for name in ("quantum_input", "metric")
            },
            "dimension_source": rows["dimension_source"],
            **{
                name: _owned(SCHEMAS[name], rows[name], facts)
                for name in ("dataset", "datastore_record")
            },
        }


def _decide(
    facts: pa.Table, outranked: Collection[str]
) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Tell which attempts decide the status of their quantum, and whose datasets count.

    The highest success decides, or the highest attempt if there is none.
    """
    quanta, is_success = _ids(facts["quantum_id"]), _is_success(facts)
    # Deltas are in the order of their attempts, and sorting keeps it.
    order = np.lexsort((is_success, quanta))
    is_last = np.ones(len(order), bool)
    is_last[:-1] = quanta[order[1:]] != quanta[order[:-1]]
    is_decisive = np.zeros(len(order), bool)
    is_decisive[order[is_last]] = True
    is_outranked = np.isin(_ids(facts["attempt_id"]), pack_ids(list(outranked)))
    return is_decisive, is_decisive & is_success & ~is_outranked


def _is_success(facts: pa.Table) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    found = pc.equal(facts["status"], AttemptStatus.SUCCESSFUL.value)
    return np.asarray(found.to_numpy(), bool)


def _ids(column: pa.ChunkedArray) -> PackedIds:
    chunk = column.combine_chunks()
    return np.frombuffer(chunk.buffers()[1], "S16", len(chunk), chunk.offset * 16)


def _sorted(table: pa.Table, name: str) -> pa.Table:
    order = np.argsort(_ids(table[name]), kind="stable")
    return table.take(pa.array(order))


def _owned(schema: pa.Schema, rows: pa.Table, facts: pa.Table) -> pa.Table:
    """Return rows with what the deltas say that they are of, where a row does not itself."""
    owner, told = rows["owner"].combine_chunks(), set(rows.schema.names)
    columns = [
        rows[name] if name in told else facts[name].combine_chunks().take(owner)
        for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _replace(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), column)


def _facts(goods: Sequence[GoodDelta], data_ids: list[bytes]) -> pa.Table:
    deltas = [good.delta for good in goods]
    columns = _named_columns(_FACT_NAMES, map(_fact_values, deltas))
    columns |= _named_columns(_MEASURES, (_measures(delta.resources) for delta in deltas))
    columns["status"] = [delta.status.value for delta in deltas]
    columns["delta_checksum"] = [good.checksum for good in goods]
    columns["forgotten"] = columns["superseded"] = [False] * len(deltas)
    columns["data_id"] = data_ids
    columns["started"] = _times([delta.started for delta in deltas])
    columns["finished"] = _times([delta.finished for delta in deltas])
    columns["requested"] = _documents([delta.requested for delta in deltas])
    columns["versions"] = _documents([delta.versions or None for delta in deltas])
    return _table(_FACTS, *(columns[name] for name in _FACTS.names))


def _named_columns(names: list[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    return dict(zip(names, _columns(rows, len(names)), strict=True))


def _columns(rows: Iterable[tuple[Any, ...]], n_columns: int) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) or [()] * n_columns


def _times(texts: list[str]) -> pa.Array:
    try:
        return pa.array(texts, TEXT).cast(TIME)
    except pa.ArrowInvalid:
        # ISO 8601 has forms that Arrow does not know.
        return pa.array([datetime.fromisoformat(text) for text in texts], TIME)


def _documents(values: list[Any]) -> list[bytes | None]:
    """Encode values of which one is mostly as the one before."""
    texts, before, text = [], None, None
    for value in values:
        if value != before:
            before, text = value, None if value is None else _encode(value)
        texts.append(text)
    return texts


def _inputs(deltas: Sequence[Delta], owners: Any) -> pa.Table:
    inputs = [sorted(delta.inputs, key=_of_dataset) for delta in deltas]
    columns = _columns(map(_input_values, chain.from_iterable(inputs)), 5)
    return _table(_ROWS["quantum_input"], *columns, _repeated(owners, inputs))


def _metrics(deltas: Sequence[Delta], owners: Any) -> pa.Table:
    metrics = [sorted(delta.rows.metric, key=_of_name) for delta in deltas]
    flat = list(chain.from_iterable(metrics))
    names, values = [metric.name for metric in flat], [metric.value for metric in flat]
    return _table(_ROWS["metric"], names, values, _repeated(owners, metrics))


def _datasets(deltas: Sequence[Delta], data_ids: list[bytes], owners: Any) -> pa.Table:
    rows = [delta.rows.dataset for delta in deltas]
    flat = list(chain.from_iterable(rows))
    texts = [
        # Mostly an output has the data ID of its quantum.
        text if row.data_id == delta.data_id else _encode(row.data_id)
        for delta, text in zip(deltas, data_ids, strict=True)
        for row in delta.rows.dataset
    ]
    ids, types = [row.dataset_id for row in flat], [row.dataset_type for row in flat]
    return _table(_ROWS["dataset"], ids, types, texts, _repeated(owners, rows))


def _datastore_records(deltas: Sequence[Delta], owners: Any) -> pa.Table:
    records = [delta.rows.datastore_record for delta in deltas]
    columns = _columns(map(_record_values, chain.from_iterable(records)), 5)
    return _table(_ROWS["datastore_record"], *columns, _repeated(owners, records))


def _repeated(owners: Any, rows: Sequence[Sequence[object]]) -> pa.Array:
    return pa.array(np.repeat(owners, [len(of_owner) for of_owner in rows]), pa.int64())


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
        SCHEMAS["dimension_source"],
        [r.dimension for r, _ in rows],
        [canonical(r.data_id).encode() for r, _ in rows],
        [attempt_id for _, attempt_id in rows],
        [canonical(r.record).encode() for r, _ in rows],
    )


def dataset_tables(sides: Sequence[Mapping[str, Any]]) -> dict[str, pa.Table]:
    """Collate datasets that are given with all columns of both their tables."""
    return {
        name: _table(
            SCHEMAS[name],
            *(
                [side[f.name].encode() if f.type == JSON else side[f.name] for side in sides]
                for f in SCHEMAS[name]
            ),
        )
        for name in ("dataset", "datastore_record")
    }


def _table(schema: pa.Schema, *columns: Sequence[Any] | pa.Array) -> pa.Table:
    arrays = [
        values
        if isinstance(values, pa.Array)
        else (uuid_array(values) if field.type == UUID else pa.array(values, field.type))
        for field, values in zip(schema, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
