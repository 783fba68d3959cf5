# SPDX-License-Identifier: BSD-3-Clause
"""The status of a RUN, put together from the logs of its DAGs and the deltas in its datastore."""

import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from executor.submit.bucket_run import read_bucket_run
from executor.submit.dag_states import ENDED_BADLY, states_of_dag
from executor.submit.hold_reasons import classify
from executor.submit.known_deltas import KnownDeltas
from executor.submit.node_states import HoldEvent, NodeRecord
from executor.submit.nodes import Node
from executor.submit.run_status import (
    Counts,
    DagStatus,
    Failure,
    FailureGroup,
    HeldJob,
    HoldGroup,
    RunStatus,
    TaskStatus,
)
from executor.submit.state_series import JobState
from executor.submit.submissions import Submission
from registry.attempt import AttemptStatus
from registry.delta import Delta
from transfer_plugins.object_store import ObjectStore

_VARYING = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\d+(?:\.\d+)?")
_LEAST_ENDS = 10


class StatusReader:
    """Reads the status of a RUN, again and again; only what is new is read each time.

    Parameters
    ----------
    directories
        Of the submissions, oldest first; the last one is what is going on.
    store
        The datastore, if the deltas are to be looked at as well.
    """

    def __init__(self, run: str, directories: list[Path], store: ObjectStore | None) -> None:
        self.run = run
        self.submissions = [Submission(directory) for directory in directories]
        self.deltas = KnownDeltas(store, run) if store is not None else None
        for earlier in self.submissions[:-1]:
            earlier.read_on()

    @property
    def newest(self) -> Submission:
        """The submission that is going on, or was the last."""
        return self.submissions[-1]

    def read(self) -> RunStatus:
        """Read on; raises `TransferError` if the datastore cannot be reached."""
        newest = self.newest
        newest.read_on()
        states = states_of_dag(newest)
        if self.deltas is not None:
            self.deltas.list_again()
        found = RunStatus(self.run, self._dag(states), self._tasks(states))
        found.holds, found.held = _holds(newest, states)
        found.failures = self._failures(states)
        found.failure_groups = group_failures(found.failures)
        found.n_starts = sum(n.n_starts for s in self.submissions for n in s.log.nodes.values())
        found.n_unreadable = sum(s.n_unreadable for s in self.submissions)
        if not newest.dagman.has_ended:
            found.jobs_per_s = newest.log.series.rate(time.time())
            found.eta_s, found.eta_from = estimate(found.tasks, found.jobs_per_s)
        return found

    def _dag(self, states: Mapping[str, JobState]) -> DagStatus:
        newest, dagman = self.newest, self.newest.dagman
        others = {name: s for name, s in states.items() if name not in newest.nodes}
        return DagStatus(
            *(str(newest.directory), dagman.job, dagman.word, dagman.exit_code),
            *(dagman.submitted_s, dagman.ended_s, len(self.submissions), others),
        )

    def _tasks(self, states: Mapping[str, JobState]) -> list[TaskStatus]:
        tasks: dict[str, TaskStatus] = {}
        least_mib: dict[str, int] = {}
        for name, node in self.newest.nodes.items():
            task = tasks.setdefault(node.label, TaskStatus(node.label))
            state = states.get(name, JobState.UNREADY)
            task.jobs[state] += 1
            for label, counts in self._quanta(node, state).items():
                tasks.setdefault(label, TaskStatus(label)).quanta += counts
            records = [r for s in self.submissions if (r := s.log.nodes.get(name))]
            _add_records(task, records, least_mib)
            if self.deltas is not None:
                n_lost = sum(record.n_lost_starts for record in records)
                n_told = self._n_unsuccessful(node, state)
                task.n_without_delta = (task.n_without_delta or 0) + max(0, n_lost - n_told)
        self._count_grown(tasks, least_mib)
        for label, seconds in self.newest.log.run_s.items():
            if label in tasks:
                tasks[label].median_run_s = statistics.median(seconds)
        return list(tasks.values())

    def _count_grown(self, tasks: Mapping[str, TaskStatus], least_mib: Mapping[str, int]) -> None:
        for name, record in self.newest.log.nodes.items():
            label = self.newest.label_of(name)
            if label in tasks and record.requested_mib > least_mib.get(label, 0):
                tasks[label].n_grown += 1

    def _quanta(self, node: Node, state: JobState) -> dict[str, Counts]:
        """Quanta of a job by task label: they stand as it does, but for what deltas tell.

        Only jobs that carry several are looked into: 27,000 deltas are not read for this. Of one
        that failed, quanta without a delta were not begun, since they build on one that failed.
        """
        if len(node.quantum_ids) == 1 or state is JobState.SUCCEEDED or self.deltas is None:
            return {label: Counter({state: n}) for label, n in node.quanta_by_task().items()}
        newest = self.deltas.newest_of(node.quantum_ids)
        n_done = sum(delta.status is AttemptStatus.SUCCESSFUL for delta in newest.values())
        record = self.newest.log.nodes.get(node.name)
        # A job that was killed or removed may have left no delta of what it had begun.
        has_run = record is not None and record.exit_code is not None
        is_pruned = state is JobState.FAILED and has_run and len(newest) > n_done
        found: dict[str, Counts] = defaultdict(Counter)
        for quantum_id, label in zip(node.quantum_ids, node.labels_of_quanta(), strict=True):
            delta = newest.get(quantum_id)
            if delta is None:
                found[label][JobState.PRUNED if is_pruned else state] += 1
            else:
                is_done = delta.status is AttemptStatus.SUCCESSFUL
                found[label][JobState.SUCCEEDED if is_done else state] += 1
        return found

    def _n_unsuccessful(self, node: Node, state: JobState) -> int:
        """Deltas of attempts without success; one of a job that is done is the one that counts."""
        assert self.deltas is not None
        n_deltas = sum(self.deltas.number_of(q) for q in node.quantum_ids)
        if state is JobState.SUCCEEDED:
            return n_deltas - len(node.quantum_ids)
        by_task = self._quanta(node, state).values()
        return n_deltas - sum(counts[JobState.SUCCEEDED] for counts in by_task)

    def _failures(self, states: Mapping[str, JobState]) -> list[Failure]:
        found: list[Failure] = []
        bad = {JobState.FAILED} if self.newest.dagman.is_removed else set(ENDED_BADLY)
        failed = [node for name, node in self.newest.nodes.items() if states.get(name) in bad]
        deltas: Mapping[str, Delta] = {}
        if self.deltas is not None:
            deltas = self.deltas.newest_of(q for node in failed for q in node.quantum_ids)
        for node in failed:
            record = self.newest.log.nodes.get(node.name)
            found += _failures_of(node, record, deltas)
        return found


