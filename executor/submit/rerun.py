# SPDX-License-Identifier: BSD-3-Clause
"""One quantum again, alone, from what is in the datastore."""

from pathlib import Path

from executor.graph.quantum_graph import Graph
from executor.submit.local_attempt import AttemptEnd, Children, attempt_locally
from executor.submit.local_runner import passing_on_signals, scratch_directory
from registry import names
from registry.errors import QuantumExecError
from registry.job import Job, read_job, write_job
from registry.model import format_data_id
from transfer_plugins.deltas import standing_of
from transfer_plugins.object_store import ObjectStore


class AlreadySuccessfulError(QuantumExecError):
    """The quantum has a successful attempt; there is nothing to run again."""

    error_type = "already_successful"


def job_to_rerun(store: ObjectStore, run: str, quantum_id: str, graph: Graph | None = None) -> Job:
    """Return the job of a quantum that has no successful attempt.

    Parameters
    ----------
    graph
        The graph with the mended task; its job replaces the one in the datastore. Without it the
        job runs as it was published.

    Raises
    ------
    AlreadySuccessfulError
        If it succeeded already.
    QuantumExecError
        If the RUN or the graph has no such quantum.
    """
    job = _job_of(store, run, quantum_id) if graph is None else _mended(graph, quantum_id)
    counting = standing_of(store, run, quantum_id).counting
    if counting:
        raise AlreadySuccessfulError(
            f"quantum {quantum_id} ({job.task_label}, {format_data_id(job.data_id)}): attempt "
            f"{counting.attempt_id} of {counting.finished} was successful"
        )
    if graph is not None:
        store.put(names.job_key(run, quantum_id), write_job(job))
    return job


def _job_of(store: ObjectStore, run: str, quantum_id: str) -> Job:
    key = names.job_key(run, quantum_id)
    return read_job(store.get(key), f"job file {store.uri}/{key}")


def _mended(graph: Graph, quantum_id: str) -> Job:
    if quantum_id not in graph.by_id:
        raise QuantumExecError(f"graph {graph.name!r}: expected quantum {quantum_id}, found none")
    return graph.job_of(graph.by_id[quantum_id])


def rerun_locally(
    job: Job, store: ObjectStore, *, scratch: Path | None = None, python_path: Path | None = None
) -> AttemptEnd:
    """Make a new attempt on this machine; a signal ends it as aborted."""
    children = Children()
    with scratch_directory(scratch) as directory, passing_on_signals(children):
        return attempt_locally(job, store, directory, children, python_path=python_path)
