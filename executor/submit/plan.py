# SPDX-License-Identifier: BSD-3-Clause
"""What is to be run: quanta of one RUN in their order, each job made only when it is wanted."""

import graphlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from executor.graph.quantum_graph import Graph
from registry.graph_record import PredictedQuantum
from registry.job import Job
from transfer_plugins.deltas import IsTrusted, trusting
from transfer_plugins.object_store import ObjectStore


@dataclass(frozen=True)
class Plan:
    """Quanta that are to be run, by id, and the function that gives the job of one.

    ``rule_of`` gives the rule by which deltas of a quantum count; ``task_labels`` are in the order
    in which people are shown them.
    """

    run: str
    quanta: Mapping[str, PredictedQuantum]
    job_of: Callable[[str], Job]
    rule_of: Callable[[str], IsTrusted]
    task_labels: list[str]

    def parents_of(self, quantum_id: str) -> frozenset[str]:
        """Ids of the quanta of this plan that must end before this one begins."""
        return frozenset(p for p in self.quanta[quantum_id].parents if p in self.quanta)

    def sorter(self) -> "graphlib.TopologicalSorter[str]":
        """The order of the quanta; raises `graphlib.CycleError` when prepared, if there is none."""
        return graphlib.TopologicalSorter({q: self.parents_of(q) for q in self.quanta})


def plan_of_graph(graph: Graph, store: ObjectStore) -> Plan:
    """The plan of a whole graph whose RUN is in a datastore."""
    return Plan(
        graph.run,
        {quantum.quantum_id: quantum for quantum in graph.predicted_quanta()},
        lambda quantum_id: graph.job_of(graph.by_id[quantum_id]),
        lambda quantum_id: trusting(store, graph.by_id[quantum_id], graph.run, graph.graph_id),
        list(graph.tasks),
    )


def labels_of(quanta: Mapping[str, PredictedQuantum]) -> list[str]:
    """Task labels in the order in which they first appear."""
    return list(dict.fromkeys(quantum.task_label for quantum in quanta.values()))
