# SPDX-License-Identifier: BSD-3-Clause
"""Stage-out of a job with several quanta: each is committed by itself, after those it builds on."""

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from registry import names, staging
from registry.delta import read_delta
from registry.errors import FormatError, QuantumExecError
from registry.quantum_cluster import QuantumCluster
from transfer_plugins.concurrency import CONCURRENT_TRANSFERS
from transfer_plugins.object_store import ObjectStore
from transfer_plugins.stage_out import Moved, check_unchanged, read_list, upload


class ProducerNotCommittedError(QuantumExecError):
    """A quantum of a cluster read what another one made, and that one could not be committed."""

    error_type = "producer_not_committed"
    is_retryable = True


@dataclass(frozen=True, slots=True)
class MemberCommit:
    """What a quantum of a cluster has to upload, and the attempts here whose datasets it read."""

    quantum_id: str
    attempt_id: str
    sandbox: Path
    stage_out_list: staging.StageOutList
    builds_on: frozenset[str]


def stage_out_cluster(
    cluster: QuantumCluster, store: ObjectStore, sandbox: Path, *, patience_s: float
) -> Moved:
    """Upload what the quanta of a cluster left, several of them at once.

    The delta of a quantum goes up after all its own files, and after the deltas of those whose
    datasets it read from their sandboxes. One that fails stops none that does not build on it.
    Repeated, it writes the same bytes under the same keys.

    Raises
    ------
    QuantumExecError
        The first error in the order of the members, when everything else is done: as `stage_out`,
        or `FormatError` if a list is missing, damaged, or not that of its quantum.
    """
    deadline = time.monotonic() + patience_s
    commits, errors = read_commits(cluster, sandbox)
    with ThreadPoolExecutor(CONCURRENT_TRANSFERS) as threads:
        begun: dict[str, Future[Moved]] = {}
        for commit in commits:
            # A thread waits for members before it only, and these have been given theirs.
            earlier = {attempt_id: begun.get(attempt_id) for attempt_id in commit.builds_on}
            begun[commit.attempt_id] = threads.submit(
                _stage_out_member, commit, store, deadline, earlier
            )
        moved, failed = _ends(commits, begun)
    errors |= failed
    for member in cluster.members:
        if member.quantum_id in errors:
            raise errors[member.quantum_id]
    return Moved(sum(m.n_files for m in moved), sum(m.n_bytes for m in moved))


def _ends(
    commits: Sequence[MemberCommit], begun: Mapping[str, "Future[Moved]"]
) -> tuple[list[Moved], dict[str, Exception]]:
    moved: list[Moved] = []
    errors: dict[str, Exception] = {}
    for commit in commits:
        try:
            moved.append(begun[commit.attempt_id].result())
        except Exception as error:
            # Raised by the caller, when the others have been looked at too.
            errors[commit.quantum_id] = error
    return moved, errors


def _stage_out_member(
    commit: MemberCommit,
    store: ObjectStore,
    deadline: float,
    earlier: Mapping[str, "Future[Moved] | None"],
) -> Moved:
    files = commit.stage_out_list.files
    for entry in files:
        upload(entry, store, commit.sandbox, deadline)
    for attempt_id, producer in earlier.items():
        failure = producer.exception() if producer else "it left nothing to commit"
        if failure is not None:
            raise ProducerNotCommittedError(
                f"quantum {commit.quantum_id}: expected attempt {attempt_id}, whose datasets it "
                f"read, to be committed before it: {failure}"
            )
    delta = commit.stage_out_list.delta
    if delta is not None:
        upload(delta, store, commit.sandbox, deadline)
        files = [*files, delta]
    return Moved(len(files), sum(entry.size_bytes for entry in files))


def read_commits(
    cluster: QuantumCluster, sandbox: Path
) -> tuple[list[MemberCommit], dict[str, Exception]]:
    """Read what each quantum of a cluster wants uploaded, in the order of the members.

    Returns
    -------
    commits, errors
        Errors by quantum id: of files that are missing, damaged or not those of their quanta.
        Quanta behind one whose attempt is not known have one too: they may build on it.
    """
    commits: list[MemberCommit] = []
    errors: dict[str, Exception] = {}
    attempts: set[str] = set()
    for member in cluster.members:
        place = sandbox / names.QUANTA_DIR / member.quantum_id
        try:
            attempt_id = _attempt_of(member.quantum_id, place)
        except QuantumExecError as error:
            left = cluster.members[cluster.members.index(member) :]
            return commits, errors | {other.quantum_id: error for other in left}
        try:
            commit = _read_commit(cluster.run, member.quantum_id, attempt_id, place, attempts)
        except (QuantumExecError, OSError) as error:
            errors[member.quantum_id] = error
        else:
            commits += [commit] if commit else []
        attempts.add(attempt_id)
    return commits, errors


def _attempt_of(quantum_id: str, place: Path) -> str:
    path = place / names.STAGE_IN_FILE
    try:
        text = path.read_bytes()
    except OSError as error:
        raise FormatError(
            f"stage-in report {path}: expected a file, found none: {error.strerror}"
        ) from error
    report = staging.read_stage_in_report(text, f"stage-in report {path}")
    if report.quantum_id != quantum_id:
        raise FormatError(
            f"stage-in report {path}: expected quantum {quantum_id}, found {report.quantum_id}"
        )
    return report.attempt_id


def _read_commit(
    run: str, quantum_id: str, attempt_id: str, place: Path, attempts: Collection[str]
) -> MemberCommit | None:
    """Read one; None if nothing is to be committed."""
    found = read_list(place)
    if found.delta is None:
        return None
    expected = names.delta_key(run, quantum_id, attempt_id)
    if (found.run, found.delta.key) != (run, expected):
        raise FormatError(
            f"stage-out list of quantum {quantum_id}: expected the delta {expected!r}, found "
            f"{found.delta.key!r}"
        )
    check_unchanged(place, found.delta)
    delta = read_delta((place / found.delta.path).read_bytes(), found.delta.key)
    read = {i.attempt_id for i in delta.inputs if i.attempt_id}
    return MemberCommit(quantum_id, attempt_id, place, found, frozenset(read & set(attempts)))
