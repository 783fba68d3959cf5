# SPDX-License-Identifier: BSD-3-Clause
"""What ``merge`` shows at its end: tables for people and what is left for them, JSON for programs.

The keys of the JSON object are documented in ``docs/operations.md`` and are stable.
"""

import dataclasses
import signal

from rich.console import Console
from rich.table import Table

from merger.failures import message_of
from merger.follow import Merged
from merger.merge import MergeReport
from merger.unfinished import Unfinished, UnfinishedQuantum, UnfinishedReason
from registry.typed_json import canonical

_SHOWN = 20
"""Lines of one kind below the table; ``--json`` has all."""

_TOLD = {
    UnfinishedReason.SUCCESSFUL_WITHOUT_DELTA: "successful for the DAG, and without a delta",
    UnfinishedReason.FAILED: "failed",
    UnfinishedReason.BLOCKED: "blocked by one that failed",
    UnfinishedReason.QUARANTINED: "with bad deltas only",
    UnfinishedReason.WAITING: "with a delta that waits for a person",
    UnfinishedReason.NEVER_RUN: "never run",
    UnfinishedReason.OPEN: "that may still come",
}


def merge_object(merged: Merged) -> dict[str, object]:
    """Return what ``--json`` prints."""
    report, counts = merged.report, merged.report.counts
    return {
        "run": report.run,
        "exit_code": merged.exit_code,
        "stopped_by": None if merged.stopped_by is None else _signal_name(merged.stopped_by),
        "n_passes": merged.n_passes,
        "n_deltas_listed": report.n_listed,
        "n_deltas_merged_before": report.n_merged_before,
        "n_deltas_merged": counts.n_deltas,
        "n_deltas_merged_by_others": report.n_merged_by_others,
        "n_deltas_gone": report.n_gone,
        "n_superseded": counts.n_superseded,
        "n_datasets_merged": counts.n_datasets,
        "n_datasets_skipped": counts.n_skipped,
        "n_conflicts": counts.n_conflicts,
        "n_conflicts_open": report.n_open_conflicts,
        "n_conflicts_settled": counts.n_settled,
        "n_refused": len(report.refused),
        "n_quarantined": len(report.quarantined),
        "n_dropped": merged.n_dropped,
        "n_newer_format": len(report.newer),
        "refused": [dataclasses.asdict(refusal) for refusal in report.refused],
        "quarantined": [dataclasses.asdict(bad) for bad in report.quarantined],
        "newer_format": report.newer,
        "rows": {table: n for table, n in sorted(counts.rows.items()) if n},
        "n_rows": counts.n_rows,
        "seconds": {stage: round(s, 3) for stage, s in sorted(counts.seconds.items())},
        "wall_s": round(report.wall_s, 3),
        "deltas_per_s": round(_rate(report), 1),
        "error": _error_object(merged),
        **_unfinished_object(merged.unfinished),
    }


def _error_object(merged: Merged) -> dict[str, object] | None:
    if merged.error is None:
        return None
    error_type = getattr(merged.error, "error_type", "central_registry")
    return {"error_type": error_type, "message": message_of(merged.error)}


def _unfinished_object(unfinished: Unfinished | None) -> dict[str, object]:
    if unfinished is None:
        return {}
    return {
        "n_quanta_predicted": unfinished.n_predicted,
        "n_quanta_merged": unfinished.n_merged,
        "n_unfinished": {reason: unfinished.counts[reason] for reason in UnfinishedReason},
        "unfinished": [dataclasses.asdict(quantum) for quantum in unfinished.quanta],
    }


def show_merge(console: Console, merged: Merged) -> None:
    """Print the closing table of a merge, and what needs a person."""
    console.print(_numbers(merged))
    console.print(_work(merged.report))
    if merged.stopped_by is not None:
        console.print(
            f"stopped by {_signal_name(merged.stopped_by)}: what was begun is merged; start the "
            "same command again for the rest",
            soft_wrap=True,
        )
    if merged.unfinished is not None:
        _show_unfinished(console, merged.unfinished)
    _show_needs(console, merged)


def _numbers(merged: Merged) -> Table:
    report, counts, unfinished = merged.report, merged.report.counts, merged.unfinished
    table = Table()
    table.add_column(f"RUN {report.run}", overflow="fold", max_width=56)
    table.add_column("number", justify="right")
    numbers = {
        "deltas in the datastore": report.n_listed,
        "merged before": report.n_merged_before,
        "merged now": counts.n_deltas,
        "merged by others meanwhile": report.n_merged_by_others,
        "gone since they were listed": report.n_gone,
        "superseded attempts": counts.n_superseded,
        "datasets merged now": counts.n_datasets,
        "datasets skipped: there with the same content": counts.n_skipped,
        "new conflicts": counts.n_conflicts,
        "conflicts settled": counts.n_settled,
        "open conflicts, old and new": report.n_open_conflicts,
        "deltas refused because of conflicts": len(report.refused),
        "deltas in quarantine": len(report.quarantined),
        "deltas given up": merged.n_dropped,
        "deltas of a newer format": len(report.newer),
    }
    for name, number in numbers.items():
        table.add_row(name, f"{number:,}")
    if unfinished is not None:
        table.add_section()
        table.add_row("predicted quanta", f"{unfinished.n_predicted:,}")
        table.add_row("merged quanta", f"{unfinished.n_merged:,}")
        for reason, number in _by_reason(unfinished):
            table.add_row(f"quanta {_TOLD[reason]}", f"{number:,}")
    return table


