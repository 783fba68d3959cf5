# SPDX-License-Identifier: BSD-3-Clause
"""A RUN taken up again on the pool, from what the datastore says: neither graph file nor the
directory of an earlier DAG is needed.

Done is what has a valid successful delta. The DAG is a new one in a directory of its own, not a
rescue of the old one, so settings may have changed in between.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from executor.graph.quantum_graph import Graph
from executor.submit.arrangement import Arrangement, arrange
from executor.submit.bucket_run import BucketRun, read_bucket_run
from executor.submit.configuration import SubmitConfiguration
from executor.submit.dag import control_url_prefix
from executor.submit.dag_report import DagEnd, init_job_of, resources_of, submit_arrangement
from executor.submit.dry_run import write_dry_run
from executor.submit.earlier_memory import earlier_memory, with_earlier_memory
from executor.submit.plan import labels_of
from executor.submit.pool_checks import check_for_pool
from executor.submit.pool_queue import PoolError, orphaned_jobs, refuse_queued
from executor.submit.pool_steering import remove_orphans
from executor.submit.rerun import job_source, plan_of_bucket, publish_jobs
from registry import names
from registry.errors import QuantumExecError
from registry.job import ResourceRequest
from transfer_plugins.object_store import ObjectStore


class JobsMissingError(QuantumExecError):
    """Quanta of the RUN have no job file; submit its graph file again, which writes them."""

    error_type = "jobs_missing"


@dataclass(frozen=True)
class Restart:
    """A restart and what came of it; ``dag`` is None if it was only to be shown.

    ``unfinished`` is how many quanta, by task label. ``n_orphans`` jobs had lost their DAGMan.
    ``memory`` is the MiB with which jobs of quanta begin whose earlier attempts went over theirs,
    by quantum id; ``again`` are quanta that are run again because what they made was not kept.
    ``directory`` has the files that were to be shown.
    """

    run: str
    unfinished: dict[str, int]
    n_quanta: int
    n_jobs: int
    n_orphans: int
    memory: dict[str, int] = field(default_factory=dict)
    again: Collection[str] = ()
    warnings: list[str] = field(default_factory=list)
    directory: Path | None = None
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
            "n_jobs": self.n_jobs,
            "again": sorted(self.again),
            "n_orphans_removed": 0 if self.dag is None else self.n_orphans,
            "n_orphans": self.n_orphans,
            "memory_mib": self.memory,
            "warnings": self.warnings,
            "directory": None if self.directory is None else str(self.directory),
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
        elif self.directory is not None:
            yield f"files of the DAG: {self.directory}"


@dataclass(frozen=True)
class RestartOptions:
    """How a RUN is taken up again.

    Parameters
    ----------
    mended
        Graph with mended tasks; the jobs of unfinished quanta are written anew from it.
    is_dry
        Change nothing, neither in the datastore nor in the queue; no pool is needed.
    output
        Empty directory into which the files of the DAG are then written.
    ignore_slots
        Queue also what no slot of the pool can run now.
    """

    mended: Graph | None = None
    is_dry: bool = False
    output: Path | None = None
    ignore_slots: bool = False
    wait: bool = False


def restart_run(
    store: ObjectStore,
    run: str,
    datastore: str,
    configuration: SubmitConfiguration,
    options: RestartOptions,
) -> Restart:
    """Submit a DAG of what is unfinished in a RUN.

    Raises
    ------
    AlreadySubmittedError, PoolError, RunNotFoundError, OtherGraphError, JobsMissingError,
    NotSubmittableError
    """
    control_url_prefix(datastore, run)
    if not options.is_dry:
        refuse_queued(run, datastore)
    bucket = read_bucket_run(store, run)
    store = bucket.store
    plan = plan_of_bucket(bucket, bucket.quanta, job_source(bucket, options.mended))
    standings = bucket.standings(plan.quanta)
    done = {q: s.counting for q, s in standings.items() if s.counting is not None}
    left = {q: quantum for q, quantum in plan.quanta.items() if q not in done}
    known = options.mended.by_id if options.mended else {}
    _expect_jobs(bucket, [q for q in left if q not in known])
    asked = resources_of(plan, done)
    earlier = earlier_memory(bucket, left, configuration)
    found = arrange(plan, done, configuration, asked)
    found, n_orphans, warnings = _seen_by_pool(found, asked, datastore, options)
    nodes = with_earlier_memory(found.nodes, earlier, found.configuration, asked)
    found = replace(found, nodes=nodes)
    restart = Restart(
        run,
        {label: sum(q.task_label == label for q in left.values()) for label in labels_of(left)},
        len(plan.quanta),
        len(nodes),
        n_orphans,
        {q: n.memory_mib for n in nodes if n.memory_mib for q in n.quantum_ids if q in earlier},
        found.again.keys(),
        warnings,
    )
    if options.is_dry:
        return _shown(restart, found, asked, store, datastore, options.output)
    if options.mended is not None:
        publish_jobs(store, plan, [q for q in left if q in known])
    remove_orphans(run, datastore)
    return replace(
        restart, dag=submit_arrangement(found, store, datastore, asked, wait=options.wait)
    )


def _seen_by_pool(
    found: Arrangement,
    resources: Mapping[str, ResourceRequest],
    datastore: str,
    options: RestartOptions,
) -> tuple[Arrangement, int, list[str]]:
    """The jobs as suited to the pool, how many were orphaned, and warnings."""
    run, is_dry = found.plan.run, options.is_dry
    suited, warnings = check_for_pool(
        *(found, resources, found.plan.task_labels),
        is_dry=is_dry,
        is_elastic=options.ignore_slots,
    )
    try:
        refuse_queued(run, datastore)
        return suited, len(orphaned_jobs(run, datastore, None)), warnings
    except PoolError:
        if not is_dry:
            raise
        # Told by the checks.
        return suited, 0, warnings


def _shown(
    restart: Restart,
    found: Arrangement,
    resources: Mapping[str, ResourceRequest],
    store: ObjectStore,
    datastore: str,
    output: Path | None,
) -> Restart:
    """What a restart would do, its files in a directory if one is given."""
    if output is None:
        return restart
    init = init_job_of(found.plan, found.done, store)
    written = write_dry_run(found, datastore, resources, output, [], init)
    return replace(restart, directory=written.directory)


def _expect_jobs(bucket: BucketRun, quantum_ids: Collection[str]) -> None:
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
            " give its graph file with --graph, or submit it again"
        )
