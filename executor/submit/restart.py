# SPDX-License-Identifier: BSD-3-Clause
"""A RUN taken up again on the pool, from what the datastore says: neither graph file nor the
directory of an earlier DAG is needed.

Done is what has a valid successful delta. The DAG is a new one in a directory of its own, not a
rescue of the old one, so settings may have changed in between.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from executor.graph.quantum_graph import Graph
from executor.submit.bucket_run import BucketRun, read_bucket_run
from executor.submit.configuration import SubmitConfiguration
from executor.submit.dag import control_url_prefix
from executor.submit.dag_report import DagEnd, resources_of, run_on_pool
from executor.submit.earlier_memory import starting_memory
from executor.submit.plan import Plan, labels_of
from executor.submit.pool_queue import orphaned_jobs, refuse_queued
from executor.submit.pool_steering import remove_orphans
from executor.submit.rerun import job_source, plan_of_bucket, publish_jobs
from registry import names
from registry.errors import QuantumExecError
from transfer_plugins.object_store import ObjectStore


class JobsMissingError(QuantumExecError):
    """Quanta of the RUN have no job file; submit its graph file again, which writes them."""

    error_type = "jobs_missing"


@dataclass(frozen=True)
class Restart:
    """A restart and what came of it; ``dag`` is None if it was only to be shown.

    ``n_orphans`` jobs had lost their DAGMan. ``memory`` is the MiB with which quanta begin whose
    earlier attempts went over theirs, by quantum id.
    """

    run: str
    unfinished: dict[str, int]
    """How many, by task label."""
    n_quanta: int
    n_orphans: int
    memory: dict[str, int] = field(default_factory=dict)
    dag: DagEnd | None = None

    @property
    def exit_code(self) -> int:
        """That of the DAG, if it was waited for."""
        return (self.dag.exit_code or 0) if self.dag else 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        n_unfinished = sum(self.unfinished.values())
        return {
            "run": self.run,
            "dry_run": self.dag is None,
            "n_quanta": self.n_quanta,
            "n_done_before": self.n_quanta - n_unfinished,
            "n_unfinished": n_unfinished,
            "unfinished": self.unfinished,
            "n_orphans_removed": 0 if self.dag is None else self.n_orphans,
            "n_orphans": self.n_orphans,
            "memory_mib": self.memory,
            **(self.dag.as_dict() if self.dag else {}),
            "exit_code": self.exit_code,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        would = "would be " if self.dag is None else ""
        if self.n_orphans:
            yield f"{self.n_orphans} jobs of a DAG that is gone {would or 'were '}removed"
        if self.memory:
            least, most = min(self.memory.values()), max(self.memory.values())
            yield (
                f"{len(self.memory)} quanta went over their memory before: they begin with "
                f"{least} to {most} MiB"
            )
        for label, n_quanta in self.unfinished.items():
            yield f"  {label}: {n_quanta} quanta {would}run"
        if not self.unfinished:
            yield f"RUN {self.run}: all {self.n_quanta} quanta are done; the DAG {would}merges only"
        if self.dag is not None:
            yield from self.dag.lines()


def restart_run(
    store: ObjectStore,
    run: str,
    datastore: str,
    configuration: SubmitConfiguration,
    *,
    mended: Graph | None = None,
    is_dry: bool = False,
    wait: bool = False,
) -> Restart:
    """Submit a DAG of what is unfinished in a RUN.

    Parameters
    ----------
    mended
        Graph with mended tasks; the jobs of unfinished quanta are written anew from it.
    is_dry
        Change nothing, neither in the datastore nor in the queue.

    Raises
    ------
    AlreadySubmittedError, PoolError, RunNotFoundError, OtherGraphError, JobsMissingError
    """
    control_url_prefix(datastore, run)
    refuse_queued(run, datastore)
    bucket = read_bucket_run(store, run)
    plan = plan_of_bucket(bucket, bucket.quanta, job_source(bucket, mended))
    standings = bucket.standings(plan.quanta)
    done = {q: s.counting for q, s in standings.items() if s.counting is not None}
    left = {q: quantum for q, quantum in plan.quanta.items() if q not in done}
    if mended is None:
        _expect_jobs(bucket, left)
    asked = resources_of(plan)
    memory = starting_memory(bucket, left, configuration, asked)
    unfinished = {
        label: sum(q.task_label == label for q in left.values()) for label in labels_of(left)
    }
    n_orphans = len(orphaned_jobs(run, datastore, None))
    found = Restart(run, unfinished, len(plan.quanta), n_orphans, memory)
    if is_dry:
        return found
    if mended is not None:
        publish_jobs(store, _only(plan, left))
    remove_orphans(run, datastore)
    dag = run_on_pool(plan, done, store, datastore, configuration, wait=wait, memory=memory)
    return Restart(run, unfinished, len(plan.quanta), n_orphans, memory, dag)


def _only(plan: Plan, quanta: dict[str, Any]) -> Plan:
    return Plan(plan.run, quanta, plan.job_of, plan.rule_of, plan.task_labels, plan.readers_of)


def _expect_jobs(bucket: BucketRun, quantum_ids: dict[str, Any]) -> None:
    """A submit that was killed may have left a RUN without some of its job files."""
    if not quantum_ids:
        return
    prefix = names.job_prefix(bucket.run)
    listed = {stored.key for stored in bucket.store.list_objects(prefix)}
    missing = [q for q in quantum_ids if names.job_key(bucket.run, q) not in listed]
    if missing:
        raise JobsMissingError(
            f"RUN {bucket.run!r} in {bucket.store.uri}: expected a job file of each of "
            f"{len(quantum_ids)} unfinished quanta, found none of {len(missing)} ({missing[0]}, …);"
            " give the graph file with --graph, or submit it again"
        )
