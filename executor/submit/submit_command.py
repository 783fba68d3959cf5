# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec submit``: checks, then the bucket, then the queue; or a dry run."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from executor.command_options import (
    ConfigOption,
    DataOption,
    DatastoreOption,
    EndpointOption,
    ExtendOption,
    JsonOption,
    RunOption,
    WaitOption,
)
from executor.exit_codes import ExitCode
from registry.job import DataMode, ResourceRequest

if TYPE_CHECKING:
    from executor.graph.quantum_graph import Graph
    from executor.submit.arrangement import Arrangement
    from executor.submit.checks import Finding
    from executor.submit.configuration import SubmitConfiguration

_OptionalPath = Optional[Path]  # noqa: UP045 - typer reads it at run time


@dataclass(frozen=True)
class _Request:
    """What the command line asks for."""

    graph: "Graph"
    datastore: str
    configuration: "SubmitConfiguration"
    resources: dict[str, ResourceRequest]
    ignore_slots: bool


def submit(
    graph: Annotated[Path, typer.Argument(help="graph file, YAML or columnar")],
    datastore: DatastoreOption,
    config: ConfigOption = None,
    run: RunOption = None,
    extend: ExtendOption = False,
    data: DataOption = DataMode.STAGED,
    requests: Annotated[
        _OptionalPath,
        typer.Option(help="requests of task labels (YAML); go before those of --config"),
    ] = None,
    requests_from: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="RUN", help="requests as measured in this RUN of the registry"),
    ] = None,
    ignore_slots: Annotated[
        bool,
        typer.Option("--ignore-slots", help="queue also what no slot of the pool can run now"),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="write the files into --output and queue nothing")
    ] = False,
    output: Annotated[
        _OptionalPath, typer.Option(help="empty directory for --dry-run; default: a new one")
    ] = None,
    wait: WaitOption = False,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a graph to the HTCondor pool as a DAG, registry-merge at its end.

    Quanta with a valid successful delta are marked done. While a DAG of the RUN is in the queue
    another is refused. Before anything is written or queued, the configuration, files, rights,
    and the slots of the pool are checked.

    --dry-run needs neither pool nor bucket, and takes no quantum for done.

    Exit codes: 1 the pool refused it or cannot be reached, or, with --wait, a node failed; 2 graph
    file, configuration or command line, or the pool can never run it; 32 the RUN belongs to
    another graph; 33 a DAG of it is queued; 38 datastore.

    Example: quantum-exec submit graph.yaml --datastore s3://bucket/repo --config submit.yaml
    """
    from executor.graph.graph_file import read_graph
    from executor.submit.configuration import read_submit_configuration
    from executor.submit.dag import control_url_prefix
    from executor.submit.earlier_requests import with_measured_requests

    configuration = read_submit_configuration(config).with_endpoint(endpoint_url)
    configuration = with_measured_requests(configuration, run=requests_from, file=requests)
    found = replace(read_graph(graph, run=run), data_mode=data)
    control_url_prefix(datastore, found.run)
    resources = {label: task.resources for label, task in found.tasks.items()}
    asked = _Request(found, datastore, configuration, resources, ignore_slots)
    if dry_run:
        raise typer.Exit(_show_dry_run(asked, output, as_json))
    raise typer.Exit(_submit(asked, extend, wait, as_json))


def _submit(asked: _Request, extend: bool, wait: bool, as_json: bool) -> int:
    from executor.submit.checks import raise_errors
    from executor.submit.dag_report import run_on_pool
    from executor.submit.plan import plan_of_graph
    from executor.submit.pool_queue import refuse_queued
    from executor.submit.pool_slots import check_rights, suited_to_pool
    from executor.submit.progress import error_console, progress_bar
    from executor.submit.publish import graphs_of_run, publish_graph, refuse_other_graphs
    from executor.submit.standings import counting_deltas
    from transfer_plugins.object_store import open_store

    graph = asked.graph
    arrangement = _arrange(asked)
    findings = _local_findings(asked, arrangement)
    raise_errors(findings)
    store = open_store(asked.datastore, endpoint_url=asked.configuration.s3_endpoint_url or None)
    # The first answer of the datastore.
    if extend:
        graphs_of_run(store, graph.run)
    else:
        refuse_other_graphs(graph, store)
    check_rights()
    refuse_queued(graph.run, asked.datastore)
    suited, of_pool = suited_to_pool(arrangement, asked.resources, is_elastic=asked.ignore_slots)
    _warn([*findings, *of_pool])
    raise_errors(of_pool)
    with progress_bar(error_console(), "job files", len(graph.quanta)) as bar:
        publish_graph(graph, store, extend=extend, on_job=lambda: bar.advance(bar.task_ids[0]))
    plan = plan_of_graph(graph, store)
    done = counting_deltas(store, graph.run, plan.quanta, plan.rule_of)
    end = run_on_pool(
        *(plan, done, store, asked.datastore, suited.configuration),
        wait=wait,
        resources=asked.resources,
    )
    print(json.dumps(end.as_dict()) if as_json else "\n".join(end.lines()))
    return end.exit_code or ExitCode.SUCCESS


def _show_dry_run(asked: _Request, output: Path | None, as_json: bool) -> int:
    from rich.console import Console

    from executor.submit.checks import Finding
    from executor.submit.dry_run import write_dry_run
    from executor.submit.pool_queue import PoolError
    from executor.submit.pool_slots import suited_to_pool

    arrangement = _arrange(asked)
    findings = _local_findings(asked, arrangement)
    try:
        arrangement, of_pool = suited_to_pool(
            arrangement, asked.resources, is_elastic=asked.ignore_slots
        )
        findings += of_pool
    except PoolError as error:
        findings.append(Finding(f"not checked against a pool: {error}", is_error=False))
    found = write_dry_run(arrangement, asked.datastore, asked.resources, output, findings)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        Console().print(found.table())
        print("\n".join(found.lines()))
    return ExitCode.USAGE if any(f.is_error for f in findings) else ExitCode.SUCCESS


def _arrange(asked: _Request) -> "Arrangement":
    """The jobs as they were if nothing is done yet."""
    from executor.submit.arrangement import arrange
    from executor.submit.plan import plan_of_graph
    from transfer_plugins.object_store import open_store

    # No rule is asked, for there is no delta; the store is a stand-in.
    plan = plan_of_graph(asked.graph, open_store(Path.cwd().as_uri()))
    return arrange(plan, {}, asked.configuration, asked.resources)


def _local_findings(asked: _Request, arrangement: "Arrangement") -> "list[Finding]":
    from executor.submit.arrangement import requests_by_label
    from executor.submit.checks import Submission, check_locally, most_input_bytes

    graph, n_jobs = asked.graph, len(arrangement.nodes)
    requests = requests_by_label(arrangement, asked.resources)
    sizes = most_input_bytes((quantum.task_label, quantum.inputs) for quantum in graph.quanta)
    return check_locally(
        Submission(graph.run, graph.tasks, n_jobs, asked.configuration, requests, sizes)
    )


def _warn(findings: "list[Finding]") -> None:
    for finding in findings:
        if not finding.is_error:
            print(f"warning: {finding.message}", file=sys.stderr)
