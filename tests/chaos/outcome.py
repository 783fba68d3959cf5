# SPDX-License-Identifier: BSD-3-Clause
"""What a central registry has come to, against what was planned for it."""

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator

from merger.findings import NOTES
from tests.chaos.survey import ConflictKey, PlannedSide, Survey, canonical
from tests.dumps import Dump, rows

_SHOWN = 40

READ_CONFLICTS = """
SELECT table_name, conflict_key, attempt_id::text, content, kept FROM merge_conflict
"""


def compare_dumps(found: Dump, wanted: Dump, what: str) -> Iterator[str]:
    """Tell in which rows two registries differ."""
    for table, rows_wanted in wanted.items():
        if found[table] != rows_wanted:
            lines = list(
                difflib.unified_diff(rows_wanted, found[table], what, "chaos", n=0, lineterm="")
            )
            text = "\n".join(lines[:_SHOWN])
            yield f"table {table} is not that of {what}, {len(lines)} lines of difference:\n{text}"


def compare_sets(found: Iterable[object], wanted: Iterable[object], what: str) -> Iterator[str]:
    """Tell what is missing and what is too much."""
    counted, planned = Counter(found), Counter(wanted)
    for sign, some in (("missing", planned - counted), ("not planned", counted - planned)):
        if some:
            first = "\n".join(str(one) for one in list(some.elements())[:_SHOWN])
            yield f"{what}: {some.total()} {sign}:\n{first}"


def compare_with_plan(address: str, survey: Survey) -> Iterator[str]:
    """Compare ledger, conflicts, quarantine and leases with the plan."""
    ledger = rows(address, "SELECT attempt_id::text, forgotten FROM merged_attempt")
    planned = [(attempt_id, False) for attempt_id in survey.ledger]
    yield from compare_sets(ledger, planned, "ledger")
    quarantine = rows(address, "SELECT delta_key, reason FROM quarantine")
    yield from compare_sets(quarantine, survey.quarantine.items(), "quarantine")
    wanted = [(key, side) for key, sides in survey.conflicts.items() for side in sides]
    yield from compare_sets(read_conflicts(address), wanted, "conflicts")
    yield from compare_sets(rows(address, "SELECT * FROM merge_lease"), [], "leases")


def read_conflicts(address: str) -> Iterator[tuple[ConflictKey, PlannedSide]]:
    """The conflicts on record, in the terms of a plan."""
    for table, key, attempt_id, content, kept in rows(address, READ_CONFLICTS):
        said = content["dataset_id"] if table == "dataset" else canonical(content["record"])
        yield (table, canonical(json.loads(key))), PlannedSide(attempt_id, said, kept)


def compare_findings(report: dict[str, object], survey: Survey) -> Iterator[str]:
    """Compare what ``verify --json`` found with the plan."""
    findings = report.get("findings")
    if not isinstance(findings, list):
        yield f"verify: no findings in {report}"
        return
    found = [(f["kind"], f["key"]) for f in findings if f["kind"] not in NOTES]
    wanted = [("delta_bad", key) for key in survey.quarantine]
    wanted += [("delta_newer_format", key) for key in survey.newer]
    wanted += [
        ("conflict", f"{table} {key}") for (table, key), s in survey.conflicts.items() for _ in s
    ]
    yield from compare_sets(found, wanted, "findings of verify")
