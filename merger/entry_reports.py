# SPDX-License-Identifier: BSD-3-Clause
"""What commands show about entries from outside: a table for people, an object for programs."""

import dataclasses
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from merger.dimension_ingest import DimensionReport
from merger.file_ingest import IngestReport
from merger.outside_entries import EntryCounts
from merger.sqlite_import import ImportReport

_LABELS = {
    "n_inserted": "inserted",
    "n_skipped": "skipped: there already",
    "n_completed": "of these with size or checksum now",
    "n_adopted": "of these made by attempts: forget leaves them now",
    "n_of_attempts": "of these of attempts merged, forgotten or superseded",
    "n_conflicting": "conflicting",
    "n_open": "new conflicts, open",
    "n_settled": "new conflicts, settled",
    "n_refused": "left out by policy fail",
}


def counts_object(counts: EntryCounts) -> dict[str, object]:
    """Return counts as ``--json`` prints them."""
    return dataclasses.asdict(counts)


def show_counts(
    console: Console, title: str, before: Mapping[str, int], counts: EntryCounts, is_dry: bool
) -> None:
    """Print the closing table."""
    table = Table()
    title = f"{title} (nothing was changed)" if is_dry else title
    table.add_column(title, overflow="fold", max_width=60)
    table.add_column("number", justify="right")
    for label, number in before.items():
        table.add_row(label, str(number))
    for name, label in _LABELS.items():
        number = getattr(counts, name)
        if number or name in ("n_inserted", "n_skipped", "n_conflicting"):
            table.add_row(label, str(number))
    console.print(table)
    if counts.n_open:
        line = "conflicts: see registry-merge conflicts list"
        console.print(line, markup=False, soft_wrap=True)


def ingest_object(report: IngestReport, is_dry: bool) -> dict[str, object]:
    """Return the report of ``ingest-files`` as ``--json`` prints it."""
    return {
        "run": report.run,
        "dataset_type": report.dataset_type,
        "dry_run": is_dry,
        "exit_code": int(report.exit_code),
        "n_rows": report.n_rows,
        "n_repeated": report.n_repeated,
        "n_absolute": report.n_absolute,
        "n_bad": len(report.bad.sorted_numbers()),
        "bad": report.bad.messages,
        "refused": report.refusals,
        "dimensions": {name: kind.value for name, kind in report.kinds.items()},
    } | counts_object(report.counts)


def show_ingest(console: Console, report: IngestReport, is_dry: bool) -> None:
    """Print the closing table of ``ingest-files``, and what needs a person."""
    before = {"rows in the table": report.n_rows}
    if report.n_repeated:
        before["of these said twice"] = report.n_repeated
    if report.bad.n_problems:
        before["bad rows, left out"] = len(report.bad.sorted_numbers())
    show_counts(
        console, f"{report.dataset_type} in RUN {report.run}", before, report.counts, is_dry
    )
    kinds = ", ".join(f"{name}: {kind.value}" for name, kind in report.kinds.items())
    lines = [f"values of dimensions: {kinds}"] if kinds else []
    if report.n_absolute:
        lines.append(
            f"{report.n_absolute} objects lie outside of the datastore: absolute URIs, which "
            "quanta cannot read; was --datastore left out?"
        )
    for line in [*lines, *report.refusals]:
        console.print(line, markup=False, soft_wrap=True)
    if report.bad.n_problems:
        console.print(report.bad.text(report.table), markup=False, soft_wrap=True)


def dimensions_object(report: DimensionReport, is_dry: bool) -> dict[str, object]:
    """Return the report of ``ingest-dimensions`` as ``--json`` prints it."""
    return {
        "dimension": report.dimension,
        "dry_run": is_dry,
        "exit_code": int(report.exit_code),
        "n_rows": report.n_rows,
        "n_inserted": report.n_inserted,
        "n_skipped": report.n_skipped,
        "n_conflicting": report.n_conflicting,
        "n_open": report.conflicts.n_open,
        "n_settled": report.conflicts.n_settled,
        "columns": report.columns,
    }


def show_dimensions(console: Console, report: DimensionReport, is_dry: bool) -> None:
    """Print the closing table of ``ingest-dimensions``."""
    counts = EntryCounts(
        n_inserted=report.n_inserted,
        n_skipped=report.n_skipped,
        n_conflicting=report.n_conflicting,
        n_open=report.conflicts.n_open,
        n_settled=report.conflicts.n_settled,
    )
    before = {"records in the table": report.n_rows}
    show_counts(console, f"records of {report.dimension}", before, counts, is_dry)
    columns = ", ".join(f"{name}: {kind}" for name, kind in report.columns.items())
    console.print(f"values: {columns}", markup=False, soft_wrap=True)


def import_object(report: ImportReport, is_dry: bool) -> dict[str, object]:
    """Return the report of ``import`` as ``--json`` prints it."""
    return {
        "source": report.source,
        "kind": report.kind,
        "dry_run": is_dry,
        "exit_code": int(report.exit_code),
        "tables": {
            name: dataclasses.asdict(count) | {"equal": count.is_equal}
            for name, count in report.tables.items()
        },
        "n_attempts_merged": report.merged.n_deltas,
        "n_attempt_conflicts": report.merged.n_conflicts,
        "n_dimension_conflicts": report.n_dimension_conflicts,
        "notes": report.notes,
    } | counts_object(report.entries)


def show_import(console: Console, report: ImportReport, is_dry: bool) -> None:
    """Print what an import did, and each table of the file beside the central registry."""
    before = {"attempts merged": report.merged.n_deltas} if report.merged.n_deltas else {}
    if conflicts := report.merged.n_conflicts + report.n_dimension_conflicts:
        before["new conflicts of attempts and dimension records"] = conflicts
    show_counts(console, "datasets from outside", before, report.entries, is_dry)
    table = Table("table")
    for heading in ("in the file", "left out", "in the registry"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for name, count in report.tables.items():
        numbers = map(str, (count.n_source, count.n_left_out, count.n_present))
        verdict = "equal" if count.is_equal else "not yet" if is_dry else "differs"
        table.add_row(name, *numbers, verdict)
    console.print(table)
    for line in report.notes:
        console.print(line, markup=False, soft_wrap=True)
