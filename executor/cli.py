# SPDX-License-Identifier: BSD-3-Clause
"""The command ``quantum-exec``. Commands import what they need when they are called."""

import importlib.metadata
import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from executor import worker_command
from executor.bundle.command import bundle
from executor.command_options import (
    DataOption,
    DatastoreOption,
    EndpointOption,
    ExtendOption,
    JsonOption,
    RunOption,
)
from executor.exit_codes import ExitCode, code_of_signal
from executor.graph.command import app as graph_app
from executor.submit.logs_command import logs
from executor.submit.rerun_command import rerun
from executor.submit.restart_command import restart
from executor.submit.shell_command import shell
from executor.submit.status_command import status
from executor.submit.steering_command import pause, resume, stop
from executor.submit.submit_command import submit
from registry.job import DataMode

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run quanta of survey-astronomy pipelines: on a worker, on this machine, on a pool.",
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"quantum-exec {importlib.metadata.version('quantum-exec')}")
        raise typer.Exit


@app.callback()
def _options(
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR")] = "WARNING",
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter(f"expected a level such as INFO, found {log_level!r}")
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def run(context: typer.Context) -> None:
    """Run one quantum on this worker (quantum-exec run --help tells more).

    Example: quantum-exec run s3://bucket/repo/u/me/night1/quantum-exec/jobs/ID.json
    """
    raise typer.Exit(worker_command.main(context.args))


@app.command("run-local")
def run_local(
    graph: Annotated[Path, typer.Argument(help="graph file, YAML or columnar")],
    datastore: DatastoreOption,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="quanta at once")] = (
        os.cpu_count() or 1
    ),
    run: RunOption = None,
    extend: ExtendOption = False,
    data: DataOption = DataMode.STAGED,
    scratch: Annotated[Optional[Path], typer.Option(help="directory for sandboxes")] = None,  # noqa: UP045
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a graph on this machine, in dependency order.

    What has a valid successful delta is not run again; beside a quantum that fails the rest goes
    on.

    Exit codes: 1 not every quantum is successful; 2 graph file or command line; 32 the RUN belongs
    to another graph; 37 no sandbox can be made; 38 datastore; 143 stopped by SIGTERM.

    Example: quantum-exec run-local graph.yaml --datastore file:///data/repo -j 4
    """
    from rich.console import Console

    from executor.graph.graph_file import read_graph
    from executor.submit import progress
    from executor.submit.local_runner import run_locally
    from executor.submit.plan import plan_of_graph
    from executor.submit.publish import publish_graph
    from transfer_plugins.object_store import open_store

    found = replace(read_graph(graph, run=run), data_mode=data)
    store = open_store(datastore, endpoint_url=endpoint_url)
    publish_graph(found, store, extend=extend)
    plan = plan_of_graph(found, store)
    with progress.progress_bar(progress.error_console(), found.run, len(plan.quanta)) as bar:
        ended = run_locally(
            plan,
            store,
            jobs=jobs,
            scratch=scratch,
            python_path=graph.parent.resolve(),
            on_end=lambda quantum_id, end: bar.advance(bar.task_ids[0]),
        )
    summaries = progress.summarize(plan, ended)
    failures = list(progress.failure_lines(plan, ended))
    if as_json:
        tasks = [summary.as_dict() for summary in summaries]
        print(json.dumps({"run": found.run, "tasks": tasks, "failures": failures}))
    else:
        Console().print(progress.task_table(summaries))
        for line in failures:
            print(line, file=sys.stderr)
    if ended.stopped_by is not None:
        raise typer.Exit(code_of_signal(ended.stopped_by))
    raise typer.Exit(ExitCode.FAILED if ended.failed() or ended.blocked else ExitCode.SUCCESS)


for command in (submit, pause, resume, stop, restart, rerun, bundle):
    app.command()(command)
app.command("shell")(shell)
app.command("status")(status)
app.command("logs")(logs)
app.add_typer(graph_app, name="graph")


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option(help="directory for picture, catalogue and graph file")
    ] = Path("demo-output"),
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="quanta at once")] = (
        os.cpu_count() or 1
    ),
    as_json: JsonOption = False,
) -> None:
    """Run a small survey of real pixels through the whole path, on embedded parts.

    Needs the packages of quantum-exec[demo]. Nothing is left running.

    Example: quantum-exec demo --output /tmp/m13
    """
    from rich.console import Console

    from executor.demo.command import run_demo

    report = run_demo(output, jobs, Console(stderr=as_json))
    if as_json:
        print(json.dumps(report))
