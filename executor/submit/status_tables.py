# SPDX-License-Identifier: BSD-3-Clause
"""The status of a RUN as people look at it in a terminal."""

import datetime
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from executor.submit.run_status import Counts, HeldJob, RunStatus
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
    parts += [Text(""), TaskTable(status)]
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


class TaskTable:
    """Quanta of each label by state, and what they took; two tables where one is too wide."""

    def __init__(self, status: RunStatus) -> None:
        self.status = status

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the tables; numbers are whole however narrow the terminal is."""
        states, work = _states(self.status), _work(self.status)
        whole = _task_table(self.status, {**states, **work})
        # With one more at its end, terminals begin another line.
        if Measurement.get(console, options.update(max_width=10_000), whole).maximum < (
            options.max_width
        ):
            yield whole
            return
        yield _task_table(self.status, states)
        yield Text("")
        yield _task_table(self.status, work)


_Columns = dict[str, list[Text]]


def _states(status: RunStatus) -> _Columns:
    """States that no quantum is in are left out."""
    totals = status.quanta
    return {
        str(state): [
            # The quanta of a cluster stand at their tasks.
            _number(task.quanta[state], state) if task.quanta else Text("")
            for task in status.tasks
        ]
        for state in JobState
        if totals[state] or state in _ALWAYS
    }


def _number(number: int, state: JobState) -> Text:
    return Text(str(number), style=_COLOURS.get(state, "") if number else "dim")


def _work(status: RunStatus) -> _Columns:
    told: dict[str, list[int | str]] = {
        "retries": [task.n_retries for task in status.tasks],
        "evicted": [task.n_evictions for task in status.tasks],
        "median s": [_seconds(task.median_run_s) for task in status.tasks],
        "MiB asked": [task.requested_mib or "-" for task in status.tasks],
        "used": [task.used_mib or "-" for task in status.tasks],
        "grown": [task.n_grown for task in status.tasks],
    }
    has_jobs = [bool(task.jobs) or not any(t.jobs for t in status.tasks) for task in status.tasks]
    return {
        heading: [Text(str(cell) if has else "") for cell, has in zip(cells, has_jobs, strict=True)]
        for heading, cells in told.items()
    }


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f}"


def _task_table(status: RunStatus, columns: _Columns) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("task", overflow="fold")
    for heading, cells in columns.items():
        # A number that is cut is another number; only headings are folded.
        width = max((len(cell) for cell in cells), default=1)
        table.add_column(heading, justify="right", overflow="fold", min_width=width)
    for place, task in enumerate(status.tasks):
        row = (cells[place] for cells in columns.values())
        table.add_row(Text(plain(task.label)), *row)
    return table


def hold_table(status: RunStatus) -> Table:
    """Holds by cause, with what is to be done."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("hold", overflow="fold")
    for heading in ("held now", "ever"):
        table.add_column(heading, justify="right", overflow="fold", min_width=5)
    table.add_column("what to do", overflow="fold")
    table.add_column("for example", overflow="fold")
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
