# SPDX-License-Identifier: BSD-3-Clause
"""A plan on the pool: submitted as a DAG, perhaps waited for, and told to a person or as JSON."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from executor.submit.configuration import SubmitConfiguration
from executor.submit.nodes import nodes_of_plan
from executor.submit.plan import Plan
from executor.submit.pool import SubmittedDag, submit_dag, wait_for_dag
from registry.job import ResourceRequest


@dataclass(frozen=True)
class DagEnd:
    """A DAG that was submitted; ``exit_code`` is None if it was not waited for."""

    run: str
    submitted: SubmittedDag
    n_quanta: int
    n_done_before: int
    exit_code: int | None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "cluster": self.submitted.cluster,
            "directory": str(self.submitted.directory),
            "n_quanta": self.n_quanta,
            "n_done_before": self.n_done_before,
            "exit_code": self.exit_code,
        }

    def lines(self) -> list[str]:
        """For people."""
        found = [
            f"RUN {self.run}: {self.n_quanta} quanta, {self.n_done_before} done before, cluster "
            f"{self.submitted.cluster}",
            f"files of the DAG: {self.submitted.directory}",
        ]
        if self.exit_code is not None:
            found.append(f"the DAG ended with exit code {self.exit_code}")
        return found


def run_on_pool(
    plan: Plan,
    done: Collection[str],
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
        Ids of the quanta that are not to be run.
    wait
        Come back only when the DAG has ended.
    resources
        What the tasks ask for, by task label; taken from one job of each if not given.

    Raises
    ------
    AlreadySubmittedError, PoolError
    """
    nodes = nodes_of_plan(plan, done)
    asked = _resources_of(plan) if resources is None else resources
    submitted = submit_dag(nodes, plan.run, datastore.rstrip("/"), configuration, asked)
    code = wait_for_dag(submitted) if wait else None
    return DagEnd(plan.run, submitted, len(nodes), sum(n.is_done for n in nodes), code)


def _resources_of(plan: Plan) -> dict[str, ResourceRequest]:
    one_of = {quantum.task_label: quantum_id for quantum_id, quantum in plan.quanta.items()}
    return {label: plan.job_of(quantum_id).task.resources for label, quantum_id in one_of.items()}
