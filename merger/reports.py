# SPDX-License-Identifier: BSD-3-Clause
"""What commands show: a table for people, one JSON object for programs, a progress bar."""

import dataclasses
from collections import Counter

from rich import progress as rich_progress
from rich.console import Console
from rich.table import Table

from merger.findings import VerifyReport
from merger.merge import MergeReport
from merger.progress import Progress

_SHOWN = 200
"""Findings in the table; ``--json`` has all."""


class ProgressBar(Progress):
    """A bar on stderr while a merge or verify reads deltas; nothing if that is no terminal."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: rich_progress.TaskID | None = None

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, n_deltas: int) -> None:
        """Show the bar."""
        self._task = self._bar.add_task(self._title, total=n_deltas)

    def advance(self, n_deltas: int) -> None:
        """Move the bar on."""
        if self._task is not None:
            self._bar.advance(self._task, n_deltas)


def merge_object(report: MergeReport) -> dict[str, object]:
    """Return a merge report as ``--json`` prints it."""
    return {
        "run": report.run,
        "exit_code": int(report.exit_code),
        "n_deltas_listed": report.n_listed,
        "n_deltas_merged_before": report.n_merged_before,
        "n_deltas_merged": report.counts.n_deltas,
        "n_datasets_merged": report.counts.n_datasets,
        "n_conflicts": report.counts.n_conflicts,
        "n_quarantined": len(report.quarantined),
        "n_newer_format": len(report.newer),
        "quarantined": [dataclasses.asdict(bad) for bad in report.quarantined],
        "newer_format": report.newer,
        "wall_s": round(report.wall_s, 3),
    }


def show_merge(console: Console, report: MergeReport) -> None:
    """Print the closing table of a merge, and what needs a person."""
    table = Table()
    table.add_column(f"RUN {report.run}")
    table.add_column("number", justify="right")
    table.add_row("deltas in the datastore", str(report.n_listed))
    table.add_row("merged before", str(report.n_merged_before))
    table.add_row("merged now", str(report.counts.n_deltas))
    table.add_row("datasets merged now", str(report.counts.n_datasets))
    table.add_row("new conflicts", str(report.counts.n_conflicts))
    table.add_row("deltas in quarantine", str(len(report.quarantined)))
    table.add_row("deltas of a newer format", str(len(report.newer)))
    table.add_row("seconds", f"{report.wall_s:.2f}")
    console.print(table)
    for bad in report.quarantined[:_SHOWN]:
        console.print(f"quarantined ({bad.reason}): {bad.message}", markup=False, soft_wrap=True)
    for key in report.newer[:_SHOWN]:
        line = f"waits for an upgrade of registry-merge: {key}"
        console.print(line, markup=False, soft_wrap=True)
    if report.counts.n_conflicts:
        line = "conflicts: all sides are in table merge_conflict; see registry-merge verify"
        console.print(line, soft_wrap=True)


def verify_object(report: VerifyReport) -> dict[str, object]:
    """Return a verify report as ``--json`` prints it."""
    return {
        "run": report.run,
        "exit_code": int(report.exit_code),
        "n_quanta": report.n_quanta,
        "n_deltas": report.n_deltas,
        "n_datasets": report.n_datasets,
        "n_objects": report.n_objects,
        "n_differences": report.n_differences,
        "findings": [
            dataclasses.asdict(finding) | {"is_difference": finding.is_difference}
            for finding in report.findings
        ],
        "superseded_attempts": [dataclasses.asdict(one) for one in report.superseded_attempts],
        "superseded": [dataclasses.asdict(one) for one in report.superseded],
        "orphaned": [dataclasses.asdict(one) for one in report.orphaned],
        "wall_s": round(report.wall_s, 3),
    }


def show_verify(console: Console, report: VerifyReport) -> None:
    """Print what verify found; the last line is ``equal`` or the number of differences."""
    if report.findings:
        console.print(_count_findings(report))
        for finding in report.findings[:_SHOWN]:
            line = f"{'difference' if finding.is_difference else 'note'} {finding.kind}"
            for name in ("id", "key", "expected", "found"):
                value = getattr(finding, name)
                line += f" {name}={value}" if value is not None else ""
            console.print(line, markup=False, soft_wrap=True)
        if len(report.findings) > _SHOWN:
            console.print(f"… and {len(report.findings) - _SHOWN} more; --json has all")
    console.print(
        f"RUN {report.run}: {report.n_quanta} quanta, {report.n_deltas} deltas, "
        f"{report.n_datasets} datasets, {report.n_objects} objects, {report.wall_s:.2f} s",
        soft_wrap=True,
    )
    console.print(
        f"not counting: {len(report.superseded_attempts)} superseded attempts with "
        f"{len(report.superseded)} objects, {len(report.orphaned)} orphaned objects",
        soft_wrap=True,
    )
    number = report.n_differences
    console.print("equal" if number == 0 else f"{number} difference{'s' * (number != 1)}")


def _count_findings(report: VerifyReport) -> Table:
    table = Table()
    table.add_column("finding")
    table.add_column("")
    table.add_column("number", justify="right")
    counts = Counter((finding.kind, finding.is_difference) for finding in report.findings)
    for (kind, is_difference), number in sorted(counts.items()):
        table.add_row(kind, "difference" if is_difference else "note", str(number))
    return table
