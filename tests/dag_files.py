# SPDX-License-Identifier: BSD-3-Clause
"""Node status files as DAGMan writes them, for a graph of the factories."""

from collections.abc import Sequence
from pathlib import Path

from merger.dag_status import NodeStatus
from tests.factories import Graph


def write_dag_status(
    path: Path, graph: Graph, statuses: Sequence[NodeStatus], *, is_ended: bool = False
) -> None:
    """Write the file under another name and rename it, as DAGMan does."""
    dag = NodeStatus.ERROR if is_ended else NodeStatus.SUBMITTED
    nodes = [
        f"""[
  Type = "NodeStatus";
  Node = "{quantum.task_label}_{quantum.quantum_id}";
  NodeStatus = {int(status)}; /* "STATUS_{status.name}" */
  StatusDetails = "";
]
"""
        for quantum, status in zip(graph.quanta, statuses, strict=True)
    ]
    head = f'[\n  Type = "DagStatus";\n  DagStatus = {int(dag)}; /* "STATUS_{dag.name} ()" */\n]\n'
    part = path.with_suffix(".tmp")
    part.write_text(head + "".join(nodes) + '[\n  Type = "StatusEnd";\n  NextUpdate = 0;\n]\n')
    part.rename(path)
