# SPDX-License-Identifier: BSD-3-Clause
"""Writing columnar graph files: whole, or not at all."""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from executor.graph.columnar_file import COLUMNAR_FORMAT, HEADER, footer_checksum
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.graph_header import header_document
from executor.graph.graph_tables import RECORDS
from executor.graph.placed_yaml import GraphError
from registry.model import DimensionRecord


def write_columnar(graph: ColumnarGraph, path: Path) -> None:
    """Write a columnar graph file; it is there whole, or not at all.

    Raises
    ------
    GraphError
        If it cannot be written.
    """
    assert graph.index_rows is not None
    tables = {
        "quanta": _written(graph.quanta_rows.whole(), 16_384),
        "datasets": _written(graph.datasets_rows.whole(), 32_768),
        "dimension_records": _written(_record_table(graph.dimension_records), 32_768),
        "index": _written(graph.index_rows.whole(), 16_384),
    }
    n_rows = {
        "quanta": graph.quanta_rows.n_rows,
        "datasets": graph.datasets_rows.n_rows,
        "dimension_records": len(graph.dimension_records),
        "index": graph.index_rows.n_rows,
    }
    header = {
        "quantum_graph_columns": COLUMNAR_FORMAT,
        **header_document(graph.header),
        "derived_graph_id": graph.stored_graph_id,
        "n_rows": n_rows,
        "task_rows": {label: list(rows) for label, rows in graph.task_rows.items()},
        "footers": {name: footer_checksum(memoryview(table)) for name, table in tables.items()},
    }
    text = json.dumps(header, ensure_ascii=False, indent=1, allow_nan=False)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, content in ((HEADER, text.encode()), *tables.items()):
                    # A fixed date: the same graph always gives the same file.
                    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise GraphError(f"{path}: cannot be written: {error}") from error


def _written(table: pa.Table, rows_per_group: int) -> pa.Buffer:
    numbers = {"position", "first_output", "producer_row", "prefix", "reads.list.element"}
    leaves = [name if name != "reads" else "reads.list.element" for name in table.column_names]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=rows_per_group,
        compression="zstd",
        use_dictionary=[name for name in leaves if name not in numbers],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in leaves if name in numbers},
        write_page_checksum=True,
        write_statistics=True,
    )
    return sink.getvalue()


def _record_table(records: Sequence[DimensionRecord]) -> pa.Table:
    def as_json(value: Mapping[str, object]) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    rows = [
        {"dimension": r.dimension, "data_id": as_json(r.data_id), "record": as_json(r.record)}
        for r in records
    ]
    return pa.Table.from_pylist(rows, RECORDS)
