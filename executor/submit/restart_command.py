# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec restart``: the unfinished quanta of a RUN on the pool, without its graph file."""

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from executor.command_options import (
    ConfigOption,
    DatastoreOption,
    EndpointOption,
    JsonOption,
    WaitOption,
)


def restart(
    run: Annotated[str, typer.Argument(help="RUN that is to go on")],
    datastore: DatastoreOption,
    config: ConfigOption = None,
    graph: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="graph file with mended tasks; default: as published"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be run, change nothing")
    ] = False,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="empty directory for the files of the DAG, with --dry-run"),
    ] = None,
    ignore_slots: Annotated[
        bool,
        typer.Option("--ignore-slots", help="queue also what no slot of the pool can run now"),
    ] = False,
    wait: WaitOption = False,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a new DAG of what is unfinished in a RUN, from what the datastore says of it.

    Quanta with a valid successful delta are not run again, even if every file of the earlier DAG
    is lost; settings may have changed. Quanta that went over their memory begin with more. Jobs
    that lost their DAGMan are removed first. Checked before is what submit checks. --dry-run needs
    no pool.

    Exit codes: 1 the pool refused it, or, with --wait, a node failed; 2 configuration, command
    line, no such RUN, job files missing, or the pool can never run it; 32 --graph is of another
    RUN; 33 a DAG of the RUN is queued; 38 datastore.

    Example: quantum-exec restart u/me/night1 --datastore s3://bucket/repo --config submit.yaml
    """
    from executor.graph.graph_file import read_graph
    from executor.submit.configuration import read_submit_configuration
    from executor.submit.restart import RestartOptions, restart_run
    from transfer_plugins.object_store import open_store

    if output is not None and not dry_run:
        raise typer.BadParameter("expected --dry-run with --output, found none")
    configuration = read_submit_configuration(config).with_endpoint(endpoint_url)
    store = open_store(datastore, endpoint_url=configuration.s3_endpoint_url or None)
    mended = None if graph is None else read_graph(graph, run=run)
    options = RestartOptions(mended, dry_run, output, ignore_slots, wait)
    done = restart_run(store, run, datastore, configuration, options)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps(done.as_dict()) if as_json else "\n".join(done.lines()))
    raise typer.Exit(done.exit_code)
