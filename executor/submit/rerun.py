# SPDX-License-Identifier: BSD-3-Clause
"""Quanta again, from what is in the datastore: which are meant, and the plan that runs them."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from executor.graph.quantum_graph import Graph
from executor.graph.selection import Selection, SelectionError
from executor.submit.bucket_run import JOB_ERRORS, BucketRun
from executor.submit.plan import Plan, labels_of, readers
from executor.submit.publish import OtherGraphError
from executor.submit.unkept_inputs import producers_again
from registry import names
from registry.delta import Delta
from registry.errors import QuantumExecError
from registry.job import Job, write_job
from registry.model import format_data_id
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import ObjectStore

JobOf = Callable[[str], Job]


class AlreadySuccessfulError(QuantumExecError):
    """The quantum has a successful attempt; there is nothing to run again."""

    error_type = "already_successful"


@dataclass(frozen=True)
class Wanted:
    """What was asked for: quanta by id, task label and data ID; of these perhaps only failed ones,
    and with them perhaps all that depends on them.
    """

    selection: Selection = field(default_factory=Selection)
    only_failed: bool = False
    downstream: bool = False


@dataclass(frozen=True)
class Rerun:
    """A plan for quanta that are run again.

    ``n_left_out`` were selected and are successful already. ``replaced`` are the attempts that are
    to count no longer, by quantum id. ``originals`` are the quanta of the RUN of which those of the
    plan, in a scratch RUN, are the repetition.
    """

    plan: Plan
    n_left_out: int = 0
    replaced: dict[str, str] = field(default_factory=dict)
    again: frozenset[str] = frozenset()
    originals: dict[str, str] = field(default_factory=dict)


def select(bucket: BucketRun, wanted: Wanted) -> list[str]:
    """Return the ids of the quanta that are meant.

    Raises
    ------
    SelectionError
        If an id is unknown, or nothing is selected.
    """
    selection = wanted.selection
    unknown = sorted(selection.quantum_ids - bucket.quanta.keys())
    if unknown:
        raise SelectionError(
            f"RUN {bucket.run!r} in {bucket.store.uri}: expected quantum {', '.join(unknown)}, "
            f"found none of this id among {len(bucket.quanta)} quanta"
        )
    found = [
        q.quantum_id
        for q in bucket.quanta.values()
        if selection.takes(q.quantum_id, q.task_label, q.data_id)
    ]
    if wanted.only_failed:
        tried = [quantum_id for quantum_id in found if quantum_id in bucket.delta_keys]
        standings = bucket.standings(tried)
        found = [quantum_id for quantum_id in tried if standings[quantum_id].counting is None]
    if not found:
        kind = "failed quanta" if wanted.only_failed else "quanta"
        raise SelectionError(
            f"RUN {bucket.run!r} in {bucket.store.uri}: expected {kind} of this selection, found "
            f"none among {len(bucket.quanta)} quanta of the tasks {labels_of(bucket.quanta)}"
        )
    return bucket.with_downstream(found) if wanted.downstream else found


def job_source(bucket: BucketRun, mended: Graph | None) -> JobOf:
    """Return the function that gives the job of a quantum: as published, or of a mended graph.

    In a RUN of several graphs, quanta of the others are as published.

    Raises
    ------
    OtherGraphError
        If the mended graph is none of those that the RUN belongs to: what its quanta made could
        not be merged.
    """
    if mended is None:
        return bucket.job_of
    if mended.graph_id not in bucket.records:
        raise OtherGraphError(
            f"RUN {bucket.run!r} in {bucket.store.uri}: expected a graph with the quanta and "
            f"datasets of {', '.join(sorted(bucket.records))}, found {mended.graph_id} "
            f"({mended.name}); only tasks can be mended, for other quanta use run-local or submit "
            "with --extend"
        )
    graph = mended

    def job_of(quantum_id: str) -> Job:
        if quantum_id not in graph.by_id:
            # Of another graph of the RUN.
            return bucket.job_of(quantum_id)
        job = graph.job_of(graph.by_id[quantum_id])
        # A graph file does not tell who moves the bytes; that was said when it was published.
        with suppress(*JOB_ERRORS):
            job = replace(job, data_mode=bucket.job_of(quantum_id).data_mode)
        return job

    return job_of


def plan_unsuccessful(bucket: BucketRun, quantum_ids: list[str], job_of: JobOf) -> Rerun:
    """Plan those of some quanta that have no successful attempt.

    Raises
    ------
    AlreadySuccessfulError
        If one quantum was meant and it has.
    """
    standings = bucket.standings(quantum_ids)
    left = [q for q in quantum_ids if standings[q].counting is None]
    counting = standings[quantum_ids[0]].counting
    if len(quantum_ids) == 1 and counting:
        quantum = bucket.quanta[quantum_ids[0]]
        raise AlreadySuccessfulError(
            f"quantum {quantum.quantum_id} ({quantum.task_label}, "
            f"{format_data_id(quantum.data_id)}): attempt {counting.attempt_id} of "
            f"{counting.finished} was successful; --into runs it again beside it, --replace in "
            "its place"
        )
    again = producers_in_bucket(bucket, left, job_of)
    plan = plan_of_bucket(bucket, [*again, *left], replacing(job_of, again))
    return Rerun(plan, len(quantum_ids) - len(left), again, frozenset(again))


def producers_in_bucket(
    bucket: BucketRun, quantum_ids: Collection[str], job_of: JobOf
) -> dict[str, str]:
    """Return who must be run again for some quanta, because what it made for them was not kept.

    The attempts that counted, by quantum id.
    """

    def counting_of(asked: list[str]) -> dict[str, Delta]:
        return {q: s.counting for q, s in bucket.standings(asked).items() if s.counting}

    def parents_of(quantum_id: str) -> list[str]:
        return [p for p in bucket.quanta[quantum_id].parents if p in bucket.quanta]

    return producers_again(quantum_ids, parents_of, job_of, counting_of)


def replacing(job_of: JobOf, replaced: Mapping[str, str]) -> JobOf:
    """Return the function that gives jobs of which some attempts are to count no longer."""

    def replacing_job(quantum_id: str) -> Job:
        job = job_of(quantum_id)
        return replace(job, replaces=replaced[quantum_id]) if quantum_id in replaced else job

    return replacing_job


def plan_of_bucket(bucket: BucketRun, quantum_ids: Collection[str], job_of: JobOf) -> Plan:
    """The plan of some quanta of a RUN."""
    quanta = {quantum_id: bucket.quanta[quantum_id] for quantum_id in quantum_ids}

    def readers_of(quantum_ids: Collection[str]) -> dict[str, frozenset[str]]:
        jobs = map_concurrently(job_of, bucket.children_of(quantum_ids))
        return readers((job.quantum_id, job.inputs) for job in jobs)

    labels, rule_of = labels_of(quanta), bucket.rule_of
    return Plan(bucket.run, quanta, job_of, rule_of, labels, readers_of, bucket.graph_of)


def publish_jobs(
    store: ObjectStore, plan: Plan, quantum_ids: Collection[str] | None = None
) -> None:
    """Write the job files of a plan, or of some of it, for workers and for the next rerun."""

    def put(quantum_id: str) -> None:
        store.put(names.job_key(plan.run, quantum_id), write_job(plan.job_of(quantum_id)))

    map_concurrently(put, plan.quanta if quantum_ids is None else quantum_ids)
