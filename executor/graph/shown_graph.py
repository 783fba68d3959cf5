# SPDX-License-Identifier: BSD-3-Clause
"""A graph for people: tables that fit a terminal, quanta with what they read and make."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.difference import Difference
from executor.graph.graph_header import header_document
from executor.graph.graph_statistics import GraphStatistics
from executor.graph.quantum_graph import Quantum
from registry import typed_json
from registry.job import PredictedInput
from registry.model import format_data_id, printable

_MAX_DATASETS = 10
_MAX_QUANTA = 20
"""What is shown of one quantum, and of many; ``--json`` has all."""


def show_header(graph: ColumnarGraph, console: Console) -> None:
    """Show what all quanta share."""
    document = header_document(graph.header)
    dimensions = ", ".join(f"{name} ({kind})" for name, kind in document["dimensions"].items())
    console.print(Text(f"graph {document['name']!r}, RUN {graph.header.run}"))
    if graph.stored_graph_id is not None:
        console.print(Text(f"graph id {graph.stored_graph_id}"))
    console.print(Text(f"{len(graph)} quanta; dimensions: {dimensions or 'none'}"))
    tasks = Table("task label", "quanta", "runs", "resources")
    for label, task in document["tasks"].items():
        start, end = graph.rows_of_task(label)
        runs = task.get("function") or " ".join(task.get("command", []))
        asked = ", ".join(f"{name} {value}" for name, value in task.get("resources", {}).items())
        tasks.add_row(label, str(end - start), Text(printable(runs)), asked)
    console.print(tasks)
    kinds = Table("dataset type", "dimensions", "storage class", "extension")
    for name, kind in document["dataset_types"].items():
        dimension_names = ", ".join(kind["dimensions"])
        kinds.add_row(name, dimension_names, Text(kind["storage_class"]), kind["extension"])
    console.print(kinds)


def header_report(graph: ColumnarGraph) -> dict[str, Any]:
    """What all quanta share, for ``--json``."""
    counts = {label: int(end - start) for label, (start, end) in _bounds(graph)}
    return {
        **header_document(graph.header),
        "graph_id": graph.stored_graph_id,
        "n_quanta": len(graph),
        "n_quanta_of_task": counts,
    }


def _bounds(graph: ColumnarGraph) -> Iterator[tuple[str, tuple[int, int]]]:
    return ((label, graph.rows_of_task(label)) for label in graph.labels)


def show_quanta(quanta: Iterable[Quantum], n_quanta: int, console: Console) -> None:
    """Show quanta, the first of many."""
    for number, quantum in enumerate(quanta):
        if number == _MAX_QUANTA:
            console.print(f"… and {n_quanta - number} quanta more (--json has all)")
            return
        name = f"{quantum.task_label} ({format_data_id(quantum.data_id)})"
        console.print(Text(f"{quantum.quantum_id} {name}"), soft_wrap=True)
        for line in _cut([_input(found) for found in quantum.inputs]):
            console.print(Text(f"  in   {line}"), soft_wrap=True)
        for line in _cut(
            [
                f"{o.dataset_type} ({format_data_id(o.data_id)}){_optional(o.optional)}"
                for o in quantum.outputs
            ]
        ):
            console.print(Text(f"  out  {line}"), soft_wrap=True)


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= _MAX_DATASETS:
        return lines
    return [*lines[:_MAX_DATASETS], f"… and {len(lines) - _MAX_DATASETS} more (--json has all)"]


def _input(found: PredictedInput) -> str:
    source = found.key or f"made by {found.producer}"
    name = f"{found.dataset_type} ({format_data_id(found.data_id)})"
    return f"{name}{_optional(found.optional)}  {source}"


def _optional(is_optional: bool) -> str:
    return ", optional" if is_optional else ""


def quantum_reports(quanta: Iterable[Quantum]) -> Iterator[str]:
    """Quanta as JSON, one by one."""
    return (typed_json.encode(quantum) for quantum in quanta)


def show_statistics(found: GraphStatistics, console: Console) -> None:
    """Show the numbers of a graph."""
    table = Table("task label", "quanta", "inputs", "outputs", "edges")
    for task in found.tasks:
        numbers = (task.n_quanta, task.n_inputs, task.n_outputs, task.n_edges)
        table.add_row(task.task_label, *(str(number) for number in numbers))
    numbers = (found.n_quanta, found.n_inputs, found.n_outputs, found.n_edges)
    table.add_section()
    table.add_row("all", *(str(number) for number in numbers))
    console.print(table)
    console.print(f"depth {found.depth}, widest level {found.n_widest} quanta")
    console.print(
        f"{found.n_external_inputs} inputs from outside, {found.external_input_bytes} bytes in the "
        f"{found.n_external_inputs_of_known_size} whose size is known"
    )


def show_difference(found: Difference, console: Console) -> None:
    """Show what two graphs differ in."""
    for section, names in found.shared.items():
        for number, (name, what) in enumerate(names.items()):
            if number == _MAX_QUANTA:
                console.print(f"{section}: … and {len(names) - number} more (--json has all)")
                break
            console.print(Text(f"{section} {name}: {', '.join(what)}"), soft_wrap=True)
    for word, quanta in (
        ("added", found.added),
        ("removed", found.removed),
        ("changed", found.changed),
    ):
        for number, quantum in enumerate(quanta):
            if number == _MAX_QUANTA:
                console.print(f"{word}: … and {len(quanta) - number} more (--json has all)")
                break
            name = f"{quantum['task_label']} ({format_data_id(quantum['data_id'])})"
            told = f": {', '.join(quantum['what'])}" if "what" in quantum else ""
            console.print(Text(f"{word} {quantum['quantum_id']} {name}{told}"), soft_wrap=True)
    counts = (len(found.added), len(found.removed), len(found.changed))
    console.print("quanta: {} added, {} removed, {} changed".format(*counts))
