# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec pause``, ``resume`` and ``stop``: steering the DAG of a RUN in the queue."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from executor.command_options import DatastoreOption, JsonOption

if TYPE_CHECKING:
    from executor.submit.pool_steering import Steered

RunArgument = Annotated[str, typer.Argument(help="RUN whose DAG is meant")]


def pause(
    run: RunArgument,
    datastore: DatastoreOption,
    wait: Annotated[bool, typer.Option("--wait", help="wait until no job runs any more")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hold the DAG of a RUN and its jobs that have not started; running ones finish.

    Nothing is lost: finished jobs have committed, and resume goes on from there.

    Exit codes: 0 paused, or was already; 1 the pool cannot be asked or refuses; 39 no DAG of the
    RUN is in the queue.

    Example: quantum-exec pause u/me/night1 --datastore s3://bucket/repo
    """
    from executor.submit.pool_steering import pause_dag, wait_until_quiet

    steered = pause_dag(run, datastore)
    _tell(wait_until_quiet(run, steered, datastore) if wait else steered, as_json)


def resume(
    run: RunArgument,
    datastore: DatastoreOption,
    wait: Annotated[
        bool, typer.Option("--wait", help="wait for the DAG and end with its exit code")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Release what pause has held, and nothing else; DAGMan goes on where it was.

    Exit codes: 0 resumed, or was not paused; 1 the pool cannot be asked or refuses, the DAG is
    held for another reason, or, with --wait, a node failed; 39 no DAG of the RUN is in the queue.

    Example: quantum-exec resume u/me/night1 --datastore s3://bucket/repo
    """
    from dataclasses import replace

    from executor.submit.pool import SubmittedDag, wait_for_dag
    from executor.submit.pool_steering import resume_dag

    steered = resume_dag(run, datastore)
    if wait and not steered.exit_code and steered.cluster and steered.directory:
        code = wait_for_dag(SubmittedDag(steered.cluster, steered.directory))
        steered = replace(steered, exit_code=code, advice=f"the DAG ended with exit code {code}")
    _tell(steered, as_json)


def stop(
    run: RunArgument,
    datastore: DatastoreOption,
    now: Annotated[
        bool, typer.Option("--now", help="end running jobs, too (SIGTERM, later SIGKILL)")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="wait until the DAG has merged and left the queue")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the DAG of a RUN to its end: nothing new starts, running jobs finish, then the merge.

    Afterwards restart runs what is unfinished. Jobs that lost their DAG are removed, too.

    Exit codes: 0 it ends, or did already; 1 the pool cannot be asked or refuses; 39 no DAG of the
    RUN is in the queue.

    Example: quantum-exec stop u/me/night1 --datastore s3://bucket/repo --wait
    """
    from executor.submit.pool_steering import stop_dag, wait_until_left

    steered = stop_dag(run, datastore, now=now)
    _tell(wait_until_left(run, steered, datastore) if wait else steered, as_json)


def _tell(steered: "Steered", as_json: bool) -> None:
    print(json.dumps(steered.as_dict()) if as_json else "\n".join(steered.lines()))
    raise typer.Exit(steered.exit_code)
