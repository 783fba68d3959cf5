# SPDX-License-Identifier: BSD-3-Clause
"""What a file must say of a graph in memory beyond its quanta: ids given, datasets from outside."""

from executor.graph.graph_header import GraphHeader
from executor.graph.quantum_graph import Graph, Quantum, derive_graph_id
from registry.job import PredictedInput, PredictedOutput
from registry.model import derived_id
from registry.typed_json import canonical


def header_of(graph: Graph) -> GraphHeader:
    """What all quanta of a graph share, as a file says it."""
    is_derived = graph.graph_id == derive_graph_id(graph.run, graph.quanta)
    return GraphHeader(
        graph.name,
        graph.run,
        None if is_derived else graph.graph_id,
        graph.dimensions,
        graph.dataset_types,
        graph.tasks,
        {label: graph.optional_types.get(label, (set(), set())) for label in graph.tasks},
    )


def given_ids(run: str, quantum: Quantum) -> tuple[str | None, list[str | None]]:
    """The ids of a quantum and of its outputs that are not the derived ones."""
    derived = derived_id("quantum", run, quantum.task_label, quantum.data_id)
    return (
        None if quantum.quantum_id == derived else quantum.quantum_id,
        [given_dataset_id(run, output) for output in quantum.outputs],
    )


def given_dataset_id(run: str, found: PredictedInput | PredictedOutput) -> str | None:
    """The id of a dataset, if it is not the derived one."""
    derived = derived_id("dataset", run, found.dataset_type, found.data_id)
    return None if found.dataset_id == derived else found.dataset_id


def outside_inputs(graph: Graph) -> list[PredictedInput]:
    """Every dataset that no quantum of a graph makes, once."""
    made = {(o.dataset_type, canonical(o.data_id)) for q in graph.quanta for o in q.outputs}
    found: dict[tuple[str, str], PredictedInput] = {}
    read = [i for quantum in graph.quanta for i in quantum.inputs]
    for dataset in [*read, *graph.unread_inputs]:
        key = (dataset.dataset_type, canonical(dataset.data_id))
        if key not in made:
            found.setdefault(key, dataset)
    return list(found.values())
