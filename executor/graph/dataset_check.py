# SPDX-License-Identifier: BSD-3-Clause
"""What the datasets of a graph must hold to, asked of their columns."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from executor.graph.column_codes import Integers, combine_codes, first_duplicate, value_codes
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.derived_columns import Ids, id_texts, with_given_ids
from executor.graph.graph_reader import MAX_PATH_BYTES, key_problem
from executor.graph.graph_tables import DIMENSION_PREFIX, OUTSIDE
from executor.graph.placed_yaml import GraphError
from registry import names
from registry.errors import InvalidNameError


def check_datasets(
    graph: ColumnarGraph, table: pa.Table, producers: Integers, quantum_ids: Ids
) -> None:
    """Check *datasets*.

    Parameters
    ----------
    producers
        The row of the quantum that makes each of the first datasets; the others are from outside.

    Raises
    ------
    GraphError
    """
    n_made = len(producers)
    told = table["producer_row"].fill_null(-1).to_numpy()
    wrong = np.flatnonzero(told != np.concatenate([producers, np.full(len(told) - n_made, -1)]))
    if len(wrong):
        raise _error(graph, wrong, "producer_row: expected the quantum that makes it")
    for name in OUTSIDE.names:
        given = table[name].slice(0, n_made).is_valid().to_numpy()
        if name != "dataset_id" and given.any():
            raise _error(graph, np.flatnonzero(given), f"{name}: is given, but a quantum makes it")
    _check_once(graph, table, n_made)
    _check_outside(graph, table, n_made, quantum_ids)
    _check_ids(graph, table)
    _check_paths(graph, table)


def _error(graph: ColumnarGraph, rows: Integers, message: str) -> GraphError:
    """The error for the first of some rows."""
    row = int(rows[0])
    return graph.error(f"datasets: row {row}", f"{graph.datasets().show(row)}: {message}")


def _check_once(graph: ColumnarGraph, table: pa.Table, n_made: int) -> None:
    kinds = graph.datasets().kind_codes(table)
    there = {
        name: table[DIMENSION_PREFIX + name].is_valid().to_numpy()
        for name in graph.header.dimensions
    }
    for code, kind in enumerate(graph.header.dataset_types.values()):
        rows = np.flatnonzero(kinds == code)
        for name, mask in there.items():
            wrong = rows[mask[rows] != (name in kind.dimensions)]
            if len(wrong):
                raise _error(graph, wrong, f"expected a data ID with dimensions {kind.dimensions}")
        some = table.take(pa.array(rows))
        columns = [value_codes(some[DIMENSION_PREFIX + name]) for name in kind.dimensions]
        twice = first_duplicate(combine_codes(columns, len(rows)))
        if twice is not None:
            later, first = int(rows[twice[0]]), int(rows[twice[1]])
            if later < n_made:
                makers = table["producer_row"].take(pa.array([first, later])).to_pylist()
                ids = " and ".join(graph.show_quantum(row) for row in makers)
                raise _error(graph, rows[[twice[0]]], f"is made by two quanta: {ids}")
            also = "is also made by a quantum" if first < n_made else "is there twice"
            raise _error(graph, rows[[twice[0]]], also)


def _check_outside(graph: ColumnarGraph, table: pa.Table, n_made: int, quantum_ids: Ids) -> None:
    outside = table.slice(n_made)
    has_key, has_producer = (outside[n].is_valid().to_numpy() for n in ("key", "producer"))
    neither = np.flatnonzero(~has_key & ~has_producer)
    if len(neither):
        raise _error(graph, neither + n_made, "is made by no quantum and has no key")
    if (has_key & has_producer).any():
        wrong = np.flatnonzero(has_key & has_producer)
        raise _error(graph, wrong + n_made, "expected either 'key' or 'producer'")
    if outside["run"].null_count:
        wrong = np.flatnonzero(outside["run"].is_null().to_numpy())
        raise _error(graph, wrong + n_made, "run: expected the RUN that it is in, found none")
    for run in pc.unique(outside["run"].cast(pa.string())).to_pylist():
        try:
            names.check_run(run)
        except InvalidNameError as error:
            raise graph.error("datasets: run", str(error)) from error
    for row, key in enumerate(outside["key"].to_pylist()):
        problem = "" if key is None else key_problem(key)
        if problem:
            wrong = np.array([row + n_made])
            raise _error(graph, wrong, f"key: expected {problem}; found {key!r}")
    negative = pc.less(outside["size_bytes"], 0).fill_null(False).to_numpy()
    if negative.any():
        wrong = np.flatnonzero(negative)
        raise _error(graph, wrong + n_made, "size_bytes: expected a number of bytes, found less")
    if has_producer.any():
        of_graph = pa.array([row.tobytes() for row in quantum_ids], pa.binary(16))
        inside = pc.is_in(outside["producer"], value_set=of_graph).to_numpy() & has_producer
        if inside.any():
            wrong = np.flatnonzero(inside) + n_made
            raise _error(graph, wrong, "its producer is a quantum of this graph, without it")


def _check_ids(graph: ColumnarGraph, table: pa.Table) -> None:
    """Let no two datasets have one id, which derived ones never have."""
    if table["dataset_id"].null_count == table.num_rows:
        return
    ids = with_given_ids(graph.datasets().ids(table), table["dataset_id"])
    twice = first_duplicate(np.unique(ids, axis=0, return_inverse=True)[1].reshape(-1))
    if twice is not None:
        shown = id_texts(ids[twice[0] : twice[0] + 1])[0]
        raise _error(graph, np.array([twice[0]]), f"row {twice[1]} also has the id {shown}")


def _check_paths(graph: ColumnarGraph, table: pa.Table) -> None:
    """Let no path be too long for a key; nor be there twice, which needs RUNs below each other."""
    paths = graph.datasets().paths(table)
    long = np.flatnonzero(pc.greater(pc.binary_length(paths), MAX_PATH_BYTES).to_numpy(False))
    if len(long):
        raise _error(graph, long, "its key would be longer than the 1024 bytes of S3")
    runs = pc.unique(table["run"].cast(pa.string()).fill_null(graph.header.run)).to_pylist()
    if any(one.startswith(f"{other}/") for one in runs for other in runs):
        twice = first_duplicate(value_codes(pa.chunked_array([paths])))
        if twice is not None:
            raise _error(graph, np.array([twice[0]]), f"row {twice[1]} has the same path")
