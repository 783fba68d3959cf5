# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec graph``: asking graph files, and making others of them."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from executor.command_options import DatastoreOption, EndpointOption, JsonOption, RunOption
from executor.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from executor.graph.columnar_check import CheckedColumns
    from executor.graph.columnar_graph import ColumnarGraph

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Ask graph files, and make others of them.",
)

GraphArgument = Annotated[Path, typer.Argument(help="graph file, YAML or columnar")]
OutArgument = Annotated[
    Path, typer.Argument(help="file to write: .yaml, .yml, or .qgraph for columns")
]
QuantumOption = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Option("--quantum", help="quantum id; may be given several times"),
]
TaskOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--task", help="task label; may be given several times"),
]
DataIdOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--data-id", help="such as exposure=3,detector=1; may be given several times"),
]


@app.command()
def check(graph: GraphArgument, run: RunOption = None, as_json: JsonOption = False) -> None:
    """Check a graph file; exit code 2 and the place of the first error if it is wrong.

    Example: quantum-exec graph check graph.yaml
    """
    from executor.graph.columnar_check import graph_id_of
    from executor.graph.graph_statistics import graph_statistics

    found, checked = _checked(graph, run)
    counts = graph_statistics(found, checked)
    graph_id = graph_id_of(found, checked)
    if as_json:
        tasks = {task.task_label: task.n_quanta for task in counts.tasks}
        report = {
            **{"graph": str(graph), "valid": True, "graph_id": graph_id, "run": found.header.run},
            **{"n_quanta": counts.n_quanta, "n_outputs": counts.n_outputs},
            **{"n_external_inputs": counts.n_external_inputs, "n_quanta_of_task": tasks},
        }
        print(json.dumps(report))
        return
    print(
        f"{graph}: valid: {counts.n_quanta} quanta of {len(counts.tasks)} task labels, "
        f"{counts.n_outputs} outputs, {counts.n_external_inputs} inputs from outside"
    )
    print(f"RUN {found.header.run}, graph id {graph_id}")


