# SPDX-License-Identifier: BSD-3-Clause
"""What the commands about conflicts show: tables for people, JSON for programs."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from merger.exit_codes import ExitCode
from merger.settling import RecordedConflict, SettleReport, ShownSide
from registry.model import format_data_id
from registry.typed_json import canonical
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore


def show_list(console: Console, number: int, conflicts: list[RecordedConflict]) -> None:
    """Print a table of conflicts."""
    table = Table()
    for title in ("id", "claimed", "sides", "in the table", "settled"):
        table.add_column(title, overflow="fold")
    for conflict in conflicts:
        table.add_row(
            conflict.id,
            escape(_subject(conflict)),
            str(len(conflict.sides)),
            _attempt(next((side for side in conflict.sides if side.kept), None)),
            _decision(conflict),
        )
    if conflicts:
        console.print(table)
    if number > len(conflicts):
        console.print(f"… and {number - len(conflicts)} more; --json has all")
    console.print(f"{number} conflict{'s' * (number != 1)}")


def _subject(conflict: RecordedConflict) -> str:
    key = json.loads(conflict.conflict_key)
    if "data_id" not in key:
        return f"dataset id {key['dataset_id']}"
    kind = key.get("dataset_type") or f"record of {key['dimension']}"
    return f"{kind} {format_data_id(key['data_id'])}" + (
        f" in {key['run']}" if "run" in key else ""
    )


def _attempt(side: ShownSide | None) -> str:
    if side is None:
        return "none"
    return f"{side.attempt_id}" if side.attempt_id else "from outside"


def _decision(conflict: RecordedConflict) -> str:
    if not conflict.is_settled:
        return "open"
    return f"{conflict.decision}{' by policy' if conflict.by_policy else ''}"


def show_sides(
    console: Console,
    conflict: RecordedConflict,
    makers: Mapping[str, Mapping[str, str]],
    objects: Mapping[str, str],
) -> None:
    """Print a conflict field by field; fields in which sides differ are marked."""
    table = Table(title=f"{conflict.id}: {escape(_subject(conflict))}", title_justify="left")
    table.add_column("field", overflow="fold")
    for side in conflict.sides:
        table.add_column("in the table" if side.kept else "not kept", overflow="fold")
    columns = [_fields(side, makers, objects) for side in conflict.sides]
    for name in dict.fromkeys(name for column in columns for name in column):
        texts = [column.get(name, "") for column in columns]
        differs = len(set(texts)) > 1
        table.add_row(f"{name} {'≠' if differs else ''}".strip(), *map(escape, texts))
    console.print(table)
    console.print(f"conflict {conflict.id} is {_decision(conflict)}", soft_wrap=True)


def _fields(
    side: ShownSide, makers: Mapping[str, Mapping[str, str]], objects: Mapping[str, str]
) -> dict[str, str]:
    fields = {"attempt": _attempt(side)}
    maker = makers.get(side.attempt_id or "", {})
    fields |= {"quantum": maker.get("quantum_id") or str(side.content.get("quantum_id") or "")}
    fields |= {name: maker[name] for name in ("task_label", "host", "finished") if name in maker}
    for name, value in side.content.items():
        if name == "record":
            fields |= {f"record.{key}": canonical(fact) for key, fact in value.items()}
        elif name != "quantum_id":
            fields[name] = value if isinstance(value, str) else canonical(value)
    if side.content.get("object_key") in objects:
        fields["object"] = objects[side.content["object_key"]]
    return fields | {"content": side.content_checksum}


def look_for_objects(store: ObjectStore, conflict: RecordedConflict) -> dict[str, str]:
    """Tell of the objects of all sides whether they exist, by key."""
    found = {}
    for side in conflict.sides:
        key, size = side.content.get("object_key"), side.content.get("size_bytes")
        if key is None:
            continue
        try:
            there = store.head(key).size_bytes
        except ObjectNotFoundError:
            found[key] = "missing"
        else:
            is_right = size is None or there == size
            found[key] = "exists" if is_right else f"exists with {there} bytes"
    return found


def settle_object(report: SettleReport, is_dry: bool) -> dict[str, Any]:
    """Return what was settled as ``--json`` prints it."""
    return dataclasses.asdict(report) | {"dry_run": is_dry, "exit_code": int(ExitCode.OK)}


def show_settled(console: Console, report: SettleReport, is_dry: bool) -> None:
    """Print what was settled."""
    number = report.n_settled
    console.print(
        f"{'would settle' if is_dry else 'settled'} {number} conflict{'s' * (number != 1)} "
        f"({report.decision}); another side than before is in the table in {report.n_moved}",
        soft_wrap=True,
    )
