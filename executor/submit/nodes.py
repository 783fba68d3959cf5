# SPDX-License-Identifier: BSD-3-Clause
"""Nodes: the jobs of a plan as DAGMan sees them, each with one quantum or those of a cluster."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from executor.submit.plan import Plan
from registry.quantum_cluster import QuantumCluster


@dataclass(frozen=True, slots=True)
class Node:
    """A job as DAGMan sees it.

    ``label`` (a task label, or the label of a cluster) chooses the submit file; ``job_file`` is the
    key of its job or cluster file below the control prefix of the RUN (``jobs/<quantum id>.json``,
    ``clusters/<cluster id>.json``). ``parents`` are names of nodes. ``memory_mib`` is what the
    first try asks for, where earlier attempts tell that the label's request is not enough.
    ``task_labels``: one for each quantum where they differ from ``label``, as in a cluster.
    """

    name: str
    label: str
    job_file: str
    quantum_ids: tuple[str, ...]
    parents: frozenset[str] = frozenset()
    is_done: bool = False
    memory_mib: int | None = None
    task_labels: tuple[str, ...] = ()

    def quanta_by_task(self) -> Counter[str]:
        """How many quanta of each task label there are in the job."""
        return Counter(self.labels_of_quanta())

    def labels_of_quanta(self) -> Sequence[str]:
        """The task label of each quantum."""
        return self.task_labels or [self.label] * len(self.quantum_ids)


def nodes_of_plan(
    plan: Plan, done: Collection[str] = (), clusters: Sequence[QuantumCluster] = ()
) -> list[Node]:
    """One node for each cluster, and one for each quantum of a plan that is in none.

    A node is done when all its quanta are in ``done``; of another the worker leaves out those that
    are.
    """
    shapes = _shapes(plan, clusters)
    names = {q: shape[0] for shape in shapes for q in shape[3]}
    nodes = []
    for name, label, job_file, quantum_ids in shapes:
        parents = {names[p] for q in quantum_ids for p in plan.parents_of(q)} - {name}
        is_done = all(q in done for q in quantum_ids)
        labels = tuple(plan.quanta[q].task_label for q in quantum_ids)
        found = Node(name, label, job_file, quantum_ids, frozenset(parents), is_done)
        if set(labels) != {label}:
            found = replace(found, task_labels=labels)
        nodes.append(found)
    return nodes


_Shape = tuple[str, str, str, tuple[str, ...]]


def _shapes(plan: Plan, clusters: Sequence[QuantumCluster]) -> list[_Shape]:
    """Name, label, job file and quanta of each node, in the order of the plan."""
    cluster_of = {m.quantum_id: cluster for cluster in clusters for m in cluster.members}
    found: dict[str, _Shape] = {}
    for quantum_id, quantum in plan.quanta.items():
        cluster = cluster_of.get(quantum_id)
        label = cluster.label if cluster else quantum.task_label
        if cluster is None or len(cluster.members) == 1:
            own = f"jobs/{quantum_id}.json"
            found[quantum_id] = (f"{label}_{quantum_id}", label, own, (quantum_id,))
        elif cluster.cluster_id not in found:
            name = f"{label}_{cluster.cluster_id}"
            members = tuple(member.quantum_id for member in cluster.members)
            file = f"clusters/{cluster.cluster_id}.json"
            found[cluster.cluster_id] = (name, label, file, members)
    return list(found.values())