@app.command()
def show(
    graph: GraphArgument,
    quantum: QuantumOption = None,
    task: TaskOption = None,
    data_id: DataIdOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what all quanta share, or the quanta that are asked for with inputs and outputs.

    Example: quantum-exec graph show graph.yaml --task isr --data-id exposure=3
    """
    from executor.graph import shown_graph
    from executor.graph.graph_forms import open_graph
    from executor.graph.row_selection import selected_rows
    from executor.graph.selection import Selection

    selection = Selection.of(quantum or (), task or (), data_id or ())
    found = open_graph(graph, run=run)
    if selection.is_everything and as_json:
        print(json.dumps(shown_graph.header_report(found), ensure_ascii=False))
    elif selection.is_everything:
        shown_graph.show_header(found, _console())
    else:
        rows = selected_rows(found, selection)
        quanta = found.quanta_at(rows)
        if as_json:
            head = {"run": found.header.run, "n_quanta": len(rows)}
            _print_list(head, "quanta", shown_graph.quantum_reports(quanta))
        else:
            shown_graph.show_quanta(quanta, len(rows), _console())


@app.command()
def stats(graph: GraphArgument, as_json: JsonOption = False) -> None:
    """Count quanta, inputs, outputs and edges per task label; tell depth and widest level.

    Example: quantum-exec graph stats graph.qgraph
    """
    from executor.graph.graph_statistics import graph_statistics
    from executor.graph.shown_graph import show_statistics

    found = graph_statistics(*_checked(graph, None))
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        show_statistics(found, _console())


@app.command()
def urls(
    graph: GraphArgument,
    datastore: DatastoreOption,
    quantum: QuantumOption = None,
    task: TaskOption = None,
    data_id: DataIdOption = None,
    resolve: Annotated[
        bool, typer.Option("--resolve", help="ask the bucket for the attempt that counts")
    ] = False,
    run: RunOption = None,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what each quantum gets from and puts into the datastore, one URI per line.

    Tab-separated: quantum id, task label, get or put, URI. An attempt that is not known yet is
    {attempt}, or {attempt20} in its short form.

    Example: quantum-exec graph urls graph.yaml --datastore s3://bucket/repo --task isr
    """
    from executor.graph.graph_forms import open_graph
    from executor.graph.object_urls import object_urls
    from executor.graph.row_selection import selected_rows
    from executor.graph.selection import Selection
    from transfer_plugins.deltas import standing_of
    from transfer_plugins.object_store import open_store

    selection = Selection.of(quantum or (), task or (), data_id or ())
    store = open_store(datastore, endpoint_url=endpoint_url)
    found = open_graph(graph, run=run)
    listed = object_urls(
        found,
        found.quanta_at(selected_rows(found, selection)),
        datastore,
        (lambda run, quantum_id: standing_of(store, run, quantum_id).counting) if resolve else None,
    )
    if as_json:
        lines = (json.dumps(asdict(url), ensure_ascii=False) for url in listed)
        _print_list({"run": found.header.run}, "urls", lines)
    else:
        for url in listed:
            print(url.quantum_id, url.task_label, url.direction, url.uri, sep="\t")


@app.command()
def subset(
    graph: GraphArgument,
    out: OutArgument,
    quantum: QuantumOption = None,
    task: TaskOption = None,
    data_id: DataIdOption = None,
    upstream: Annotated[
        bool, typer.Option("--upstream", help="with all that these quanta wait for")
    ] = False,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="with all that wait for these quanta")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a graph of some quanta; what others make becomes an input that names its producer.

    Example: quantum-exec graph subset graph.yaml part.yaml --task isr --downstream
    """
    from executor.graph import subset as parts
    from executor.graph.graph_forms import write_graph
    from executor.graph.row_selection import selected_rows
    from executor.graph.selection import Selection

    selection = Selection.of(quantum or (), task or (), data_id or ())
    found, checked = _checked(graph, None)
    rows = selected_rows(found, selection)
    rows = parts.with_neighbours(checked, rows, upstream=upstream, downstream=downstream)
    part = parts.subset(found, checked, rows)
    write_graph(part, out)
    _report_written(part, out, as_json)


@app.command()
def diff(
    one: Annotated[Path, typer.Argument(help="graph file")],
    other: Annotated[Path, typer.Argument(help="graph file to compare it with")],
    run: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--run", help="RUN that both are read for, since ids follow from it"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what two graphs differ in; exit code 0 if they are the same, else 40.

    Example: quantum-exec graph diff graph.yaml graph.qgraph
    """
    from executor.graph.difference import difference
    from executor.graph.graph_forms import open_graph
    from executor.graph.shown_graph import show_difference

    found = difference(*(open_graph(path, run=run).in_memory() for path in (one, other)))
    if as_json:
        print(json.dumps({"same": not found, **asdict(found)}, ensure_ascii=False))
    else:
        show_difference(found, _console())
    raise typer.Exit(ExitCode.OUTPUTS_DIFFER if found else ExitCode.SUCCESS)


@app.command()
def convert(
    graph: GraphArgument, out: OutArgument, run: RunOption = None, as_json: JsonOption = False
) -> None:
    """Write a graph in the other form, or in the same; nothing is lost.

    Example: quantum-exec graph convert graph.yaml graph.qgraph
    """
    from executor.graph.gathered_quanta import with_index
    from executor.graph.graph_forms import write_graph

    found = with_index(*_checked(graph, run))
    write_graph(found, out)
    _report_written(found, out, as_json)


def _checked(path: Path, run: str | None) -> "tuple[ColumnarGraph, CheckedColumns]":
    """A whole graph in memory, checked."""
    from executor.graph.columnar_check import check_file
    from executor.graph.graph_forms import open_graph

    found = open_graph(path, run=run).in_memory()
    return found, check_file(found)


def _report_written(graph: "ColumnarGraph", out: Path, as_json: bool) -> None:
    if as_json:
        report = {"graph": str(out), "graph_id": graph.stored_graph_id, "n_quanta": len(graph)}
        print(json.dumps(report))
    else:
        print(f"{out}: {len(graph)} quanta, graph id {graph.stored_graph_id}")


def _print_list(head: dict[str, object], name: str, elements: Iterable[str]) -> None:
    """One JSON object whose last member is a list that need not fit memory."""
    print(json.dumps({**head, name: []}, ensure_ascii=False)[:-2], end="")
    separator = ""
    for element in elements:
        print(separator + element, end="")
        separator = ", "
    print("]}")


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False)
