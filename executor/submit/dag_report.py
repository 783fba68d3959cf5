# SPDX-License-Identifier: BSD-3-Clause
"""A plan on the pool: submitted as a DAG, perhaps waited for, and told to a person or as JSON."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.bundle.submission import publish_worker
from executor.init_check import INIT_FAILED
from executor.submit.arrangement import Arrangement, arrange, publish_arrangement
from executor.submit.bucket_run import JOB_ERRORS
from executor.submit.configuration import SubmitConfiguration
from executor.submit.dag import InitJob
from executor.submit.plan import Plan
from executor.submit.pool import SubmittedDag, submit_dag, wait_for_dag
from executor.submit.submit_files import INIT_ERRORS
from executor.terminal_text import plain
from registry import names
from registry.delta import Delta
from registry.job import ResourceRequest
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore


@dataclass(frozen=True)
class DagEnd:
    """A DAG that was submitted; ``exit_code`` is None if it was not waited for."""

    run: str
    submitted: SubmittedDag
    n_jobs: int
    n_quanta: int
    n_done_before: int
    exit_code: int | None
    again: Collection[str] = ()
    """Quanta that are run again because what they made was not kept and others need it."""

    def init_error(self) -> str | None:
        """Why the init job failed, in its own words; None if it did not, or told nothing."""
        path = self.submitted.directory / INIT_ERRORS
        if not self.exit_code or not path.exists():
            return None
        lines = path.read_text(errors="replace").splitlines()
        return next((line for line in lines if line.startswith(INIT_FAILED)), None)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "cluster": self.submitted.cluster,
            "directory": str(self.submitted.directory),
            "n_jobs": self.n_jobs,
            "n_quanta": self.n_quanta,
            "n_done_before": self.n_done_before,
            "again": sorted(self.again),
            "exit_code": self.exit_code,
            "init_error": self.init_error(),
        }

    def lines(self) -> list[str]:
        """For people."""
        found = [
            f"RUN {self.run}: {self.n_quanta} quanta in {self.n_jobs} jobs, {self.n_done_before} "
            f"quanta done before, cluster {self.submitted.cluster}",
            f"files of the DAG: {self.submitted.directory}",
        ]
        if self.again:
            found.append(
                f"{len(self.again)} quanta are run again, because others need what they made and "
                "it was not kept"
            )
        if self.exit_code is None:
            found.append(
                f"quantum-exec status {self.run} tells how it goes; pause, resume and stop steer it"
            )
        else:
            found.append(f"the DAG ended with exit code {self.exit_code}")
        if init_error := self.init_error():
            found.append(f"no quantum was submitted: {plain(init_error)}")
        if self.exit_code:
            found.append(
                f"quantum-exec status {self.run} tells what failed; when that is mended, "
                f"quantum-exec restart {self.run} runs what is unfinished"
            )
        return found


def run_on_pool(
    plan: Plan,
    done: Mapping[str, Delta],
    store: ObjectStore,
    datastore: str,
    configuration: SubmitConfiguration,
    *,
    wait: bool,
    resources: Mapping[str, ResourceRequest] | None = None,
) -> DagEnd:
    """Submit a plan whose jobs are published.

    Parameters
    ----------
    done
        Deltas that count of the quanta that are not to be run.
    wait
        Come back only when the DAG has ended.
    resources
        What the tasks ask for, by task label; taken from one job of each if not given.

    Raises
    ------
    AlreadySubmittedError, PoolError, ConfigurationError, ClusterCycleError
    """
    asked = resources_of(plan) if resources is None else resources
    found = arrange(plan, done, configuration, asked)
    return submit_arrangement(found, store, datastore, asked, wait=wait)


def submit_arrangement(
    found: Arrangement,
    store: ObjectStore,
    datastore: str,
    resources: Mapping[str, ResourceRequest],
    *,
    wait: bool,
) -> DagEnd:
    """Submit jobs of a plan; parameters and errors as those of `run_on_pool`."""
    publish_arrangement(found, store)
    plan, configuration = found.plan, found.configuration
    if configuration.bundle:
        publish_worker(Path(configuration.bundle), store)
    init = init_job_of(plan, found.done, store)
    place = datastore.rstrip("/")
    submitted = submit_dag(found.nodes, plan.run, place, configuration, resources, init)
    code = wait_for_dag(submitted) if wait else None
    return DagEnd(
        plan.run,
        submitted,
        len(found.nodes),
        len(plan.quanta),
        len(found.done),
        code,
        list(found.again),
    )


def init_job_of(plan: Plan, done: Collection[str], store: ObjectStore) -> InitJob | None:
    """Return the init job of a plan; None where no graph record tells what is to be run.

    It is done if an earlier one of the graph found nothing wrong, or if no quantum is left.
    """
    first = next((q for q in plan.quanta if q not in done), next(iter(plan.quanta), None))
    if first is None:
        return None
    graph_id = plan.graph_id_of(first)
    try:
        store.head(names.graph_record_key(plan.run, graph_id))
    except ObjectNotFoundError:
        return None
    if first in done:
        return InitJob(graph_id, is_done=True)
    try:
        before = json.loads(store.get(names.init_key(plan.run, graph_id)))
        is_done = isinstance(before, dict) and before.get("error", "") is None
    except (ObjectNotFoundError, ValueError):
        is_done = False
    return InitJob(graph_id, is_done)


def resources_of(plan: Plan, done: Collection[str] = ()) -> dict[str, ResourceRequest]:
    """What the tasks of a plan ask for, by task label, from one job of each.

    One that is not done if there is one. Where all are, the job may be gone and asks for nothing.
    """
    one_of: dict[str, str] = {}
    for quantum_id, quantum in plan.quanta.items():
        if one_of.get(quantum.task_label, quantum_id) in done:
            one_of[quantum.task_label] = quantum_id
        one_of.setdefault(quantum.task_label, quantum_id)
    found: dict[str, ResourceRequest] = {}
    for label, quantum_id in one_of.items():
        try:
            found[label] = plan.job_of(quantum_id).task.resources
        except JOB_ERRORS:
            if quantum_id not in done:
                raise
    return found
