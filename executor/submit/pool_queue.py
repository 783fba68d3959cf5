# SPDX-License-Identifier: BSD-3-Clause
"""What HTCondor's queue has of a RUN: its DAG, the jobs of the DAG, and jobs that lost theirs."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.submit.dag import DATASTORE_ATTRIBUTE, RUN_ATTRIBUTE
from registry.errors import QuantumExecError

PAUSE_REASON = "paused with quantum-exec pause"
"""Hold reason by which ``resume`` knows what ``pause`` has held."""

_SCHEDULER_UNIVERSE = 7
_VANILLA_UNIVERSE = 5


class JobState(enum.IntEnum):
    """HTCondor's numbers for the state of a job."""

    IDLE = 1
    RUNNING = 2
    REMOVED = 3
    COMPLETED = 4
    HELD = 5
    TRANSFERRING_OUTPUT = 6
    SUSPENDED = 7


class PoolError(QuantumExecError):
    """HTCondor refused something or cannot be reached; the message has its own words."""

    error_type = "pool"


class AlreadySubmittedError(QuantumExecError):
    """A DAG of this RUN is in the queue; wait for it, or stop it."""

    error_type = "already_submitted"


class NotQueuedError(QuantumExecError):
    """No DAG of this RUN is in the queue; there is nothing to steer."""

    error_type = "not_queued"


@dataclass(frozen=True, slots=True)
class QueuedDag:
    """The DAGMan job of a RUN.

    ``is_alive`` says that its process has not ended yet: a held or removed one lives on for a
    moment, a removed one until the FINAL node has run.
    """

    cluster: int
    state: JobState
    directory: Path
    is_alive: bool
    hold_reason: str = ""

    @property
    def is_paused(self) -> bool:
        """Whether ``pause`` has held it."""
        return self.state is JobState.HELD and PAUSE_REASON in self.hold_reason


def bindings() -> Any:
    """Return the module ``htcondor2``; raises `PoolError` if it is not installed."""
    try:
        import htcondor2
    except ImportError as error:
        raise PoolError(
            "expected HTCondor's Python bindings (pip install htcondor), found none"
        ) from error
    return htcondor2


def ask_schedd(constraint: str, projection: Sequence[str], what: str) -> list[Any]:
    """Return the ads of jobs; raises `PoolError` if the schedd cannot be asked for them."""
    htcondor2 = bindings()
    try:
        found: list[Any] = htcondor2.Schedd().query(
            constraint=constraint, projection=list(projection)
        )
    except (htcondor2.HTCondorException, OSError) as error:
        raise PoolError(f"schedd: cannot be asked for {what}: {error}") from error
    return found


def act_on_jobs(action: str, constraint: str, reason: str) -> int:
    """Hold, release or remove jobs; returns how many were.

    Parameters
    ----------
    action
        Name of a member of ``htcondor2.JobAction``.

    Raises
    ------
    PoolError
    """
    htcondor2 = bindings()
    try:
        # A reason without a number is lost on the way from bindings 25.14 to a schedd of 23.9.
        done = htcondor2.Schedd().act(getattr(htcondor2.JobAction, action), constraint, (reason, 0))
    except (htcondor2.HTCondorException, OSError) as error:
        raise PoolError(
            f"schedd: expected to {action.lower()} jobs ({constraint}), found: {error}"
        ) from error
    if done["TotalPermissionDenied"]:
        raise PoolError(
            f"schedd: expected the right to {action.lower()} jobs ({constraint}), found that "
            f"{done['TotalPermissionDenied']} belong to another user"
        )
    return int(done["TotalSuccess"])


def of_run(run: str, datastore: str) -> str:
    """Constraint for the jobs of a RUN."""
    place = datastore.rstrip("/")
    return f'{RUN_ATTRIBUTE} =?= "{run}" && {DATASTORE_ATTRIBUTE} =?= "{place}"'


def find_dag(run: str, datastore: str) -> QueuedDag | None:
    """Return the DAG of a RUN that is in the queue, if there is one.

    Raises
    ------
    PoolError
        If the schedd cannot be asked.
    """
    constraint = (
        f"{of_run(run, datastore)} && JobUniverse == {_SCHEDULER_UNIVERSE} "
        f"&& JobStatus != {JobState.COMPLETED:d}"
    )
    names = ("ClusterId", "JobStatus", "Iwd", "CurrentHosts", "HoldReason")
    ads = ask_schedd(constraint, names, f"the DAGs of RUN {run!r}")
    found = [
        QueuedDag(
            int(ad["ClusterId"]),
            JobState(ad["JobStatus"]),
            Path(ad["Iwd"]),
            bool(ad.get("CurrentHosts", 0)),
            str(ad.get("HoldReason", "")),
        )
        for ad in ads
    ]
    # One that is being removed only stands for the RUN while there is no other.
    return min(found, key=lambda dag: dag.state is JobState.REMOVED, default=None)


def expect_dag(run: str, datastore: str) -> QueuedDag:
    """Return the DAG of a RUN; raises `NotQueuedError` if none is in the queue."""
    dag = find_dag(run, datastore)
    if dag is None:
        raise NotQueuedError(
            f"RUN {run!r} in {datastore}: expected a DAG of it in the queue, found none; "
            "quantum-exec restart runs what is unfinished"
        )
    return dag


def refuse_queued(run: str, datastore: str) -> None:
    """Raise `AlreadySubmittedError`, which says what to do, if a DAG of a RUN is in the queue."""
    dag = find_dag(run, datastore)
    if dag is None:
        return
    if dag.is_paused:
        advice = "it is paused: quantum-exec resume lets it go on, quantum-exec stop ends it"
    elif dag.state is JobState.HELD:
        advice = (
            f"it is held ({dag.hold_reason}): condor_release {dag.cluster} lets it go on, "
            "quantum-exec stop ends it"
        )
    elif dag.state is JobState.REMOVED:
        advice = "it is being removed and may still merge: wait with quantum-exec stop --wait"
    else:
        advice = "wait for it, or end it with quantum-exec stop"
    raise AlreadySubmittedError(
        f"RUN {run!r}: expected no DAG of it in the queue, found cluster {dag.cluster}; {advice}"
    )


def node_jobs(dag: QueuedDag) -> str:
    """Constraint for the jobs of the quanta of a DAG; init and merge are not among them."""
    return f"DAGManJobId =?= {dag.cluster} && JobUniverse == {_VANILLA_UNIVERSE}"


def orphaned_jobs(run: str, datastore: str, dag: QueuedDag | None) -> list[str]:
    """Ids of the jobs of a RUN's quanta whose DAGMan is not in the queue any more."""
    constraint = (
        f"{of_run(run, datastore)} && JobUniverse == {_VANILLA_UNIVERSE} "
        f"&& JobStatus != {JobState.REMOVED:d} && JobStatus != {JobState.COMPLETED:d}"
    )
    if dag is not None:
        constraint += f" && DAGManJobId =!= {dag.cluster}"
    ads = ask_schedd(constraint, ("ClusterId", "ProcId"), f"jobs of RUN {run!r}")
    return [f"{ad['ClusterId']}.{ad['ProcId']}" for ad in ads]


def count_states(constraint: str) -> dict[JobState, int]:
    """Count jobs by their state."""
    found: dict[JobState, int] = {}
    for ad in ask_schedd(constraint, ("JobStatus",), f"jobs ({constraint})"):
        state = JobState(ad["JobStatus"])
        found[state] = found.get(state, 0) + 1
    return found
