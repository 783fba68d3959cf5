# SPDX-License-Identifier: BSD-3-Clause
"""The columns of archived deltas (specification: ``docs/delta-archive.md``), and rows of them."""

import datetime
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from merger.whole_deltas import decode_delta
from registry.delta import Delta, check_consistent
from registry.errors import FormatError
from registry.typed_json import canonical

ARCHIVE_FORMAT = 1

FORMAT_FIELD = b"quantum-exec.archive"
"""Key of the format in the metadata of the schema."""

MAX_DELTA_BYTES = 256 * 1024 * 1024
"""Larger deltas stay objects; whoever reads an archive believes in no larger row group."""

Contents = Sequence[tuple[str, bytes]]
"""Keys and bytes of deltas."""

_text, _int, _float, _flag = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_time = pa.timestamp("us", tz="UTC")


def _rows_of(**columns: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct(list(columns.items())))


_INPUT = {
    **{"dataset_id": _text, "attempt_id": _text, "key": _text},
    **{"size_bytes": _int, "checksum": _text},
}
_DATASET = {"dataset_id": _text, "dataset_type": _text, "data_id": _text}
_RECORD = {
    **{"dataset_id": _text, "object_key": _text, "size_bytes": _int},
    **{"checksum": _text, "storage_class": _text},
}

_OF_DELTA: dict[str, pa.DataType] = {
    **{"delta_format": _int, "graph_id": _text, "run": _text, "quantum_id": _text},
    **{"attempt_id": _text, "task_label": _text, "data_id": _text},
    **{"status": _text, "no_work": _flag, "started": _time, "finished": _time, "host": _text},
    **{"wall_s": _float, "cpu_user_s": _float, "cpu_system_s": _float, "max_rss_bytes": _int},
    **{"read_bytes": _int, "write_bytes": _int, "scratch_bytes": _int},
    **{"requested_cpus": _int, "requested_memory_mib": _int, "requested_scratch_mib": _int},
    **{"requested_wall_s": _float},
    **{"exit_code": _int, "signal": _int, "error": _text, "log_key": _text},
    "inputs": _rows_of(**_INPUT),
    "datasets": _rows_of(**_DATASET),
    "datastore_records": _rows_of(**_RECORD),
    "dimension_records": _rows_of(dimension=_text, data_id=_text, record=_text),
    "metrics": _rows_of(name=_text, value=_float),
    "versions": pa.map_(_text, _text),
    "wrapper_log": _rows_of(elapsed_s=_float, event=_text, facts=_text),
    "checksum": _text,
}

SCHEMA = pa.schema(
    [
        *(pa.field(name, kind) for name, kind in _OF_DELTA.items()),
        # What a merge reads, side by side in the file.
        pa.field("key", _text, nullable=False),
        pa.field("size_bytes", _int, nullable=False),
        pa.field("row_sha256", pa.binary(32), nullable=False),
        pa.field("delta", pa.binary(), nullable=False),
    ],
    metadata={FORMAT_FIELD: str(ARCHIVE_FORMAT).encode()},
)

_UNFIT = (ValueError, OverflowError, pa.ArrowException)


def row_digest(key: str, content: bytes) -> bytes:
    """Return what binds key and bytes of a row together: SHA-256 of both, a NUL between them."""
    return hashlib.sha256(key.encode() + b"\0" + content).digest()


def archive_table(contents: Contents) -> tuple[pa.Table, int]:
    """Return the rows of some deltas, and how many of them could not be decoded."""
    rows = [(key, content, _decoded(key, content)) for key, content in contents]
    try:
        table = _table(rows)
    except _UNFIT:
        # A value fits no column; which one, is found row by row.
        rows = [(key, content, _fitting(key, content, found)) for key, content, found in rows]
        table = _table(rows)
    return table, sum(not found for *_, found in rows)


def is_understood(key: str, content: bytes) -> bool:
    """Tell whether a delta can be decoded, so that its columns are not null."""
    return bool(_decoded(key, content))


def _table(rows: Iterable[tuple[str, bytes, dict[str, Any]]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                **found,
                "key": key,
                "size_bytes": len(content),
                "row_sha256": row_digest(key, content),
                "delta": content,
            }
            for key, content, found in rows
        ],
        schema=SCHEMA,
    )


def _fitting(key: str, content: bytes, found: dict[str, Any]) -> dict[str, Any]:
    try:
        _table([(key, content, found)])
    except _UNFIT:
        return {}
    return found


def _decoded(key: str, content: bytes) -> dict[str, Any]:
    """Return what a delta says, by column; nothing if it is not whole or not understood."""
    try:
        delta, checksum = decode_delta(content, key)
        check_consistent(delta, key)
        return {**_scalars(delta), **_nested(delta), "checksum": checksum}
    except (FormatError, *_UNFIT):
        return {}


def _scalars(delta: Delta) -> dict[str, Any]:
    use, requested = delta.resources, delta.requested
    same = ("graph_id", "run", "quantum_id", "attempt_id", "task_label", "no_work", "host")
    told = ("exit_code", "signal", "error", "log_key")
    used = ("wall_s", "cpu_user_s", "cpu_system_s", "max_rss_bytes")
    counted = ("read_bytes", "write_bytes", "scratch_bytes")
    asked = ("cpus", "memory_mib", "scratch_mib", "wall_s")
    return {
        **{name: getattr(delta, name) for name in (*same, *told)},
        **{name: getattr(use, name) for name in (*used, *counted)},
        **{f"requested_{name}": getattr(requested, name, None) for name in asked},
        "delta_format": delta.format,
        "data_id": canonical(delta.data_id),
        "status": delta.status.value,
        "started": datetime.datetime.fromisoformat(delta.started),
        "finished": datetime.datetime.fromisoformat(delta.finished),
    }


def _nested(delta: Delta) -> dict[str, Any]:
    rows = delta.rows
    return {
        "inputs": [{name: getattr(row, name) for name in _INPUT} for row in delta.inputs],
        "datasets": [
            {**{name: getattr(row, name) for name in _DATASET}, "data_id": canonical(row.data_id)}
            for row in rows.dataset
        ],
        "datastore_records": [
            {name: getattr(row, name) for name in _RECORD} for row in rows.datastore_record
        ],
        "dimension_records": [
            {
                "dimension": row.dimension,
                "data_id": canonical(row.data_id),
                "record": canonical(row.record),
            }
            for row in rows.dimension_record
        ],
        "metrics": [{"name": row.name, "value": row.value} for row in rows.metric],
        "versions": list(delta.versions.items()),
        "wrapper_log": [
            {"elapsed_s": one.elapsed_s, "event": one.event, "facts": canonical(one.facts)}
            for one in delta.wrapper_log
        ],
    }
