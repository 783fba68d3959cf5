# SPDX-License-Identifier: BSD-3-Clause
"""What ``quantum-exec status`` tells of a RUN; the form of its JSON stands in ``docs/pool.md``."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from executor.submit.state_series import JobState

Counts = Counter[JobState]


@dataclass
class TaskStatus:
    """The jobs and quanta of one label; memory in MiB, of the jobs that have ended.

    Quanta stand at the label of their task, jobs at their own: a cluster of several tasks has jobs
    and no quanta, a task that runs in clusters only has quanta and no jobs.
    """

    label: str
    quanta: Counts = field(default_factory=Counter)
    jobs: Counts = field(default_factory=Counter)
    n_retries: int = 0
    n_evictions: int = 0
    n_without_delta: int | None = None
    median_run_s: float | None = None
    requested_mib: int = 0
    used_mib: int = 0
    n_grown: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "label": self.label,
            "quanta": counts_dict(self.quanta),
            "jobs": counts_dict(self.jobs),
            "retries": self.n_retries,
            "evictions": self.n_evictions,
            "attempts_without_delta": self.n_without_delta,
            "median_run_s": self.median_run_s,
            "requested_mib": self.requested_mib or None,
            "used_mib": self.used_mib or None,
            "jobs_grown": self.n_grown,
        }


@dataclass
class HoldGroup:
    """Jobs held for one cause: now, and all holds there ever were."""

    cause: str
    advice: str
    is_released: bool
    n_held: int = 0
    n_holds: int = 0
    example: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "cause": self.cause,
            "held": self.n_held,
            "holds": self.n_holds,
            "released_by_policy": self.is_released,
            "example": self.example,
            "advice": self.advice,
        }


@dataclass
class HeldJob:
    """A job that is held now."""

    job: str
    node: str
    label: str
    cause: str
    reason: str
    since_s: float


@dataclass
class Failure:
    """A quantum, or the job of several, that ended without success."""

    label: str
    node: str
    quantum_id: str | None
    error: str
    exit_code: int | None
    log_key: str | None

    @property
    def headline(self) -> str:
        """The first line of the error; with the last one, if that is what the first announces."""
        lines = self.error.strip().splitlines() or [""]
        announces = lines[0].endswith(":") and len(lines) > 1
        return f"{lines[0]} {lines[-1].strip()}" if announces else lines[0]


@dataclass
class FailureGroup:
    """Failures of one label whose errors differ in numbers and ids at most."""

    label: str
    error: str
    failures: list[Failure]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        first = self.failures[0]
        return {
            "label": self.label,
            "error": self.error,
            "count": len(self.failures),
            "example_quantum": first.quantum_id,
            "example_log_key": first.log_key,
        }


@dataclass
class DagStatus:
    """DAGMan's own job, and the merge at the end; times in seconds since 1970."""

    directory: str
    job: str
    state: str
    exit_code: int | None
    submitted_s: float | None
    ended_s: float | None
    n_submissions: int
    others: dict[str, JobState] = field(default_factory=dict)
    """Jobs without quanta: init, merge."""


@dataclass
class RunStatus:
    """Everything; ``dag`` is None where no submit directory is left."""

    run: str
    dag: DagStatus | None
    tasks: list[TaskStatus]
    holds: list[HoldGroup] = field(default_factory=list)
    held: list[HeldJob] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    failure_groups: list[FailureGroup] = field(default_factory=list)
    n_starts: int = 0
    jobs_per_s: float | None = None
    eta_s: float | None = None
    eta_from: str | None = None
    n_unreadable: int = 0

    @property
    def quanta(self) -> Counts:
        """Quanta of all labels by state."""
        return sum((task.quanta for task in self.tasks), Counter())

    @property
    def jobs(self) -> Counts:
        """Jobs of all labels by state."""
        return sum((task.jobs for task in self.tasks), Counter())

    @property
    def n_without_delta(self) -> int | None:
        """Executions that ended without success and left no delta; None if nobody looked."""
        found = [t.n_without_delta for t in self.tasks if t.n_without_delta is not None]
        return sum(found) if found else None

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more by itself."""
        return self.dag is None or self.dag.state in ("ENDED", "REMOVED")

    @property
    def is_bad(self) -> bool:
        """Whether it is over, and not as it should be."""
        if self.dag is not None:
            return self.is_over and (self.dag.state == "REMOVED" or self.dag.exit_code != 0)
        return bool(self.quanta[JobState.FAILED])

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "source": "event log" if self.dag else "datastore",
            "dag": _dag_dict(self.dag),
            "quanta": counts_dict(self.quanta),
            "jobs": counts_dict(self.jobs) if self.dag else None,
            "tasks": [task.as_dict() for task in self.tasks],
            "starts": self.n_starts,
            "retries": sum(task.n_retries for task in self.tasks),
            "evictions": sum(task.n_evictions for task in self.tasks),
            "attempts_without_delta": self.n_without_delta,
            "holds": [group.as_dict() for group in self.holds],
            "failures": [group.as_dict() for group in self.failure_groups],
            "failed_quanta": [_failure_dict(failure) for failure in self.failures],
            "held_jobs": [_held_dict(job) for job in self.held],
            "jobs_per_s": self.jobs_per_s,
            "eta_s": self.eta_s,
            "eta_from": self.eta_from,
            "unreadable_events": self.n_unreadable,
        }


def counts_dict(counts: Counts) -> dict[str, int]:
    """All states, so that readers need not ask whether one is there."""
    return {str(state): counts[state] for state in JobState}


def total(counts: Iterable[int]) -> int:
    """Jobs or quanta in all states."""
    return sum(counts)


def _dag_dict(dag: DagStatus | None) -> dict[str, Any] | None:
    if dag is None:
        return None
    return {
        "directory": dag.directory,
        "job": dag.job or None,
        "state": dag.state,
        "exit_code": dag.exit_code,
        "submitted": dag.submitted_s,
        "ended": dag.ended_s,
        "submissions": dag.n_submissions,
        "other_jobs": {name: str(state) for name, state in dag.others.items()},
    }


def _failure_dict(failure: Failure) -> dict[str, Any]:
    return {
        "label": failure.label,
        "job": failure.node,
        "quantum_id": failure.quantum_id,
        "error": failure.error,
        "exit_code": failure.exit_code,
        "log_key": failure.log_key,
    }


def _held_dict(job: HeldJob) -> dict[str, Any]:
    return {
        "job": job.job,
        "node": job.node,
        "label": job.label,
        "cause": job.cause,
        "reason": job.reason,
        "since": job.since_s,
    }