def _add_records(task: TaskStatus, records: list[NodeRecord], least_mib: dict[str, int]) -> None:
    """Count what the logs of all submissions tell of one node."""
    task.n_retries += max(0, sum(record.n_submits for record in records) - 1)
    for record in records:
        task.n_evictions += record.n_evictions
        task.used_mib = max(task.used_mib, record.used_mib)
        if record.requested_mib:
            task.requested_mib = max(task.requested_mib, record.requested_mib)
            least = least_mib.get(task.label, record.requested_mib)
            least_mib[task.label] = min(least, record.requested_mib)


def _failures_of(
    node: Node, record: NodeRecord | None, deltas: Mapping[str, Delta]
) -> Iterable[Failure]:
    """The quanta of a failed job that say so themselves; else the job as a whole."""
    told = [deltas[q] for q in node.quantum_ids if q in deltas]
    unsuccessful = [delta for delta in told if delta.status is not AttemptStatus.SUCCESSFUL]
    for delta in unsuccessful:
        error = delta.error or f"{delta.status} with exit code {delta.exit_code}"
        yield Failure(
            *(delta.task_label, node.name, delta.quantum_id, error),
            *(delta.exit_code, delta.log_key),
        )
    if not unsuccessful:
        quantum_id = node.quantum_ids[0] if len(node.quantum_ids) == 1 else None
        code = record.exit_code if record else None
        yield Failure(node.label, node.name, quantum_id, _end_of_job(record), code, None)


def _end_of_job(record: NodeRecord | None) -> str:
    """What HTCondor alone tells of a job that failed."""
    if record is None:
        return "the job could not be submitted (see run.dag.dagman.out)"
    if record.removal is not None:
        return f"the job was removed: {record.removal}"
    if record.signal is not None:
        return f"the job was killed by signal {record.signal}"
    return f"the job ended with exit code {record.exit_code}"


