# SPDX-License-Identifier: BSD-3-Clause
"""The quanta of a cluster, one after the other in one job, each in a sandbox of its own.

A cluster is no unit of commitment: each quantum has its own attempt, log and delta, and one that
fails stops only those that read what it would have made. Datasets that stay in the sandbox are
decided on when the last quantum has ended, and never before: a wrapper that is killed leaves
stage-out lists that keep everything.
"""

import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from executor.cluster_exit import code_for_pool
from executor.exit_codes import ExitCode, code_of_signal
from executor.quantum_run import (
    NotStagedInError,
    QuantumEnd,
    attempt_quantum,
    read_staged_in,
    write_commit,
)
from executor.stop_signal import StopSignal
from executor.stopped_commit import StoppedCommit, commit_stopped, take_links
from registry import names, staging
from registry.attempt import utc_now
from registry.delta import DatastoreRow, Delta, ReadInput
from registry.errors import QuantumExecError
from registry.job import DataMode, Job
from registry.model import format_data_id
from registry.quantum_cluster import ClusterMember, QuantumCluster, read_quantum_cluster
from transfer_plugins.local_copy import copy_verified

_log = logging.getLogger(__name__)

# Another file than the first one: the list that names it must be right at every moment.
_LAST_DELTA = "delta-last.json"


def run_cluster(sandbox: Path) -> int:
    """Run the unfinished quanta of a cluster that stage-in put into a sandbox.

    Returns
    -------
    int
        0 if all are successful; else that of a quantum that failed, as `code_for_pool` says.

    Raises
    ------
    QuantumExecError
        If the sandbox was not staged in.
    """
    path = sandbox / names.CLUSTER_FILE
    try:
        cluster = read_quantum_cluster(path.read_bytes(), f"cluster file {path}")
    except OSError as error:
        raise NotStagedInError(
            f"sandbox {sandbox}: expected {names.CLUSTER_FILE} from stage-in, found none: "
            f"{error.strerror}"
        ) from error
    members = {m.quantum_id: _read_member(m, sandbox) for m in cluster.members}
    with StopSignal() as stop:
        return _Run(cluster, members, stop).run()


@dataclass
class _Member:
    """A quantum of the cluster; ``end`` is None until it has ended, or if it is blocked."""

    job: Job
    report: staging.StageInReport
    sandbox: Path
    not_kept: list[str]
    links: staging.CommitLinks
    end: QuantumEnd | None = None
    code: int = ExitCode.SUCCESS
    producers: set[str] = field(default_factory=set)
    """Quanta whose sandboxes it reads from."""

    @property
    def is_done(self) -> bool:
        return self.end is not None and self.end.is_done

    @property
    def label(self) -> str:
        job = self.job
        return f"quantum {job.quantum_id} ({job.task_label}, {format_data_id(job.data_id)})"


def _read_member(member: ClusterMember, sandbox: Path) -> _Member:
    place = sandbox / names.QUANTA_DIR / member.quantum_id
    job, report = read_staged_in(place)
    if job.quantum_id != member.quantum_id:
        raise NotStagedInError(
            f"sandbox {place}: expected quantum {member.quantum_id}, found {job.quantum_id}"
        )
    from_members = set(report.from_members)
    found = _Member(job, report, place, member.not_kept, take_links(place))
    found.producers = {
        i.producer for i in job.inputs if i.producer and i.dataset_id in from_members
    }
    return found


