# SPDX-License-Identifier: BSD-3-Clause
"""Node status files as DAGMan writes them, for a graph of the factories."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from merger.dag_status import NodeStatus
from registry import names
from registry.quantum_cluster import ClusterMember, QuantumCluster, write_quantum_cluster
from tests.factories import Graph
from transfer_plugins.object_store import ObjectStore


def publish_cluster(store: ObjectStore, graph: Graph, cluster_id: str, *quanta: int) -> None:
    """Write the file of a job with several quanta."""
    members = [ClusterMember(graph.quanta[number].quantum_id) for number in quanta]
    cluster = QuantumCluster(1, graph.record.graph_id, graph.run, cluster_id, "chain", members)
    store.put(names.cluster_key(graph.run, cluster_id), write_quantum_cluster(cluster))


def write_dag_status(
    path: Path,
    graph: Graph,
    statuses: Sequence[NodeStatus],
    *,
    clusters: Mapping[str, NodeStatus] | None = None,
    is_ended: bool = False,
) -> None:
    """Write the file under another name and rename it, as DAGMan does.

    Parameters
    ----------
    statuses
        Of the graph's first quanta, which are nodes of their own.
    clusters
        Of nodes that stand for several.
    """
    dag = NodeStatus.ERROR if is_ended else NodeStatus.SUBMITTED
    named = [
        (f"{q.task_label}_{q.quantum_id}", s) for q, s in zip(graph.quanta, statuses, strict=False)
    ]
    named += [(f"chain_{cluster_id}", s) for cluster_id, s in (clusters or {}).items()]
    nodes = [
        f"""[
  Type = "NodeStatus";
  Node = "{name}";
  NodeStatus = {int(status)}; /* "STATUS_{status.name}" */
  StatusDetails = "";
]
"""
        for name, status in named
    ]
    head = f'[\n  Type = "DagStatus";\n  DagStatus = {int(dag)}; /* "STATUS_{dag.name} ()" */\n]\n'
    part = path.with_suffix(".tmp")
    part.write_text(head + "".join(nodes) + '[\n  Type = "StatusEnd";\n  NextUpdate = 0;\n]\n')
    part.rename(path)
