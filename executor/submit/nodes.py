# SPDX-License-Identifier: BSD-3-Clause
"""Nodes: the jobs of a plan as DAGMan sees them, each with one quantum or those of a cluster."""

from collections.abc import Collection
from dataclasses import dataclass

from executor.submit.plan import Plan


@dataclass(frozen=True, slots=True)
class Node:
    """A job as DAGMan sees it.

    ``label`` (a task label, or the label of a cluster) chooses the submit file; ``job_file`` is the
    key of its job or cluster file below the control prefix of the RUN (``jobs/<quantum id>.json``,
    ``clusters/<cluster id>.json``). ``parents`` are names of nodes. ``memory_mib`` is what the
    first try asks for, where earlier attempts tell that the label's request is not enough.
    """

    name: str
    label: str
    job_file: str
    quantum_ids: tuple[str, ...]
    parents: frozenset[str] = frozenset()
    is_done: bool = False
    memory_mib: int | None = None


def nodes_of_plan(plan: Plan, done: Collection[str] = ()) -> list[Node]:
    """One node for each quantum of a plan; those of ``done`` are not to be run."""
    names = {q: f"{quantum.task_label}_{q}" for q, quantum in plan.quanta.items()}
    return [
        Node(
            names[quantum_id],
            quantum.task_label,
            f"jobs/{quantum_id}.json",
            (quantum_id,),
            frozenset(names[parent] for parent in plan.parents_of(quantum_id)),
            quantum_id in done,
        )
        for quantum_id, quantum in plan.quanta.items()
    ]
