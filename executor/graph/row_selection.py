# SPDX-License-Identifier: BSD-3-Clause
"""The rows of the quanta that are meant, found in columns."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from executor.graph.column_codes import Integers
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.graph_reader import value_problem
from executor.graph.graph_tables import DIMENSION_PREFIX
from executor.graph.selection import Selection, SelectionError
from registry.model import DataIdValue, printable


def selected_rows(graph: ColumnarGraph, selection: Selection) -> Integers:
    """The rows of *quanta* that are selected, in the order of the graph.

    Raises
    ------
    SelectionError
        If a quantum, a task label or a dimension is not there, or if nothing is left.
    GraphError
        If the file is damaged.
    """
    if selection.quantum_ids:
        found = [(quantum_id, graph.find(quantum_id)) for quantum_id in selection.quantum_ids]
        missing = sorted(quantum_id for quantum_id, row in found if row is None)
        if missing:
            raise SelectionError(
                f"{graph.name}: there is no quantum {printable(', '.join(missing))}"
            )
        rows = np.array(sorted(row for _, row in found if row is not None), np.int64)
    else:
        rows = np.arange(len(graph))
    if selection.task_labels:
        bounds = [graph.rows_of_task(label) for label in sorted(selection.task_labels)]
        inside = [(rows >= start) & (rows < end) for start, end in bounds]
        rows = rows[np.logical_or.reduce(inside)]
    if selection.data_ids:
        masks = [_matching(graph, rows, wanted) for wanted in selection.data_ids]
        rows = rows[np.logical_or.reduce(masks)]
    if not len(rows) and not selection.is_everything:
        raise SelectionError(f"{graph.name}: no quantum is what was asked for")
    position = graph.quanta_rows.take(rows, ["position"])["position"].to_numpy()
    return rows[np.argsort(position, kind="stable")]


def _matching(
    graph: ColumnarGraph, rows: Integers, wanted: Mapping[str, DataIdValue]
) -> npt.NDArray[np.bool_]:
    """Which rows `executor.graph.selection.matches`."""
    is_match = np.ones(len(rows), bool)
    for name, value in wanted.items():
        kind = graph.header.dimensions.get(name)
        if kind is None:
            raise SelectionError(
                f"{graph.name}: expected one of the dimensions {sorted(graph.header.dimensions)}, "
                f"found {name!r}"
            )
        column = graph.quanta_rows.take(rows, [DIMENSION_PREFIX + name])[0]
        if value_problem(value):
            is_match[:] = False
        elif kind == "int":
            number = int(value) if str(value).lstrip("-").isdecimal() else None
            if number is None or str(number) != str(value) or value_problem(number):
                is_match[:] = False
            else:
                is_match &= pc.equal(column, number).fill_null(False).to_numpy()
        else:
            is_match &= pc.equal(column, str(value)).fill_null(False).to_numpy()
    return is_match
