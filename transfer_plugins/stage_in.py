# SPDX-License-Identifier: BSD-3-Clause
"""Stage-in: the inputs of a job, from the datastore into a sandbox.

A job in direct mode fetches none: its inputs are found and compared where they are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from registry import names, staging
from registry.attempt import new_attempt_id, utc_now
from registry.delta import Delta, ReadInput
from registry.errors import QuantumExecError
from registry.job import DataMode, Job, PredictedInput, write_job
from registry.model import format_data_id
from transfer_plugins.commit_links import write_commit_links
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.deltas import Standing, standing_of, trusting, trusting_producer
from transfer_plugins.object_store import ChecksumMismatchError, ObjectStore


class InputNotReadyError(QuantumExecError):
    """The quantum that makes an input has no successful attempt, or did not keep it: run it."""

    error_type = "input_not_ready"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of one input are, and what is known of them: size in bytes, checksum."""

    predicted: PredictedInput
    attempt_id: str | None
    key: str
    size_bytes: int | None
    checksum: str | None


def stage_in(
    job: Job, store: ObjectStore, sandbox: Path, *, link_lifetime_s: int = 0
) -> staging.StageInReport:
    """Fetch all inputs of a job, many at once, and write the report that names the attempt.

    In direct mode they stay where they are: each is found, its size compared, and its checksum
    taken from the delta, the graph or the store; only if none of these knows it, it is read once.

    An empty stage-out list is made first of all, so that a job whose wrapper is killed ends as
    failed, and is not held for a missing file (HTCondor hold code 12, subcode 2). If the quantum
    has a valid successful delta already that is newer than `Job.replaces`, nothing is fetched.

    Parameters
    ----------
    link_lifetime_s
        Seconds for which the wrapper may upload by itself if the job is stopped; 0 for never.

    Raises
    ------
    InputNotReadyError
        If a producing quantum has no successful attempt, or did not keep what is wanted.
    TransferError
        If an object is missing, differs from its checksum, or cannot be fetched.
    """
    write_empty_list(job.run, sandbox)
    make_sandbox(job, sandbox)
    started = utc_now()
    is_trusted = trusting(store, job, job.run, job.graph_id)
    standing = standing_of(store, job.run, job.quantum_id, is_trusted=is_trusted)
    report = begin_report(job, store, standing, started)
    if report.successful_attempt is None:
        producers = sorted({(i.run, i.producer) for i in job.inputs if i.producer})
        found = map_concurrently(lambda producer: delta_of(store, job, *producer), producers)
        sources, missing = find_sources(job.inputs, dict(zip(producers, found, strict=True)))
        inputs = map_concurrently(lambda source: _bring(job, source, store, sandbox), sources)
        report = replace(report, inputs=inputs, missing=missing)
        write_commit_links(job, report.attempt_id, store, sandbox, link_lifetime_s)
    write_report(report, sandbox)
    return report


def write_empty_list(run: str, sandbox: Path) -> None:
    """Write a stage-out list that names nothing."""
    empty = staging.write_stage_out_list(staging.StageOutList(run))
    sandbox.joinpath(names.STAGE_OUT_FILE).write_bytes(empty)


def make_sandbox(job: Job, sandbox: Path) -> None:
    """Write the job file, and make the directory for datasets."""
    sandbox.joinpath(names.JOB_FILE).write_bytes(write_job(job))
    sandbox.joinpath(names.REPO_DIR).mkdir(exist_ok=True)


def begin_report(
    job: Job, store: ObjectStore, standing: Standing, started: str
) -> staging.StageInReport:
    """Name a new attempt, or the one that makes it needless."""
    return staging.StageInReport(
        job.quantum_id,
        new_attempt_id(after=standing.newest_attempt),
        started,
        successful_attempt=done_by(job, standing),
        datastore=store.uri,
        endpoint_url=store.endpoint_url,
    )


def write_report(report: staging.StageInReport, sandbox: Path) -> None:
    """Write what stage-in found into the sandbox of its quantum."""
    sandbox.joinpath(names.STAGE_IN_FILE).write_bytes(staging.write_stage_in_report(report))


def done_by(job: Job, standing: Standing) -> str | None:
    """The attempt that makes a new one needless, if there is one."""
    if standing.counting is None:
        return None
    done = standing.counting.attempt_id
    # Attempt ids are ordered in time: a newer success has done what this job is here for.
    return done if job.replaces is None or done > job.replaces else None


