# SPDX-License-Identifier: BSD-3-Clause
"""A quantum graph in memory, and the jobs made from it."""

import graphlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from registry.graph_record import GRAPH_RECORD_FORMAT, GraphRecord, PredictedQuantum
from registry.job import JOB_FORMAT, DataMode, Job, PredictedInput, PredictedOutput, TaskCall
from registry.model import DataId, DatasetType, DimensionRecord, derived_id

OptionalTypes = tuple[set[str], set[str]]
"""Dataset types that a task may do without: of its inputs, and of its outputs."""


@dataclass(frozen=True, slots=True)
class Quantum:
    """One task on one data ID, with the datasets that it reads and makes."""

    quantum_id: str
    task_label: str
    data_id: DataId
    inputs: list[PredictedInput]
    outputs: list[PredictedOutput]


@dataclass(frozen=True)
class Graph:
    """Quanta that write into one RUN, with what they share.

    ``dimensions`` (each ``int`` or ``str``), ``optional_types`` by task label, and the datasets
    that nobody reads are what a graph file says beyond what its quanta show.
    """

    graph_id: str
    name: str
    run: str
    dataset_types: dict[str, DatasetType]
    dimension_records: list[DimensionRecord]
    tasks: dict[str, TaskCall]
    quanta: list[Quantum] = field(default_factory=list)
    data_mode: DataMode = DataMode.STAGED
    dimensions: dict[str, str] = field(default_factory=dict)
    optional_types: dict[str, OptionalTypes] = field(default_factory=dict)
    unread_inputs: list[PredictedInput] = field(default_factory=list)

    @cached_property
    def by_id(self) -> dict[str, Quantum]:
        """The quanta by their ids."""
        return {quantum.quantum_id: quantum for quantum in self.quanta}

    def parents_of(self, quantum: Quantum) -> set[str]:
        """Ids of the quanta of this graph whose outputs a quantum reads."""
        return {i.producer for i in quantum.inputs if i.producer in self.by_id}

    def sorter(self) -> "graphlib.TopologicalSorter[str]":
        """The order of the quanta; raises `graphlib.CycleError` when prepared, if there is none."""
        return graphlib.TopologicalSorter({q.quantum_id: self.parents_of(q) for q in self.quanta})

    def record(self) -> GraphRecord:
        """What the bucket keeps of the graph."""
        return GraphRecord(
            GRAPH_RECORD_FORMAT,
            self.graph_id,
            self.name,
            self.run,
            list(self.dataset_types.values()),
            self.dimension_records,
            len(self.quanta),
        )

    def predicted_quanta(self) -> Iterator[PredictedQuantum]:
        """What the merger needs of each quantum."""
        for quantum in self.quanta:
            yield PredictedQuantum(
                quantum.quantum_id,
                quantum.task_label,
                quantum.data_id,
                [output.dataset_id for output in quantum.outputs],
                sorted(self.parents_of(quantum)),
            )

    def job_of(self, quantum: Quantum) -> Job:
        """Everything that a worker must know to run one quantum, and nothing of the others."""
        names = {d.dataset_type for d in quantum.inputs} | {d.dataset_type for d in quantum.outputs}
        return Job(
            JOB_FORMAT,
            self.graph_id,
            self.run,
            quantum.quantum_id,
            quantum.task_label,
            quantum.data_id,
            self.tasks[quantum.task_label],
            [self.dataset_types[name] for name in sorted(names)],
            quantum.inputs,
            quantum.outputs,
            self._records_for(quantum),
            self.data_mode,
        )

    @cached_property
    def _records_by_data_id(self) -> dict[frozenset[tuple[str, object]], list[DimensionRecord]]:
        index: dict[frozenset[tuple[str, object]], list[DimensionRecord]] = {}
        for record in self.dimension_records:
            index.setdefault(frozenset(record.data_id.items()), []).append(record)
        return index

    @cached_property
    def _record_dimensions(self) -> set[frozenset[str]]:
        return {frozenset(record.data_id) for record in self.dimension_records}

    def _records_for(self, quantum: Quantum) -> list[DimensionRecord]:
        """The dimension records of the data IDs that the quantum and its datasets have."""
        index = self._records_by_data_id
        seen = [quantum.data_id]
        seen += [i.data_id for i in quantum.inputs] + [o.data_id for o in quantum.outputs]
        wanted = {
            frozenset((key, data_id[key]) for key in keys): None
            for data_id in seen
            for keys in self._record_dimensions
            if data_id.keys() >= keys
        }
        return [record for data_id in wanted for record in index.get(data_id, [])]


def derive_graph_id(run: str, quanta: list[Quantum]) -> str:
    """The id of a graph that is given none: from the RUN and which quanta read and make what."""
    shape = [
        [
            quantum.quantum_id,
            sorted(i.dataset_id for i in quantum.inputs),
            sorted(o.dataset_id for o in quantum.outputs),
        ]
        for quantum in quanta
    ]
    return derived_id("graph", run, sorted(shape))