class _Run:
    """One run of a cluster."""

    def __init__(
        self, cluster: QuantumCluster, members: dict[str, _Member], stop: StopSignal
    ) -> None:
        self.cluster = cluster
        self.members = members
        self.stop = stop
        self.is_first = True

    def run(self) -> int:
        """Run all, decide what is kept, and commit if the job was stopped."""
        for member in self.members.values():
            if self.stop.received is not None:
                break
            self._run_member(member)
        is_direct = any(m.job.data_mode is DataMode.DIRECT for m in self.members.values())
        if not is_direct:
            # In direct mode they lie in the datastore already.
            self._leave_out()
        if self.stop.received is not None:
            commit_stopped(self._commits(), self.stop.received_at)
        return self._code()

    def _code(self) -> int:
        codes = [member.code for member in self.members.values() if member.code]
        if codes:
            return code_for_pool(codes, os.environ)
        is_whole = all(member.is_done for member in self.members.values())
        if self.stop.received is not None and not is_whole:
            return code_of_signal(self.stop.received)
        return ExitCode.SUCCESS

    def _run_member(self, member: _Member) -> None:
        blocking = [p for p in sorted(member.producers) if not self._is_done(p)]
        if blocking:
            _log.warning("%s: is blocked by quantum %s, which failed", member.label, blocking[0])
            return
        try:
            if member.report.successful_attempt is None:
                self._begin(member)
            member.end = attempt_quantum(member.job, member.report, member.sandbox, self.stop)
            member.code = member.end.code
        except (QuantumExecError, OSError) as error:
            # No delta can tell it; the others go on.
            _log.error("%s: %s", member.label, error)
            is_unusable = isinstance(error, OSError) or error.error_type == "sandbox_unusable"
            member.code = ExitCode.SANDBOX_UNUSABLE if is_unusable else ExitCode.FAILED

    def _is_done(self, quantum_id: str) -> bool:
        return quantum_id in self.members and self.members[quantum_id].is_done

    def _begin(self, member: _Member) -> None:
        """Bring what other quanta made, and complete the report of stage-in."""
        inputs, missing = list(member.report.inputs), list(member.report.missing)
        for predicted in member.job.inputs:
            if predicted.dataset_id not in member.report.from_members:
                continue
            read = self._bring(member, predicted.dataset_id, str(predicted.producer))
            if read is None:
                missing.append(predicted.dataset_id)
            else:
                inputs.append(read)
        # The time of stage-in is that of the first; the others had to wait for their turn.
        started = member.report.started if self.is_first else utc_now()
        self.is_first = False
        member.report = replace(member.report, inputs=inputs, missing=missing, started=started)
        text = staging.write_stage_in_report(member.report)
        (member.sandbox / names.STAGE_IN_FILE).write_bytes(text)

    def _bring(self, member: _Member, dataset_id: str, producer_id: str) -> ReadInput | None:
        """Copy a dataset from the sandbox of its producer; None if that did not make it."""
        producer = self.members[producer_id]
        delta = producer.end.delta if producer.end else None
        if delta is None:
            return None
        rows = [row for row in delta.rows.datastore_record if row.dataset_id == dataset_id]
        if not rows:
            return None
        row = rows[0]
        if member.job.data_mode is not DataMode.DIRECT:
            made = {o.dataset_id: o.path for o in producer.job.outputs}[dataset_id]
            wanted = {i.dataset_id: i.path for i in member.job.inputs}[dataset_id]
            copy_verified(
                producer.sandbox / names.REPO_DIR / made,
                member.sandbox / names.REPO_DIR / wanted,
                row.size_bytes,
                row.checksum,
            )
        return ReadInput(dataset_id, delta.attempt_id, row.object_key, row.size_bytes, row.checksum)

    def _leave_out(self) -> None:
        """Leave datasets in the sandbox that nobody needs any more, and say so in their deltas."""
        for member in self.members.values():
            end = member.end
            if end is None or end.delta is None or not end.is_done:
                continue
            gone = {d for d in member.not_kept if self._is_read_by_all(d, member.job.quantum_id)}
            rows = [r for r in end.delta.rows.datastore_record if r.dataset_id in gone]
            if rows and end.stage_out_list is not None:
                try:
                    member.end = _without(end.delta, rows, end.stage_out_list, member)
                except OSError as error:
                    # The list still names everything, so everything is kept.
                    _log.warning("%s: its datasets are kept: %s", member.label, error)

    def _is_read_by_all(self, dataset_id: str, producer: str) -> bool:
        readers = [
            m
            for m in self.members.values()
            if any(i.dataset_id == dataset_id and i.producer == producer for i in m.job.inputs)
        ]
        return bool(readers) and all(reader.is_done for reader in readers)

    def _commits(self) -> list[StoppedCommit]:
        """What to upload when the job is stopped: what is finished first, in its order."""
        ended = [m for m in self.members.values() if m.end and m.end.stage_out_list]
        attempts = {q: m.report.attempt_id for q, m in self.members.items()}
        return [
            StoppedCommit(
                m.report.attempt_id,
                m.sandbox,
                m.end.stage_out_list,
                m.links,
                frozenset(attempts[p] for p in m.producers),
            )
            for m in sorted(ended, key=lambda member: not member.is_done)
            if m.end and m.end.stage_out_list
        ]


def _without(
    delta: Delta, rows: list[DatastoreRow], kept: staging.StageOutList, member: _Member
) -> QuantumEnd:
    """Write delta and stage-out list again, without some datasets."""
    gone = {row.dataset_id: row.object_key for row in rows}
    records = [r for r in delta.rows.datastore_record if r.dataset_id not in gone]
    added = replace(delta.rows, datastore_record=records)
    last = replace(delta, rows=added, not_kept=sorted(gone))
    files = [entry for entry in kept.files if entry.key not in gone.values()]
    code = member.end.code if member.end else ExitCode.SUCCESS
    return QuantumEnd(code, last, write_commit(last, files, member.sandbox, _LAST_DELTA))
