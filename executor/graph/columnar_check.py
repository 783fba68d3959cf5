# SPDX-License-Identifier: BSD-3-Clause
"""Everything that a graph must hold to, asked of its columns: no object per quantum is made."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from executor.graph.column_codes import Integers, combine_codes, first_duplicate, value_codes
from executor.graph.columnar_graph import ColumnarGraph, list_parts
from executor.graph.dataset_check import check_datasets
from executor.graph.derived_columns import Ids, id_texts, with_given_ids
from executor.graph.derived_graph_id import derive_graph_id, sort_ids
from executor.graph.graph_reader import value_problem
from executor.graph.graph_tables import DIMENSION_PREFIX, INDEX
from executor.graph.levels import Edges
from executor.graph.yaml_graph import show_circle


@dataclass(frozen=True)
class CheckedColumns:
    """What a check has found out: ids, links and levels of the quanta, by their rows.

    ``reads`` and ``makes`` are where those of each quantum start (one more than quanta), and their
    rows in *datasets*.
    """

    quantum_ids: Ids
    reads: tuple[Integers, Integers]
    makes: tuple[Integers, Integers]
    edges: Edges
    levels: Integers


def check_columns(graph: ColumnarGraph) -> CheckedColumns:
    """Check a whole graph.

    Raises
    ------
    GraphError
        With file, table, row, quantum id, task label and data ID, as far as they matter.
    """
    quanta = graph.quanta_rows.whole()
    _check_labels(graph, quanta)
    _check_values(graph, quanta, "quanta")
    graph.check_complete(quanta)
    if not np.array_equal(np.sort(quanta["position"].to_numpy()), np.arange(len(graph))):
        raise graph.error("quanta", "position: expected each place once, found others")
    _check_no_quantum_twice(graph, quanta)
    makes = _makes(graph, quanta)
    ids = graph.quantum_ids(quanta)
    _check_ids(graph, quanta, ids)
    datasets = graph.datasets_rows.whole()
    _check_values(graph, datasets, "datasets")
    check_datasets(graph, datasets, np.repeat(np.arange(len(graph)), np.diff(makes[0])), ids)
    reads = list_parts(quanta["reads"])
    _check_reads(graph, reads)
    edges = _edges(reads, datasets, len(graph))
    levels = edges.levels()
    _check_no_circle(graph, edges, levels)
    return CheckedColumns(ids, reads, makes, edges, levels)


def check_file(graph: ColumnarGraph) -> CheckedColumns:
    """Check a whole graph, its dimension records, and what a file says twice: index and graph id.

    Raises
    ------
    GraphError
    """
    checked = check_columns(graph)
    if graph.index_rows is not None:
        if not graph.index_rows.whole().equals(index_of(checked.quantum_ids)):
            raise graph.error("index", "expected the ids of the quanta, found others")
        if graph.header.graph_id is None and graph.stored_graph_id != graph_id_of(graph, checked):
            raise graph.error("graph.json", "derived_graph_id: the quanta are those of another")
    len(graph.dimension_records)
    return checked


def index_of(quantum_ids: Ids) -> pa.Table:
    """The table `INDEX` of some ids."""
    order = sort_ids(quantum_ids)
    prefixes = np.ascontiguousarray(quantum_ids[order][:, :4]).view(">u4")[:, 0]
    return pa.table([prefixes.astype(np.int64), order.astype(np.int32)], schema=INDEX)


def graph_id_of(graph: ColumnarGraph, checked: CheckedColumns) -> str:
    """The id of a graph: as given, or derived."""
    if graph.header.graph_id is not None:
        return graph.header.graph_id
    table = graph.datasets_rows.whole()
    dataset_ids = with_given_ids(graph.datasets().ids(table), table["dataset_id"])
    return derive_graph_id(
        graph.header.run, checked.quantum_ids, dataset_ids, checked.reads, checked.makes
    )


def _check_labels(graph: ColumnarGraph, quanta: pa.Table) -> None:
    codes = graph.label_codes(quanta)
    if len(codes) and (np.diff(codes) < 0).any():
        raise graph.error("quanta", "expected quanta sorted by task label, found others")
    for code, label in enumerate(graph.labels):
        start, end = np.searchsorted(codes, [code, code + 1]).tolist()
        told = graph.task_rows.get(label, (0, 0))
        if start != end and (start, end) != told:
            raise graph.error(
                "graph.json", f"task_rows.{label}: expected {[start, end]}, found {list(told)}"
            )


def _check_values(graph: ColumnarGraph, table: pa.Table, place: str) -> None:
    """Let no data ID hold what YAML may not: integers and texts, each different one once."""
    for name, kind in graph.header.dimensions.items():
        column = table[DIMENSION_PREFIX + name]
        if kind == "int":
            bounds = pc.min_max(column).as_py().values()
            values = [value for value in bounds if value is not None]
        else:
            values = [value for value in pc.unique(column).to_pylist() if value is not None]
        for value in values:
            if value_problem(value):
                row = pc.index(column, value).as_py()
                raise graph.error(
                    f"{place}: row {row}: {name}",
                    f"expected {value_problem(value)}, found {value!r}",
                )


def _check_no_quantum_twice(graph: ColumnarGraph, quanta: pa.Table) -> None:
    columns = [value_codes(quanta[DIMENSION_PREFIX + name]) for name in graph.header.dimensions]
    codes = combine_codes([graph.label_codes(quanta), *columns], len(graph))
    twice = first_duplicate(codes)
    if twice is not None:
        raise graph.error(graph.show_quantum(twice[0]), f"is also in row {twice[1]}")


def _makes(graph: ColumnarGraph, quanta: pa.Table) -> tuple[Integers, Integers]:
    firsts, counts = (quanta[name].to_numpy() for name in ("first_output", "n_outputs"))
    wrong = np.flatnonzero((firsts != np.cumsum(counts) - counts) | (counts < 0))
    if len(wrong) or counts.sum() > graph.datasets_rows.n_rows:
        place = graph.show_quantum(int(wrong[0])) if len(wrong) else "quanta"
        raise graph.error(place, "expected outputs that follow those of the quantum before")
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return starts, np.arange(starts[-1])


def _check_ids(graph: ColumnarGraph, quanta: pa.Table, ids: Ids) -> None:
    if quanta["quantum_id"].null_count == len(graph):
        return
    twice = first_duplicate(np.unique(ids, axis=0, return_inverse=True)[1].reshape(-1))
    if twice is not None:
        quantum_id = id_texts(ids[twice[0] : twice[0] + 1])[0]
        raise graph.error(
            graph.show_quantum(twice[0]), f"row {twice[1]} also has the id {quantum_id}"
        )


def _check_reads(graph: ColumnarGraph, reads: tuple[Integers, Integers]) -> None:
    starts, rows = reads
    n_datasets = max(1, graph.datasets_rows.n_rows)
    readers = np.repeat(np.arange(len(graph)), np.diff(starts))
    outside = np.flatnonzero((rows < 0) | (rows >= n_datasets))
    if len(outside):
        raise graph.error(
            graph.show_quantum(int(readers[outside[0]])),
            f"expected rows of datasets below {n_datasets}, found {rows[outside[0]]}",
        )
    both = np.sort(readers * n_datasets + rows)
    twice = np.flatnonzero(both[1:] == both[:-1])
    if len(twice):
        reader, row = divmod(int(both[twice[0]]), n_datasets)
        name = graph.datasets().show(row)
        raise graph.error(graph.show_quantum(reader), f"inputs: {name} is there twice")


def _edges(reads: tuple[Integers, Integers], datasets: pa.Table, n_quanta: int) -> Edges:
    starts, rows = reads
    producers = datasets["producer_row"].fill_null(-1).to_numpy()[rows].astype(np.int64)
    readers = np.repeat(np.arange(n_quanta), np.diff(starts))
    inside = producers >= 0
    return Edges(producers[inside], readers[inside], n_quanta)


def _check_no_circle(graph: ColumnarGraph, edges: Edges, levels: Integers) -> None:
    around = np.array(edges.circle(levels), np.int64)
    if len(around):
        table = graph.id_table(around)
        labels = [graph.labels[code] for code in graph.label_codes(table)]
        shown = show_circle(zip(labels, graph.data_ids(table), strict=True))
        raise graph.error("quanta", f"the quanta depend on each other in a circle: {shown}")