def _work(report: MergeReport) -> Table:
    """Rows by table and seconds by stage, side by side."""
    counts = report.counts
    rows = [(table, f"{n:,}") for table, n in sorted(counts.rows.items()) if n]
    rows.append(("all rows", f"{counts.n_rows:,}"))
    stages = [(stage, f"{s:.2f}") for stage, s in sorted(counts.seconds.items())]
    stages += [("wall clock", f"{report.wall_s:.2f}"), ("deltas/s", f"{_rate(report):,.0f}")]
    table = Table()
    for name in ("table", "rows", "stage", "seconds"):
        table.add_column(name, justify="right" if name in ("rows", "seconds") else "left")
    for number in range(max(len(rows), len(stages))):
        left = rows[number] if number < len(rows) else ("", "")
        right = stages[number] if number < len(stages) else ("", "")
        table.add_row(*left, *right)
    return table


def _show_unfinished(console: Console, unfinished: Unfinished) -> None:
    """Name the first quanta of each reason."""
    for reason, number in _by_reason(unfinished):
        quanta = "quantum" if number == 1 else "quanta"
        console.print(f"{number} {quanta} {_TOLD[reason]}:", soft_wrap=True)
        of_reason = [quantum for quantum in unfinished.quanta if quantum.reason == reason]
        for quantum in of_reason[:_SHOWN]:
            console.print(f"  {_describe(quantum)}", markup=False, soft_wrap=True)
        if number > _SHOWN:
            console.print(f"  … and {number - _SHOWN} more; --json has all")
    if any(reason is not UnfinishedReason.OPEN for reason, _ in _by_reason(unfinished)):
        console.print("on a pool, quantum-exec restart runs what is unfinished", soft_wrap=True)


def _describe(quantum: UnfinishedQuantum) -> str:
    told = f"{quantum.task_label} {canonical(quantum.data_id)} {quantum.quantum_id}"
    if quantum.n_attempts:
        told += f"; {quantum.n_attempts} attempt{'s' * (quantum.n_attempts != 1)}"
    if quantum.exit_code is not None:
        told += f", last exit code {quantum.exit_code}"
    if quantum.signal is not None:
        told += f", last signal {_signal_name(quantum.signal)}"
    return told


def _show_needs(console: Console, merged: Merged) -> None:
    """Tell what a person must do, with the command."""
    report, run = merged.report, merged.report.run
    for bad in report.quarantined[:_SHOWN]:
        console.print(f"quarantined ({bad.reason}): {bad.message}", markup=False, soft_wrap=True)
    _show_more(console, len(report.quarantined))
    for refusal in report.refused[:_SHOWN]:
        console.print(f"refused: {refusal.message}", markup=False, soft_wrap=True)
    _show_more(console, len(report.refused))
    for key in report.newer[:_SHOWN]:
        line = f"waits for an upgrade of registry-merge: {key}"
        console.print(line, markup=False, soft_wrap=True)
    _show_more(console, len(report.newer))
    behind = " ".join(merged.words)
    again = f"{merged.datastore} {run} {behind}".strip()
    missing = UnfinishedReason.SUCCESSFUL_WITHOUT_DELTA
    needs = {
        f"conflicts: registry-merge conflicts list {run} {behind}": (
            report.counts.n_conflicts or report.n_open_conflicts
        ),
        f"quarantine: registry-merge quarantine list {run} {behind}": len(report.quarantined),
        f"refused: registry-merge merge --on-conflict defer {again}": len(report.refused),
        f"newer format: upgrade quantum-exec here, then registry-merge merge {again}": len(
            report.newer
        ),
        f"deltas missing: quantum-exec rerun {run} --quantum ID --datastore {merged.datastore}": (
            merged.unfinished.counts[missing] if merged.unfinished else 0
        ),
    }
    for line, number in needs.items():
        if number:
            console.print(line.strip(), markup=False, soft_wrap=True)


def _show_more(console: Console, number: int) -> None:
    if number > _SHOWN:
        console.print(f"… and {number - _SHOWN} more; --json has all")


def _by_reason(unfinished: Unfinished) -> list[tuple[UnfinishedReason, int]]:
    return [(r, unfinished.counts[r]) for r in UnfinishedReason if unfinished.counts[r]]


def _rate(report: MergeReport) -> float:
    return report.counts.n_deltas / report.wall_s if report.wall_s else 0.0


def _signal_name(number: int) -> str:
    return signal.Signals(number).name