def group_failures(failures: Iterable[Failure]) -> list[FailureGroup]:
    """Failures by label and headline of the error, whatever numbers are in it; most first."""
    groups: dict[tuple[str, str], FailureGroup] = {}
    for failure in failures:
        told = failure.headline
        key = failure.label, _VARYING.sub("#", told)
        groups.setdefault(key, FailureGroup(failure.label, told, [])).failures.append(failure)
    return sorted(groups.values(), key=lambda group: -len(group.failures))


def _holds(
    submission: Submission, states: Mapping[str, JobState]
) -> tuple[list[HoldGroup], list[HeldJob]]:
    groups: dict[str, HoldGroup] = {}

    def group_of(hold: HoldEvent) -> HoldGroup:
        meaning = classify(hold.code, hold.subcode, hold.reason)
        new = HoldGroup(str(meaning.cause), meaning.advice, meaning.may_retry, example=hold.reason)
        return groups.setdefault(str(meaning.cause), new)

    for hold, number in submission.log.hold_counts.items():
        group_of(hold).n_holds += number
    held = []
    for name, record in submission.log.nodes.items():
        if states.get(name) is JobState.HELD and record.hold is not None:
            group = group_of(record.hold)
            group.n_held += 1
            group.example = record.hold.reason
            label = submission.label_of(name)
            told = (record.job, name, label, group.cause, record.hold.reason, record.held_s)
            held.append(HeldJob(*told))
    return sorted(groups.values(), key=lambda g: (-g.n_held, -g.n_holds)), held


def estimate(
    tasks: Iterable[TaskStatus], jobs_per_s: float | None
) -> tuple[float | None, str | None]:
    """Seconds until all jobs that can still run are done, and what the estimate rests on.

    From the median run time of each label and as many jobs at once as run now, if every label that
    has work left has ended jobs; else from the rate of the last 15 minutes. None if neither is
    known: nothing runs, or nothing of the kind has ended yet. Held jobs do not count.
    """
    left = (JobState.UNREADY, JobState.READY, JobState.PENDING)
    found = list(tasks)
    n_running = sum(task.jobs[JobState.RUNNING] for task in found)
    n_left = {task.label: sum(task.jobs[state] for state in left) for task in found}
    n_to_come = sum(n_left.values()) + n_running
    if not n_to_come:
        return None, None
    if n_running and all(
        task.median_run_s is not None
        for task in found
        if n_left[task.label] or task.jobs[JobState.RUNNING]
    ):
        # Of what runs now half is done, on average.
        seconds = sum(
            (n_left[task.label] + task.jobs[JobState.RUNNING] / 2) * (task.median_run_s or 0)
            for task in found
        )
        return seconds / n_running, "run times"
    if jobs_per_s:
        return n_to_come / jobs_per_s, "rate"
    return None, None


def status_of_datastore(run: str, store: ObjectStore) -> RunStatus:
    """What the datastore alone tells: successful, failed, and never tried (UNREADY or READY).

    Raises
    ------
    RunNotFoundError, FormatError, TransferError
    """
    bucket = read_bucket_run(store, run)
    standings = bucket.standings(q for q in bucket.quanta if q in bucket.delta_keys)
    tasks: dict[str, TaskStatus] = {}
    done = {q for q, standing in standings.items() if standing.counting is not None}
    failures: dict[str, list[str]] = defaultdict(list)
    for quantum_id, quantum in bucket.quanta.items():
        task = tasks.setdefault(quantum.task_label, TaskStatus(quantum.task_label))
        if quantum_id in done:
            state = JobState.SUCCEEDED
        elif quantum_id in standings:
            state = JobState.FAILED
            failures[quantum.task_label].append(quantum_id)
        else:
            state = JobState.READY if done.issuperset(quantum.parents) else JobState.UNREADY
        task.quanta[state] += 1
        task.n_retries += max(0, len(bucket.delta_keys.get(quantum_id, ())) - 1)
    found = RunStatus(run, None, list(tasks.values()))
    known = KnownDeltas(store, run, bucket.delta_keys)
    newest = known.newest_of(q for ids in failures.values() for q in ids)
    found.failures = [
        Failure(d.task_label, d.task_label, q, d.error or str(d.status), d.exit_code, d.log_key)
        for q, d in newest.items()
        if d.status is not AttemptStatus.SUCCESSFUL
    ]
    found.failure_groups = group_failures(found.failures)
    return found