def find_sources(
    inputs: Iterable[PredictedInput], deltas: Mapping[tuple[str, str], Delta]
) -> tuple[list[Source], list[str]]:
    """Tell where inputs lie, and which of them their producers did not make.

    Parameters
    ----------
    deltas
        The delta that counts of each producer, by RUN and quantum id.
    """
    sources, missing = [], []
    for predicted in inputs:
        source = _find(predicted, deltas)
        if source is None:
            missing.append(predicted.dataset_id)
        else:
            sources.append(source)
    return sources, missing


def delta_of(store: ObjectStore, job: Job, run: str, producer: str) -> Delta:
    """Return the delta that counts of a quantum that makes inputs of a job.

    Raises
    ------
    InputNotReadyError
        If it has no successful attempt.
    """
    is_trusted = trusting_producer(store, job, run, producer)
    delta = standing_of(store, run, producer, is_trusted=is_trusted).counting
    if delta is None:
        wanted = next(i for i in job.inputs if (i.run, i.producer) == (run, producer))
        raise InputNotReadyError(
            f"quantum {job.quantum_id} ({job.task_label}, {format_data_id(job.data_id)}): expected "
            f"a successful attempt of quantum {producer}, which makes {wanted.dataset_type} "
            f"({format_data_id(wanted.data_id)}); found none in {store.uri}/{run}"
        )
    return delta


def _find(predicted: PredictedInput, deltas: Mapping[tuple[str, str], Delta]) -> Source | None:
    """Tell where an input lies; None if its producer succeeded without making it."""
    if predicted.producer is None:
        if predicted.key is None:
            raise InputNotReadyError(
                f"{predicted.dataset_type} ({format_data_id(predicted.data_id)}): expected a key "
                "or a producing quantum, found neither"
            )
        known = (predicted.size_bytes, predicted.checksum)
        return Source(predicted, None, predicted.key, *known)
    delta = deltas[predicted.run, predicted.producer]
    if predicted.dataset_id in delta.not_kept:
        raise InputNotReadyError(_not_kept(predicted, delta))
    for row in delta.rows.datastore_record:
        if row.dataset_id == predicted.dataset_id:
            known = (row.size_bytes, row.checksum)
            return Source(predicted, delta.attempt_id, row.object_key, *known)
    return None


def _not_kept(predicted: PredictedInput, delta: Delta) -> str:
    producer, data_id = delta.quantum_id, format_data_id(predicted.data_id)
    return (
        f"{predicted.dataset_type} ({data_id}): expected dataset {predicted.dataset_id} in the "
        f"datastore, found that attempt {delta.attempt_id} of quantum {producer} "
        f"({delta.task_label}) made it in a cluster of quanta and did not keep it; run that "
        "quantum again, alone, and it is kept: "
        f"quantum-exec rerun {predicted.run} --quantum {producer} --replace"
    )


def _bring(job: Job, source: Source, store: ObjectStore, sandbox: Path) -> ReadInput:
    if job.data_mode is DataMode.DIRECT:
        return locate(source, store)
    return fetch(source, store, sandbox)


def fetch(source: Source, store: ObjectStore, sandbox: Path) -> ReadInput:
    """Fetch an input to its place in a sandbox and compare it with what is known of it."""
    path = sandbox / names.REPO_DIR / source.predicted.path
    size, checksum = store.download(source.key, path, checksum=source.checksum)
    _check_size(source, store, size)
    return ReadInput(source.predicted.dataset_id, source.attempt_id, source.key, size, checksum)


def locate(source: Source, store: ObjectStore) -> ReadInput:
    """Compare an input with what is known of it, reading it only if no checksum is known."""
    found = store.head(source.key)
    _check_size(source, store, found.size_bytes)
    if source.checksum and found.checksum not in (None, source.checksum):
        raise ChecksumMismatchError(
            f"{store.uri}/{source.key}: expected {source.checksum}, found {found.checksum} "
            f"({found.size_bytes} bytes)"
        )
    checksum = source.checksum or found.checksum or store.measure(source.key)[1]
    return ReadInput(
        source.predicted.dataset_id, source.attempt_id, source.key, found.size_bytes, checksum
    )


def check_known(source: Source, store: ObjectStore, size_bytes: int, checksum: str) -> None:
    """Compare an object that was read with what another reader knows of it.

    Raises
    ------
    ChecksumMismatchError
    """
    _check_size(source, store, size_bytes)
    if source.checksum not in (None, checksum):
        raise ChecksumMismatchError(
            f"{store.uri}/{source.key}: expected {source.checksum}, found {checksum}"
        )


def _check_size(source: Source, store: ObjectStore, found: int) -> None:
    if source.size_bytes not in (None, found):
        raise ChecksumMismatchError(
            f"{store.uri}/{source.key}: expected {source.size_bytes} bytes, found {found}"
        )
