# SPDX-License-Identifier: BSD-3-Clause
"""The status of a RUN as people look at it in a terminal."""

import datetime
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from executor.submit.run_status import Counts, HeldJob, RunStatus, TaskStatus
from executor.submit.state_series import JobState
from executor.terminal_text import plain

_COLOURS = {
    JobState.RUNNING: "cyan",
    JobState.HELD: "yellow",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.PRUNED: "magenta",
    JobState.DELETED: "magenta",
}
# Those a person looks for, even where they are zero.
_ALWAYS = (JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED)
_SHOWN_GROUPS = 10
_ERROR_LENGTH = 160


def status_view(status: RunStatus, *, failed: bool = False, held: bool = False) -> RenderableType:
    """All of it: a line or two, the labels, the holds, the failures.

    Parameters
    ----------
    failed, held
        List every failed quantum and every held job, not only their groups.
    """
    parts: list[RenderableType] = [Text(line) for line in head_lines(status)]
    parts += [Text(""), task_table(status)]
    if any(group.n_held or group.n_holds for group in status.holds):
        parts += [Text(""), hold_table(status)]
    if held and status.held:
        parts += [Text(""), *(Text(line) for line in map(_held_line, status.held))]
    if status.failures:
        lines = _failure_lines(status) if failed else _group_lines(status)
        parts += [Text(""), *(Text(line) for line in lines)]
    return Group(*parts)


def head_lines(status: RunStatus) -> Iterator[str]:
    """What there is to say of the RUN as a whole."""
    quanta, jobs = status.quanta, status.jobs
    n_quanta, n_jobs = sum(quanta.values()), sum(jobs.values())
    done = f"{quanta[JobState.SUCCEEDED]} of {n_quanta} quanta are done"
    if status.dag is None:
        yield f"RUN {status.run}: {done}, by the datastore alone: no submit directory"
        return
    dag = status.dag
    code = "" if dag.exit_code is None else f" with exit code {dag.exit_code}"
    yield f"RUN {status.run}: {done}; DAG {dag.job or '(not in the queue yet)'} {dag.state}{code}"
    if n_jobs != n_quanta:
        yield f"{n_jobs} jobs: {_counted(jobs)}"
    retries = sum(task.n_retries for task in status.tasks)
    evictions = sum(task.n_evictions for task in status.tasks)
    lost = status.n_without_delta
    yield (
        f"{status.n_starts} starts, {retries} retries, {evictions} evictions, "
        f"attempts without a delta: {'-' if lost is None else lost}"
    )
    if not status.is_over:
        rate = "-" if status.jobs_per_s is None else f"{status.jobs_per_s * 60:.1f}"
        left = "-" if status.eta_s is None else f"{_duration(status.eta_s)} (by {status.eta_from})"
        yield f"{rate} jobs a minute; still to go: {left}"
    for name, state in dag.others.items():
        yield f"{name}: {state}"
    if status.n_unreadable:
        yield f"{status.n_unreadable} pieces of the event logs could not be read"


def _counted(counts: Counts) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in JobState if counts[state])


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


def task_table(status: RunStatus) -> Table:
    """Quanta of each label by state; states that none is in are left out."""
    totals = status.quanta
    shown = [state for state in JobState if totals[state] or state in _ALWAYS]
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("task")
    for heading in (*shown, "retries", "evicted", "median s", "MiB asked", "used", "grown"):
        table.add_column(str(heading), justify="right")
    for task in status.tasks:
        table.add_row(plain(task.label), *_cells(task, shown))
    return table


def _cells(task: TaskStatus, shown: list[JobState]) -> Iterator[Text]:
    for state in shown:
        number = task.quanta[state]
        yield Text(str(number), style=_COLOURS.get(state, "") if number else "dim")
    median = "-" if task.median_run_s is None else f"{task.median_run_s:.0f}"
    counts = (task.n_retries, task.n_evictions)
    memory = (task.requested_mib or "-", task.used_mib or "-", task.n_grown)
    for value in (*counts, median, *memory):
        yield Text(str(value))


def hold_table(status: RunStatus) -> Table:
    """Holds by cause, with what is to be done."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("hold")
    for heading in ("held now", "ever"):
        table.add_column(heading, justify="right")
    table.add_column("what to do")
    table.add_column("for example")
    for group in status.holds:
        example = plain(group.example)[:_ERROR_LENGTH]
        cells = (group.cause, str(group.n_held), str(group.n_holds), group.advice, example)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _held_line(job: HeldJob) -> str:
    since = datetime.datetime.fromtimestamp(job.since_s).isoformat(" ", "seconds")
    return f"held: {job.job} {job.node} since {since} ({job.cause}): {plain(job.reason)}"


def _group_lines(status: RunStatus) -> Iterator[str]:
    groups = status.failure_groups
    n_failures, n_groups = len(status.failures), len(groups)
    alike = "" if n_groups == n_failures else f", {n_groups} different"
    yield f"{n_failures} failed{alike} (--failed lists them)"
    for group in groups[:_SHOWN_GROUPS]:
        error = plain(group.error)[:_ERROR_LENGTH]
        quantum = group.failures[0].quantum_id or group.failures[0].node
        yield f"  {len(group.failures)} x {group.label}: {error}  (such as {quantum})"
    if len(groups) > _SHOWN_GROUPS:
        yield f"  … and {len(groups) - _SHOWN_GROUPS} groups more"


def _failure_lines(status: RunStatus) -> Iterator[str]:
    for failure in status.failures:
        quantum = failure.quantum_id or failure.node
        yield f"failed: {failure.label}, quantum {quantum}: {plain(failure.headline)}"
