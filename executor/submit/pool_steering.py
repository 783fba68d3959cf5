# SPDX-License-Identifier: BSD-3-Clause
"""Steering a DAG in the queue: pause, resume, stop.

Each of them may be killed and called again at any moment: what it wants is asked of the schedd
anew, and only what is missing is done.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from executor.submit.dag import DAG_FILE
from executor.submit.pool_queue import (
    PAUSE_REASON,
    JobState,
    NotQueuedError,
    PoolError,
    QueuedDag,
    act_on_jobs,
    count_states,
    expect_dag,
    find_dag,
    node_jobs,
    orphaned_jobs,
)

_POLL_S = 0.5
# Seconds in which DAGMan notices a halt file: its log scan interval is 1.
_SETTLE_S = 4.0
_DEADLINE_S = 120.0

_IDLE = f"JobStatus == {JobState.IDLE:d}"
_NOT_STARTED = f"(JobStatus == {JobState.IDLE:d} || JobStatus == {JobState.HELD:d})"
_NOT_REMOVED = f"JobStatus != {JobState.REMOVED:d} && JobStatus != {JobState.COMPLETED:d}"
_PAUSED = f'JobStatus == {JobState.HELD:d} && regexp("{PAUSE_REASON}", HoldReason ?: "")'
_STOP_REASON = "stopped with quantum-exec stop"
_ORPHAN_REASON = "its DAGMan is gone: removed with quantum-exec"


@dataclass(frozen=True)
class Steered:
    """What was done to the DAG of a RUN, and what it found.

    ``was_already`` says that the DAG was as it was to be. ``n_changed`` jobs of quanta were held,
    released or removed; ``n_running`` run on. ``advice`` is what to do next.
    """

    run: str
    action: str
    cluster: int | None
    was_already: bool
    n_changed: int
    n_running: int
    advice: str
    directory: Path | None = None
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "run": self.run,
            "action": self.action,
            "cluster": self.cluster,
            "directory": None if self.directory is None else str(self.directory),
            "was_already": self.was_already,
            "n_changed": self.n_changed,
            "n_running": self.n_running,
            "advice": self.advice,
            "exit_code": self.exit_code,
        }

    def lines(self) -> list[str]:
        """For people."""
        done = {"pause": "held", "resume": "released", "stop": "removed"}[self.action]
        before = f"was already {_DONE[self.action]}" if self.was_already else _DONE[self.action]
        cluster = "" if self.cluster is None else f", cluster {self.cluster}"
        return [
            f"RUN {self.run}{cluster}: {before}; {self.n_changed} jobs {done}, {self.n_running} "
            "run on",
            self.advice,
        ]


_DONE = {"pause": "paused", "resume": "resumed", "stop": "stopped"}


def pause_dag(run: str, datastore: str) -> Steered:
    """Hold the DAG of a RUN and those of its jobs that have not started; running ones go on.

    DAGMan is held first, and the jobs are looked at until its process has ended: nothing comes
    into the queue afterwards.

    Raises
    ------
    NotQueuedError, PoolError
    """
    dag = _steerable(run, datastore)
    was_held = dag.state is JobState.HELD
    if not was_held:
        act_on_jobs("Hold", f"ClusterId == {dag.cluster}", PAUSE_REASON)
    deadline = time.monotonic() + _DEADLINE_S
    n_held = 0
    while True:
        found = find_dag(run, datastore)
        n_held += act_on_jobs("Hold", f"{node_jobs(dag)} && {_IDLE}", PAUSE_REASON)
        if found is None or found.cluster != dag.cluster or not found.is_alive:
            break
        _check_deadline(deadline, f"DAGMan (cluster {dag.cluster}) to end after it was held")
        time.sleep(_POLL_S)
    if found is None or found.cluster != dag.cluster:
        raise _ended(run, dag)
    n_running = _running(dag)
    advice = f"quantum-exec resume {run} lets it go on, quantum-exec stop {run} ends it"
    if not found.is_paused:
        advice = f"the DAG itself is held for another reason: {found.hold_reason}; {advice}"
    was_already = was_held and not n_held
    return Steered(run, "pause", dag.cluster, was_already, n_held, n_running, advice, dag.directory)


def resume_dag(run: str, datastore: str) -> Steered:
    """Release what `pause_dag` has held, and nothing else.

    Raises
    ------
    NotQueuedError, PoolError
    """
    dag = _steerable(run, datastore)
    n_released = act_on_jobs("Release", f"{node_jobs(dag)} && {_PAUSED}", "quantum-exec resume")
    if dag.is_paused:
        act_on_jobs("Release", f"ClusterId == {dag.cluster}", "quantum-exec resume")
    if dag.is_paused and find_dag(run, datastore) is None:
        raise _ended(run, dag)
    was_already = not dag.is_paused and not n_released
    advice, code = f"quantum-exec status {run} shows how it goes on", 0
    if dag.state is JobState.HELD and not dag.is_paused:
        advice = (
            f"the DAG itself is held for another reason: {dag.hold_reason}; when that is mended: "
            f"condor_release {dag.cluster}"
        )
        code = 1
    n_running = _running(dag)
    return Steered(
        *(run, "resume", dag.cluster, was_already, n_released, n_running, advice),
        *(dag.directory, code),
    )


def _steerable(run: str, datastore: str) -> QueuedDag:
    dag = expect_dag(run, datastore)
    if dag.state is JobState.REMOVED:
        raise PoolError(
            f"RUN {run!r}: expected a DAG that goes on, found that cluster {dag.cluster} is being "
            "removed and may still merge; afterwards quantum-exec restart runs what is unfinished"
        )
    return dag


def _ended(run: str, dag: QueuedDag) -> NotQueuedError:
    return NotQueuedError(
        f"RUN {run!r}: expected its DAG (cluster {dag.cluster}) in the queue, found that it "
        f"ended meanwhile; quantum-exec status {run} tells how, quantum-exec restart {run} runs "
        "what is unfinished"
    )


def stop_dag(run: str, datastore: str, *, now: bool) -> Steered:
    """Bring the DAG of a RUN to its end: no new jobs, then the FINAL node.

    Parameters
    ----------
    now
        End running jobs, too (SIGTERM first); else they finish. Not by removing DAGMan: one that is
        paused, and so has no process, would be gone without its FINAL node.

    Raises
    ------
    NotQueuedError
        If there is no DAG, and no job that lost its DAG.
    PoolError
    """
    dag = find_dag(run, datastore)
    if dag is None:
        return _stop_orphans(run, datastore, now)
    advice = f"the DAG merges and ends by itself; then quantum-exec restart {run} runs what is left"
    was_already = dag.state is JobState.REMOVED or (dag.directory / f"{DAG_FILE}.halt").exists()
    if dag.state is JobState.REMOVED:
        return Steered(run, "stop", dag.cluster, True, 0, _running(dag), advice, dag.directory)
    n_removed = _halt(run, datastore, dag)
    if now:
        n_removed += _remove(f"{node_jobs(dag)} && {_NOT_REMOVED}")
    n_running = _running(dag)
    return Steered(
        run, "stop", dag.cluster, was_already, n_removed, n_running, advice, dag.directory
    )


def _halt(run: str, datastore: str, dag: QueuedDag) -> int:
    """Make DAGMan submit nothing more and remove what has not started; returns how many were.

    DAGMan takes a removed job for a failed one and would submit it again, so the halt file comes
    first, and is looked after until DAGMan must have seen it: DAGMan 23.9 leaves one alone that is
    there when it starts; whether every release does is not known.
    """
    halt = dag.directory / f"{DAG_FILE}.halt"
    if dag.state is JobState.HELD:
        # What pause has held is removed before DAGMan, which would wait for it, is released.
        n_removed = _remove(f"{node_jobs(dag)} && {_NOT_STARTED}")
        act_on_jobs("Release", f"ClusterId == {dag.cluster}", _STOP_REASON)
    else:
        n_removed = 0
    deadline = time.monotonic() + _DEADLINE_S
    settled_at = None
    while True:
        found = find_dag(run, datastore)
        if found is None or found.cluster != dag.cluster or found.state is JobState.REMOVED:
            return n_removed
        if found.state is not JobState.RUNNING or not halt.exists():
            _write_halt(halt)
            settled_at = None
        elif settled_at is None:
            settled_at = time.monotonic() + _SETTLE_S
        elif time.monotonic() > settled_at:
            return n_removed + _remove(f"{node_jobs(dag)} && {_NOT_STARTED}")
        _check_deadline(deadline, f"DAGMan (cluster {dag.cluster}) to run and find {halt}")
        time.sleep(_POLL_S)


def _write_halt(path: Path) -> None:
    try:
        path.touch()
    except OSError as error:
        raise PoolError(
            f"halt file {path}: {error.strerror}; quantum-exec stop is meant for the access point "
            "from which the DAG was submitted"
        ) from error


def _stop_orphans(run: str, datastore: str, now: bool) -> Steered:
    orphans = orphaned_jobs(run, datastore, None)
    if not orphans:
        expect_dag(run, datastore)
    n_removed = remove_orphans(run, datastore, running=now)
    advice = f"their DAG was gone; quantum-exec restart {run} runs what is unfinished"
    return Steered(run, "stop", None, False, n_removed, len(orphans) - n_removed, advice)


def remove_orphans(run: str, datastore: str, *, running: bool = True) -> int:
    """Remove the jobs of a RUN that lost their DAGMan; returns how many were."""
    orphans = orphaned_jobs(run, datastore, find_dag(run, datastore))
    if not orphans:
        return 0
    clusters = ", ".join(sorted({job.partition(".")[0] for job in orphans}, key=int))
    constraint = f"member(ClusterId, {{{clusters}}}) && {_NOT_REMOVED}"
    if not running:
        constraint += f" && {_NOT_STARTED}"
    return _remove(constraint, _ORPHAN_REASON)


def _remove(constraint: str, reason: str = _STOP_REASON) -> int:
    return act_on_jobs("Remove", constraint, reason)


def _running(dag: QueuedDag) -> int:
    states = count_states(f"{node_jobs(dag)}")
    run_on = (JobState.RUNNING, JobState.TRANSFERRING_OUTPUT, JobState.SUSPENDED)
    return sum(states.get(state, 0) for state in run_on)


def wait_until_quiet(
    run: str, steered: Steered, datastore: str, on_wait: Callable[[], None] = lambda: None
) -> Steered:
    """Wait until no job of a paused DAG runs; one that comes back to the queue is held, too."""
    while steered.n_running and steered.cluster is not None:
        on_wait()
        time.sleep(_POLL_S)
        again = pause_dag(run, datastore)
        steered = replace(
            steered,
            n_changed=steered.n_changed + again.n_changed,
            n_running=again.n_running,
            advice=again.advice,
        )
    return steered


def wait_until_left(
    run: str, steered: Steered, datastore: str, on_wait: Callable[[], None] = lambda: None
) -> Steered:
    """Wait until a stopped DAG has left the queue, and with it every job of its quanta."""
    while (dag := find_dag(run, datastore)) is not None and dag.cluster == steered.cluster:
        on_wait()
        time.sleep(_POLL_S)
        with suppress(PoolError):
            # An evicted job would be started again.
            _remove(f"{node_jobs(dag)} && {_NOT_STARTED}")
    return replace(steered, n_running=0, advice=f"quantum-exec restart {run} runs what is left")


def _check_deadline(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise PoolError(
            f"expected {what} within {_DEADLINE_S:g} s, found it had not; look at condor_q, then "
            "give the command again"
        )
