# SPDX-License-Identifier: BSD-3-Clause
"""A part of a graph as a graph of its own, in the same RUN and with the same ids."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from executor.graph.column_codes import Integers, ranges
from executor.graph.columnar_check import CheckedColumns
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.gathered_quanta import with_index
from executor.graph.graph_tables import TableRows, datasets_schema, quanta_schema


def with_neighbours(
    checked: CheckedColumns, rows: Integers, *, upstream: bool, downstream: bool
) -> Integers:
    """Quanta with all that they wait for, or that wait for them, or both; sorted."""
    found = [rows]
    if upstream:
        found.append(checked.edges.following(rows, upwards=True))
    if downstream:
        found.append(checked.edges.following(rows))
    return np.unique(np.concatenate(found))


def subset(graph: ColumnarGraph, checked: CheckedColumns, rows: Integers) -> ColumnarGraph:
    """The graph of some quanta.

    What quanta that are left out make becomes an input from outside, with its producer. The id of
    the graph is derived, since it is another graph.

    Parameters
    ----------
    rows
        Rows of *quanta*, sorted.

    Raises
    ------
    GraphError
    """
    counts = np.diff(checked.makes[0])[rows]
    made = ranges(checked.makes[0][rows], counts)
    starts, reads = checked.reads
    n_reads = np.diff(starts)[rows]
    read = reads[ranges(starts[rows], n_reads)]
    outside = np.setdiff1d(read, made)
    # The rows of *datasets* that are kept, and where each is now.
    kept = np.concatenate([made, outside])
    place = np.full(graph.datasets_rows.n_rows, -1, np.int64)
    place[kept] = np.arange(len(kept))
    schema = quanta_schema(graph.header.dimensions)
    table = graph.quanta_rows.take(rows)
    columns = {name: table[name] for name in schema.names}
    order = np.argsort(table["position"].to_numpy(), kind="stable")
    columns["position"] = pa.array(np.argsort(order, kind="stable"))
    columns["first_output"] = pa.array(np.cumsum(counts) - counts)
    offsets = np.concatenate([[0], np.cumsum(n_reads)]).astype(np.int32)
    columns["reads"] = pa.ListArray.from_arrays(
        offsets, place[read].astype(np.int32), type=schema.field("reads").type
    )
    labels = graph.label_codes(table)
    bounds = {
        label: tuple(np.searchsorted(labels, [code, code + 1]).tolist())
        for code, label in enumerate(graph.labels)
    }
    found = replace(
        graph,
        header=replace(graph.header, graph_id=None),
        task_rows=bounds,
        quanta_rows=TableRows(pa.table(columns, schema=schema)),
        datasets_rows=TableRows(_datasets(graph, checked, kept, counts)),
        stored_graph_id=None,
        index_rows=None,
    )
    return with_index(found)


def _datasets(
    graph: ColumnarGraph, checked: CheckedColumns, kept: Integers, counts: Integers
) -> pa.Table:
    """The datasets that are kept: those made by quanta that are left out get their producer."""
    schema = datasets_schema(graph.header.dimensions)
    table = graph.datasets_rows.take(kept)
    columns = {name: table[name] for name in schema.names}
    makers = table["producer_row"].fill_null(-1).to_numpy()
    n_made = int(counts.sum())
    is_cut = (np.arange(len(kept)) >= n_made) & (makers >= 0)
    ids = [
        checked.quantum_ids[maker].tobytes() if cut else None
        for maker, cut in zip(makers, is_cut, strict=True)
    ]
    producers = [
        own or given for own, given in zip(ids, table["producer"].to_pylist(), strict=True)
    ]
    runs = [
        graph.header.run if cut else run
        for cut, run in zip(is_cut, table["run"].to_pylist(), strict=True)
    ]
    columns["producer"] = pa.array(producers, pa.binary(16))
    columns["run"] = pa.array(runs, pa.string()).dictionary_encode()
    rows = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    columns["producer_row"] = pa.concat_arrays(
        [pa.array(rows), pa.nulls(len(kept) - n_made, pa.int32())]
    )
    return pa.table(columns, schema=schema)
