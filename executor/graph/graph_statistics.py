# SPDX-License-Identifier: BSD-3-Clause
"""How many quanta and datasets a graph has, how deep and how wide it is."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from executor.graph.columnar_check import CheckedColumns
from executor.graph.columnar_graph import ColumnarGraph


@dataclass(frozen=True, slots=True)
class TaskStatistics:
    """Numbers of a task label; ``n_edges`` are pairs of a quantum and one that it waits for."""

    task_label: str
    n_quanta: int
    n_inputs: int
    n_outputs: int
    n_edges: int


@dataclass(frozen=True, slots=True)
class GraphStatistics:
    """Numbers of a graph.

    ``depth`` is the number of quanta in the longest chain, ``n_widest`` that of quanta in the
    widest level, which could run at once. Sizes are those that the graph tells, in bytes.
    """

    n_quanta: int
    n_inputs: int
    n_outputs: int
    n_edges: int
    depth: int
    n_widest: int
    n_external_inputs: int
    n_external_inputs_of_known_size: int
    external_input_bytes: int
    tasks: list[TaskStatistics]


def graph_statistics(graph: ColumnarGraph, checked: CheckedColumns) -> GraphStatistics:
    """Count, from what a check has found out."""
    n_reads, n_makes = (np.diff(starts) for starts, _ in (checked.reads, checked.makes))
    edges = np.unique(checked.edges.child * max(1, len(graph)) + checked.edges.parent)
    children = edges // max(1, len(graph))
    tasks = []
    for label in graph.labels:
        start, end = graph.rows_of_task(label)
        n_edges = np.searchsorted(children, end) - np.searchsorted(children, start)
        counts = (end - start, n_reads[start:end].sum(), n_makes[start:end].sum(), n_edges)
        tasks.append(TaskStatistics(label, *(int(count) for count in counts)))
    widths = np.bincount(checked.levels) if len(graph) else np.zeros(1, np.int64)
    n_made = int(checked.makes[0][-1])
    sizes = graph.datasets_rows.whole(["size_bytes"])["size_bytes"].slice(n_made)
    return GraphStatistics(
        len(graph),
        int(n_reads.sum()),
        int(n_makes.sum()),
        len(edges),
        int(checked.levels.max() + 1) if len(graph) else 0,
        int(widths.max()),
        len(sizes),
        len(sizes) - sizes.null_count,
        pc.sum(sizes).as_py() or 0,
        tasks,
    )
