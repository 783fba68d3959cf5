# SPDX-License-Identifier: BSD-3-Clause
"""What people look at: a bar while quanta run, a table of task labels at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from executor.submit.local_runner import LocalRun
from executor.submit.plan import Plan
from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.model import format_data_id


@dataclass
class TaskSummary:
    """The quanta of one task label; times in seconds of the attempts known, sizes in bytes."""

    task_label: str
    n_quanta: int = 0
    n_successful: int = 0
    n_failed: int = 0
    n_blocked: int = 0
    wall_s: list[float] = field(default_factory=list)
    output_bytes: int = 0
    max_rss_bytes: int = 0

    def as_dict(self) -> dict[str, object]:
        """For ``--json``: counts and the least, mean and most seconds."""
        found = asdict(self)
        seconds = found.pop("wall_s")
        found["min_s"] = min(seconds, default=None)
        found["mean_s"] = sum(seconds) / len(seconds) if seconds else None
        found["max_s"] = max(seconds, default=None)
        return found


def summarize(plan: Plan, run: LocalRun) -> list[TaskSummary]:
    """Count the quanta of each task label, in the order of the plan's labels."""
    summaries = {label: TaskSummary(label) for label in plan.task_labels}
    deltas = run.deltas()
    for quantum_id, quantum in plan.quanta.items():
        summary = summaries[quantum.task_label]
        summary.n_quanta += 1
        summary.n_blocked += quantum_id in run.blocked
        is_successful = run.is_successful(quantum_id)
        summary.n_successful += is_successful
        summary.n_failed += quantum_id in run.ended and not is_successful
        if quantum_id in deltas:
            _add_delta(summary, deltas[quantum_id])
    return [summary for summary in summaries.values() if summary.n_quanta]


def _add_delta(summary: TaskSummary, delta: Delta) -> None:
    summary.wall_s.append(delta.resources.wall_s)
    summary.max_rss_bytes = max(summary.max_rss_bytes, delta.resources.max_rss_bytes)
    if delta.status is AttemptStatus.SUCCESSFUL:
        summary.output_bytes += sum(row.size_bytes for row in delta.rows.datastore_record)


def task_table(summaries: list[TaskSummary]) -> Table:
    """The table of task labels that stands at the end of a run."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    headings = ("quanta", "successful", "failed", "blocked", "min s", "mean s", "max s")
    for heading in (*headings, "output"):
        table.add_column(heading, justify="right", no_wrap=True)
    for summary in summaries:
        seconds = summary.wall_s
        times = (min(seconds), sum(seconds) / len(seconds), max(seconds)) if seconds else ()
        table.add_row(
            summary.task_label,
            str(summary.n_quanta),
            str(summary.n_successful),
            f"[red]{summary.n_failed}[/red]" if summary.n_failed else "0",
            f"[yellow]{summary.n_blocked}[/yellow]" if summary.n_blocked else "0",
            *([f"{value:.2f}" for value in times] or ["-"] * 3),
            format_bytes(summary.output_bytes),
        )
    return table


def format_bytes(n_bytes: int) -> str:
    """Bytes as people read them, in binary units."""
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def failure_lines(plan: Plan, run: LocalRun) -> Iterator[str]:
    """For each failed quantum what it was, why, and where its log is."""
    for quantum_id in run.failed():
        quantum = plan.quanta[quantum_id]
        end = run.ended[quantum_id]
        log = f"\n  log: {end.delta.log_key}" if end.delta and end.delta.log_key else ""
        yield (
            f"{quantum.task_label} ({format_data_id(quantum.data_id)}), quantum {quantum_id}: "
            f"{end.error or f'exit code {end.exit_code}'}{log}"
        )


def error_console() -> Console:
    """The terminal behind standard error, where bars go so that a report can be piped."""
    return Console(stderr=True)


@contextmanager
def progress_bar(console: Console, what: str, total: int) -> Iterator[Progress]:
    """A bar with one task, on a terminal; nothing at all elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        progress.add_task(what, total=total)
        yield progress
