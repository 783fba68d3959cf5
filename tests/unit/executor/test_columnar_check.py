# SPDX-License-Identifier: BSD-3-Clause
"""Columnar graph files that say what no graph may say: each is told with its place."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from executor.graph.columnar_file import open_columnar
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.columnar_output import write_columnar
from executor.graph.graph_file import read_graph
from executor.graph.graph_forms import open_graph, whole_graph
from executor.graph.graph_tables import TableRows, datasets_schema, quanta_schema
from executor.graph.placed_yaml import GraphError
from executor.graph.selection import SelectionError
from registry.model import DimensionRecord
from tests.unit.executor.graph_documents import make_document, write

QUANTA = ["count 1", "count 2", "summarize"]
DATASETS = ["counts 1", "counts 2", "summary", "raw 1", "raw 2"]
"""The rows of the sample graph."""

Row = dict[str, Any]
UUID = bytes(range(16))


@pytest.fixture
def graph(tmp_path: Path) -> ColumnarGraph:
    return open_graph(write(tmp_path / "graph.yaml", make_document()))


def changed(graph: ColumnarGraph, table: str, row: int, **values: Any) -> ColumnarGraph:
    """The graph with other values in one row of a table."""
    schemas = {"quanta": quanta_schema, "datasets": datasets_schema}
    schema = schemas[table](graph.header.dimensions)
    rows: list[Row] = getattr(graph, f"{table}_rows").whole().to_pylist()
    rows[row].update(values)
    return with_rows(graph, table, rows, schema)


def with_rows(
    graph: ColumnarGraph, table: str, rows: list[Row], schema: pa.Schema
) -> ColumnarGraph:
    """The graph with other rows in a table."""
    columns = {
        field.name: pa.array([row[field.name] for row in rows], plain(field.type)).cast(field.type)
        for field in schema
    }
    made = TableRows(pa.table(columns, schema=schema))
    return replace(graph, **{f"{table}_rows": made})  # type: ignore[arg-type]


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a column."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


Case = tuple[str, int, Row, str]
WRONG: dict[str, Case] = {
    "task label": ("quanta", 0, {"task_label": "cont"}, "quanta: expected one of ['count', 'summ"),
    "order": ("quanta", 0, {"task_label": "summarize"}, "quanta: expected quanta sorted by task"),
    "no label": ("quanta", 0, {"task_label": None}, "quanta: expected one of ['count', 'summari"),
    "task rows": ("quanta", 1, {"task_label": "summarize", "dim_exposure": 9}, "task_rows.count: "),
    "position": ("quanta", 0, {"position": 7}, "quanta: position: expected each place once"),
    "no position": ("quanta", 0, {"position": None}, "quanta: position: expected a value in every"),
    "no reads": ("quanta", 0, {"reads": None}, "quanta: reads: expected a value in every row"),
    "duplicate": ("quanta", 1, {"dim_exposure": 1}, " count (exposure=1): is also in row 0"),
    "first output": ("quanta", 1, {"first_output": 0}, "expected outputs that follow those of th"),
    "many outputs": ("quanta", 2, {"n_outputs": 9}, "expected outputs that follow those of the"),
    "no outputs": ("quanta", 2, {"n_outputs": -1}, "expected outputs that follow those of the"),
    "row": ("quanta", 0, {"reads": [5]}, "count (exposure=1): expected rows of datasets below 5,"),
    "negative row": ("quanta", 0, {"reads": [-1]}, "expected rows of datasets below 5, found -1"),
    "read twice": ("quanta", 2, {"reads": [0, 1, 0]}, "inputs: counts (exposure=1) is there twice"),
    "cycle": ("quanta", 1, {"reads": [2]}, "in a circle: "),
    "itself": ("quanta", 0, {"reads": [0]}, "in a circle: count (exposure=1) → count (exposure=1)"),
    "NUL": ("quanta", 2, {"dim_band": "a\0b"}, "row 2: band: expected text that UTF-8 has, withou"),
    "integer": (
        "datasets",
        3,
        {"dim_exposure": -(2**63)},
        "row 3: exposure: expected an integer",
    ),
    "type": ("datasets", 0, {"dataset_type": "count"}, "datasets: expected one of the dataset ty"),
    "two producers": ("datasets", 1, {"dim_exposure": 1}, "counts (exposure=1): is made by two qu"),
    "outside twice": ("datasets", 4, {"dim_exposure": 1}, "raw (exposure=1): is there twice"),
    "dimension": (
        "datasets",
        3,
        {"dim_band": "r"},
        "raw (exposure=1): expected a data ID with d",
    ),
    "no dimension": ("datasets", 3, {"dim_exposure": None}, "expected a data ID with dimensions ["),
    "missing producer": ("datasets", 3, {"key": None}, "raw (exposure=1): is made by no quantum"),
    "key and producer": ("datasets", 3, {"producer": UUID}, "expected either 'key' or 'producer'"),
    "producer row": ("datasets", 0, {"producer_row": 1}, "producer_row: expected the quantum that"),
    "producer outside": (
        "datasets",
        3,
        {"producer_row": 1},
        "producer_row: expected the quantum",
    ),
    "key of output": ("datasets", 0, {"key": "x"}, "key: is given, but a quantum makes it"),
    "URI": ("datasets", 3, {"key": "s3://b/k"}, "key: expected a key relative to the datastore, n"),
    "scheme": ("datasets", 3, {"key": "file:raw"}, "not a URI; found 'file:raw'"),
    "absolute": ("datasets", 3, {"key": "/etc/passwd"}, "found '/etc/passwd'"),
    "dots": ("datasets", 3, {"key": "raw/../../x"}, "found 'raw/../../x'"),
    "long key": ("datasets", 3, {"key": "x" * 1025}, "key: expected a key of at most 1024 bytes"),
    "RUN": ("datasets", 3, {"run": "raw/../x"}, "datasets: run: RUN 'raw/../x': part '..'"),
    "no RUN": ("datasets", 3, {"run": None}, "run: expected the RUN that it is in, found none"),
    "size": ("datasets", 4, {"size_bytes": -1}, "datasets: row 4: raw (exposure=2): size_bytes: e"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_columns_are_told(graph: ColumnarGraph, tmp_path: Path, name: str) -> None:
    table, row, values, text = WRONG[name]
    path = tmp_path / "wrong.qgraph"
    write_columnar(changed(graph, table, row, **values), path)
    with pytest.raises(GraphError) as caught:
        read_graph(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", WRONG)
def test_parts_of_wrong_columns_are_refused_or_right(
    graph: ColumnarGraph, tmp_path: Path, name: str
) -> None:
    """What is wrong elsewhere is not looked at; nothing ends in another error."""
    table, row, values, _ = WRONG[name]
    path = tmp_path / "wrong.qgraph"
    write_columnar(changed(graph, table, row, **values), path)
    found = open_columnar(path)
    for quantum in graph.quanta():
        try:
            told = found.quantum(quantum.quantum_id)
        except (GraphError, SelectionError) as error:
            assert str(path) in str(error)
        else:
            assert told.quantum_id == quantum.quantum_id


def test_circle_is_shown(graph: ColumnarGraph, tmp_path: Path) -> None:
    wrong = changed(graph, "quanta", 1, reads=[2])
    with pytest.raises(GraphError, match="circle") as caught:
        whole_graph(wrong)
    assert "count (exposure=2) → summarize () → count (exposure=2)" in str(caught.value)


Ids = Callable[[ColumnarGraph], ColumnarGraph]
SAME_ID: dict[str, tuple[Ids, str]] = {
    "quanta": (
        lambda g: changed(changed(g, "quanta", 0, quantum_id=UUID), "quanta", 1, quantum_id=UUID),
        "row 0 also has the id 00010203-",
    ),
    "datasets": (
        lambda g: changed(
            changed(g, "datasets", 0, dataset_id=UUID), "datasets", 3, dataset_id=UUID
        ),
        "row 0 also has the id 00010203-",
    ),
    "producer": (
        lambda g: changed(
            changed(g, "quanta", 0, quantum_id=UUID), "datasets", 3, key=None, producer=UUID
        ),
        "its producer is a quantum of this graph",
    ),
}


@pytest.mark.parametrize("name", SAME_ID)
def test_ids_are_there_once(graph: ColumnarGraph, name: str) -> None:
    change, text = SAME_ID[name]
    with pytest.raises(GraphError, match=text):
        whole_graph(replace(change(graph), index_rows=None))


def test_index_of_other_ids_is_told(graph: ColumnarGraph) -> None:
    wrong = changed(graph, "quanta", 0, quantum_id=UUID)
    with pytest.raises(GraphError, match="index: expected the ids of the quanta, found others"):
        whole_graph(wrong)


def test_graph_id_of_other_quanta_is_told(graph: ColumnarGraph) -> None:
    wrong = replace(graph, stored_graph_id="3f1f3b7e-0d7b-4b53-8f53-a4f6e4d8a0d1")
    with pytest.raises(GraphError, match="derived_graph_id: the quanta are those of another"):
        whole_graph(wrong)


RECORDS = {
    "dimension": (DimensionRecord("visit", {"visit": 1}, {}), "[0]: expected one of ["),
    "value": (
        DimensionRecord("exposure", {"exposure": "1"}, {}),
        "[0].exposure: expected int, fou",
    ),
    "own value": (DimensionRecord("exposure", {"band": "r"}, {}), "[0]: 'exposure' is missing"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_wrong_dimension_records_are_told(graph: ColumnarGraph, tmp_path: Path, name: str) -> None:
    record, text = RECORDS[name]
    path = tmp_path / "wrong.qgraph"
    write_columnar(replace(graph, read_records=lambda: [record]), path)
    with pytest.raises(GraphError) as caught:
        read_graph(path)
    assert str(caught.value).startswith(f"{path}: dimension_records: {text}")


def test_dimension_record_is_there_once(graph: ColumnarGraph, tmp_path: Path) -> None:
    path = tmp_path / "wrong.qgraph"
    record = DimensionRecord("exposure", {"exposure": 1}, {"airmass": 1.0})
    write_columnar(replace(graph, read_records=lambda: [record, record]), path)
    with pytest.raises(GraphError, match=r"dimension_records: \[1\]: exposure=1 is there twice"):
        read_graph(path)


@pytest.mark.parametrize("table", ["quanta", "datasets"])
def test_part_of_a_wrong_file_is_refused_too(
    graph: ColumnarGraph, tmp_path: Path, table: str
) -> None:
    path = tmp_path / "wrong.qgraph"
    values: dict[str, Row] = {"quanta": {"reads": [99]}, "datasets": {"producer_row": 99}}
    write_columnar(changed(graph, table, 0, **values[table]), path)
    found = open_columnar(path)
    with pytest.raises(GraphError, match=r"wrong\.qgraph"):
        list(found.quanta_at(np.array([0])))
