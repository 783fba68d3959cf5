# SPDX-License-Identifier: BSD-3-Clause
"""What is to be run: quanta of one RUN in their order, each job made only when it is wanted."""

import graphlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from executor.graph.quantum_graph import Graph
from registry.graph_record import PredictedQuantum
from registry.job import DataMode, Job, PredictedInput
from transfer_plugins.deltas import IsTrusted, trusting
from transfer_plugins.object_store import ObjectStore


def _no_readers(quantum_ids: Collection[str]) -> Mapping[str, frozenset[str]]:
    return {}


@dataclass(frozen=True)
class Plan:
    """Quanta that are to be run, by id, and the function that gives the job of one.

    ``rule_of`` gives the rule by which deltas of a quantum count; ``task_labels`` are in the order
    in which people are shown them. ``readers_of`` gives, for some quanta of the plan,
    the quanta of the whole RUN that read their outputs, by dataset id. ``graph_of`` gives the graph
    of a quantum's job; the job tells if there is none.
    """

    run: str
    quanta: Mapping[str, PredictedQuantum]
    job_of: Callable[[str], Job]
    rule_of: Callable[[str], IsTrusted]
    task_labels: list[str]
    readers_of: Callable[[Collection[str]], Mapping[str, frozenset[str]]] = _no_readers
    graph_of: Callable[[str], str] | None = None

    def graph_id_of(self, quantum_id: str) -> str:
        """The id of the graph that the job of a quantum belongs to."""
        return self.graph_of(quantum_id) if self.graph_of else self.job_of(quantum_id).graph_id

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
        lambda quantum_ids: readers(
            (q.quantum_id, q.inputs) for q in graph.quanta if graph.data_mode is DataMode.STAGED
        ),
        lambda quantum_id: graph.graph_id,
    )


def readers(
    inputs: Iterable[tuple[str, Iterable[PredictedInput]]],
) -> dict[str, frozenset[str]]:
    """Turn what each quantum reads into who reads each dataset."""
    found: dict[str, set[str]] = {}
    for quantum_id, read in inputs:
        for dataset in read:
            found.setdefault(dataset.dataset_id, set()).add(quantum_id)
    return {dataset_id: frozenset(quantum_ids) for dataset_id, quantum_ids in found.items()}


def labels_of(quanta: Mapping[str, PredictedQuantum]) -> list[str]:
    """Task labels in the order in which they first appear."""
    return list(dict.fromkeys(quantum.task_label for quantum in quanta.values()))
