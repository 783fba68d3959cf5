# SPDX-License-Identifier: BSD-3-Clause
"""What ``verify`` shows: lines for people, one JSON object for programs."""

import dataclasses
from collections import Counter

from rich.console import Console
from rich.table import Table

from merger.findings import VerifyReport

_SHOWN = 200
"""Findings in the table; ``--json`` has all."""


def verify_object(report: VerifyReport) -> dict[str, object]:
    """Return a verify report as ``--json`` prints it."""
    return {
        "run": report.run,
        "exit_code": int(report.exit_code),
        "n_quanta": report.n_quanta,
        "n_deltas": report.n_deltas,
        "n_datasets": report.n_datasets,
        "n_not_kept": report.n_not_kept,
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


def _not_kept(report: VerifyReport) -> str:
    return f" ({report.n_not_kept} of them not kept)" if report.n_not_kept else ""


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
        f"{report.n_datasets} datasets{_not_kept(report)}, {report.n_objects} objects, "
        f"{report.wall_s:.2f} s",
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
