# SPDX-License-Identifier: BSD-3-Clause
"""Stage-in of a job with several quanta: each in a sandbox of its own below that of the job."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry import names, staging
from registry.attempt import utc_now
from registry.delta import Delta, ReadInput
from registry.errors import FormatError
from registry.job import DataMode, Job, PredictedInput
from registry.quantum_cluster import QuantumCluster, write_quantum_cluster
from transfer_plugins.commit_links import write_commit_links
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.deltas import Standing, standing_of, trusting
from transfer_plugins.job_files import jobs_of_cluster
from transfer_plugins.local_copy import copy_verified
from transfer_plugins.object_store import ObjectStore
from transfer_plugins.stage_in import (
    Source,
    begin_report,
    check_known,
    delta_of,
    done_by,
    fetch,
    find_sources,
    locate,
    make_sandbox,
    write_empty_list,
    write_report,
)


@dataclass(frozen=True, slots=True)
class StagedCluster:
    """What was fetched for a cluster: a report for each quantum, objects and bytes moved."""

    reports: list[staging.StageInReport]
    n_objects: int
    n_bytes: int


def stage_in_cluster(
    cluster: QuantumCluster, store: ObjectStore, sandbox: Path, *, link_lifetime_s: int = 0
) -> StagedCluster:
    """Fetch what the unfinished quanta of a cluster need, each object once.

    Empty stage-out lists are made first of all, for the job and for each quantum. A quantum that
    has a valid successful delta is not staged in, unless another one needs a dataset of it that
    was not kept: then it is run again. What one quantum makes for another is not looked for; the
    report names it in ``from_members``.

    Parameters
    ----------
    link_lifetime_s
        Seconds for which the wrapper may upload by itself if the job is stopped; 0 for never.

    Raises
    ------
    FormatError
        If the cluster and its job files contradict each other.
    InputNotReadyError
        If a producing quantum outside has no successful attempt, or did not keep what is wanted.
    TransferError
        If an object is missing, differs from its checksum, or cannot be fetched.
    """
    write_empty_list(cluster.run, sandbox)
    sandbox.joinpath(names.CLUSTER_FILE).write_bytes(write_quantum_cluster(cluster))
    places = {m.quantum_id: sandbox / names.QUANTA_DIR / m.quantum_id for m in cluster.members}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
        write_empty_list(cluster.run, place)
    started = utc_now()
    jobs = jobs_of_cluster(cluster, store)
    _check_order(cluster, jobs)
    members = _look_at(jobs, store, places)
    staged = _fetch_all(members, store, _outer_deltas(members, store))
    return _report(staged, members, store, started, link_lifetime_s)


@dataclass(frozen=True, slots=True)
class _Member:
    """A quantum of the cluster: where it stands, and which of its inputs others make here."""

    job: Job
    standing: Standing
    place: Path
    is_run: bool
    from_members: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Staged:
    """What came of the inputs of the quanta that are run, by quantum id."""

    inputs: dict[str, list[ReadInput]]
    missing: dict[str, list[str]]
    n_objects: int
    n_bytes: int


def _check_order(cluster: QuantumCluster, jobs: Sequence[Job]) -> None:
    """Refuse a cluster in which a quantum comes before one whose dataset it reads."""
    place = {job.quantum_id: number for number, job in enumerate(jobs)}
    for number, job in enumerate(jobs):
        for predicted in job.inputs:
            is_here = predicted.run == job.run and predicted.producer in place
            if is_here and place[str(predicted.producer)] >= number:
                raise FormatError(
                    f"cluster {cluster.cluster_id} ({cluster.label}): expected quantum "
                    f"{predicted.producer} before {job.quantum_id}, which reads its "
                    f"{predicted.dataset_type}; found it behind"
                )


def _look_at(jobs: Sequence[Job], store: ObjectStore, places: Mapping[str, Path]) -> list[_Member]:
    def stand(job: Job) -> Standing:
        is_trusted = trusting(store, job, job.run, job.graph_id)
        return standing_of(store, job.run, job.quantum_id, is_trusted=is_trusted)

    standings = map_concurrently(stand, jobs)
    run = _quanta_to_run(jobs, standings)
    return [
        _Member(
            job,
            standing,
            places[job.quantum_id],
            job.quantum_id in run,
            frozenset(i.dataset_id for i in job.inputs if i.run == job.run and i.producer in run),
        )
        for job, standing in zip(jobs, standings, strict=True)
    ]


def _quanta_to_run(jobs: Sequence[Job], standings: Sequence[Standing]) -> set[str]:
    """Quanta that are not done, and done ones that did not keep what one of these reads."""
    found = {job.quantum_id: s for job, s in zip(jobs, standings, strict=True)}
    run = {job.quantum_id for job in jobs if done_by(job, found[job.quantum_id]) is None}
    # A producer stands before its consumers, so one walk from the end closes over chains.
    for job in reversed(jobs):
        if job.quantum_id not in run:
            continue
        for predicted in job.inputs:
            standing = found.get(predicted.producer or "")
            if standing and standing.counting and predicted.run == job.run:
                if predicted.dataset_id in standing.counting.not_kept:
                    run.add(standing.counting.quantum_id)
    return run


def _outer_deltas(members: Sequence[_Member], store: ObjectStore) -> dict[tuple[str, str], Delta]:
    """The deltas of all producers whose datasets are to be fetched, each looked for once."""
    deltas = {
        (m.job.run, m.job.quantum_id): m.standing.counting
        for m in members
        if not m.is_run and m.standing.counting
    }
    wanted: dict[tuple[str, str], list[PredictedInput]] = defaultdict(list)
    readers: dict[tuple[str, str], Job] = {}
    for member in members:
        for predicted in _outer_inputs(member):
            producer = (predicted.run, predicted.producer or "")
            if predicted.producer and producer not in deltas:
                wanted[producer].append(predicted)
                readers.setdefault(producer, member.job)
    producers = sorted(wanted)
    found = map_concurrently(
        lambda p: delta_of(store, replace(readers[p], inputs=wanted[p]), *p), producers
    )
    return deltas | dict(zip(producers, found, strict=True))


def _outer_inputs(member: _Member) -> list[PredictedInput]:
    if not member.is_run:
        return []
    return [i for i in member.job.inputs if i.dataset_id not in member.from_members]


def _fetch_all(
    members: Sequence[_Member], store: ObjectStore, deltas: Mapping[tuple[str, str], Delta]
) -> _Staged:
    """Fetch each object once, for all that read it."""
    missing: dict[str, list[str]] = {}
    readers: dict[tuple[DataMode, str], list[tuple[_Member, Source]]] = defaultdict(list)
    for member in members:
        sources, missing[member.job.quantum_id] = find_sources(_outer_inputs(member), deltas)
        for source in sources:
            readers[member.job.data_mode, source.key].append((member, source))
    groups = list(readers.values())
    fetched = map_concurrently(lambda group: _fetch_once(group, store), groups)
    inputs: dict[str, list[ReadInput]] = {m.job.quantum_id: [] for m in members}
    for group, found in zip(groups, fetched, strict=True):
        for (member, _), read in zip(group, found, strict=True):
            inputs[member.job.quantum_id].append(read)
    moved = [g[0] for (mode, _), g in zip(readers, fetched, strict=True) if mode is DataMode.STAGED]
    return _Staged(inputs, missing, len(moved), sum(read.size_bytes for read in moved))


def _fetch_once(group: Sequence[tuple[_Member, Source]], store: ObjectStore) -> list[ReadInput]:
    """Bring one object to all quanta that read it: from the datastore, then from the first."""
    (first, source), *others = group
    if first.job.data_mode is DataMode.DIRECT:
        read = locate(source, store)
    else:
        read = fetch(source, store, first.place)
    original = first.place / names.REPO_DIR / source.predicted.path
    found = [read]
    for member, other in others:
        check_known(other, store, read.size_bytes, read.checksum)
        if member.job.data_mode is not DataMode.DIRECT:
            target = member.place / names.REPO_DIR / other.predicted.path
            copy_verified(original, target, read.size_bytes, read.checksum)
        found.append(
            replace(read, dataset_id=other.predicted.dataset_id, attempt_id=other.attempt_id)
        )
    return found


def _report(
    staged: _Staged,
    members: Sequence[_Member],
    store: ObjectStore,
    started: str,
    link_lifetime_s: int,
) -> StagedCluster:
    reports = []
    for member in members:
        job = member.job
        make_sandbox(job, member.place)
        report = begin_report(job, store, member.standing, started)
        if member.is_run:
            # Inputs in the order of the job, as those of a quantum alone.
            order = {i.dataset_id: number for number, i in enumerate(job.inputs)}
            inputs = sorted(staged.inputs[job.quantum_id], key=lambda i: order[i.dataset_id])
            report = replace(
                report,
                successful_attempt=None,
                inputs=inputs,
                missing=staged.missing[job.quantum_id],
                from_members=sorted(member.from_members, key=order.__getitem__),
            )
            write_commit_links(job, report.attempt_id, store, member.place, link_lifetime_s)
        write_report(report, member.place)
        reports.append(report)
    return StagedCluster(reports, staged.n_objects, staged.n_bytes)
