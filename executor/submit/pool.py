# SPDX-License-Identifier: BSD-3-Clause
"""Handing a DAG to HTCondor, once, and waiting for it."""

import datetime
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.submit.checks import raise_errors, submit_path_findings
from executor.submit.configuration import SubmitConfiguration
from executor.submit.dag import (
    DAGMAN_LOG,
    InitJob,
    write_dag,
)
from executor.submit.nodes import Node
from executor.submit.pool_queue import PoolError, bindings, refuse_queued
from executor.submit.submit_files import Submission, dag_attributes
from registry.job import ResourceRequest
from registry.names import CONTROL


@dataclass(frozen=True, slots=True)
class SubmittedDag:
    """A DAG in the queue: its cluster and the directory of its files."""

    cluster: int
    directory: Path


def submit_dag(
    nodes: list[Node],
    run: str,
    datastore: str,
    configuration: SubmitConfiguration,
    resources: Mapping[str, ResourceRequest] | None = None,
    init: InitJob | None = None,
) -> SubmittedDag:
    """Write a DAG into a directory of its own and submit it, unless one of this RUN is queued.

    The schedd is asked, and not a file of ours, because a submit that was killed may or may not
    have reached it. The lock keeps a second submit on this machine away between asking and
    submitting.

    Raises
    ------
    AlreadySubmittedError, PoolError
    """
    root = Path(configuration.submit_path).resolve() / run / CONTROL
    raise_errors(list(submit_path_findings(configuration, len(nodes))))
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / "lock"):
        refuse_queued(run, datastore)
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        directory = root / stamp
        directory.mkdir()
        dag = write_dag(
            directory, nodes, run, datastore, configuration, resources=resources, init=init
        )
        attributes = dag_attributes(Submission(run, datastore, configuration), nodes)
        return SubmittedDag(_submit(dag, run, configuration, attributes), directory)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _submit(
    dag: Path, run: str, configuration: SubmitConfiguration, attributes: Mapping[str, str]
) -> int:
    htcondor2 = bindings()
    before = Path.cwd()
    # Paths in a DAG are relative to the directory in which it is submitted.
    os.chdir(dag.parent)
    try:
        options: dict[str, Any] = {"maxidle": configuration.max_idle, "batch-name": run}
        if configuration.max_jobs is not None:
            options["maxjobs"] = configuration.max_jobs
        submit = htcondor2.Submit.from_dag(dag.name, options)
        for name, value in attributes.items():
            submit[name] = value
        return int(htcondor2.Schedd().submit(submit).cluster())
    except (htcondor2.HTCondorException, OSError, ValueError) as error:
        raise PoolError(f"schedd: the DAG {dag} was not accepted: {error}") from error
    finally:
        os.chdir(before)


def wait_for_dag(
    submitted: SubmittedDag, *, on_wait: Callable[[], None] = lambda: None, poll_s: int = 1
) -> int:
    """Wait until a DAG has ended; returns the exit code of DAGMan, 1 if it was removed."""
    htcondor2 = bindings()
    log = submitted.directory / DAGMAN_LOG
    events = None
    while True:
        if events is None and log.exists():
            events = htcondor2.JobEventLog(str(log))
        for event in _next_events(events, poll_s) if events else _pause(poll_s):
            if event.type == htcondor2.JobEventType.JOB_TERMINATED:
                normally = event.get("TerminatedNormally", False)
                return int(event["ReturnValue"]) if normally else 1
            if event.type == htcondor2.JobEventType.JOB_ABORTED:
                return 1
        on_wait()


def _next_events(events: Any, poll_s: int) -> Iterator[Any]:
    yield from events.events(stop_after=poll_s)


def _pause(poll_s: int) -> Iterator[Any]:
    import time

    time.sleep(poll_s)
    return iter(())
