# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge sweep``: objects that nothing names."""

import dataclasses
import itertools
import json
import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from merger.commands.options import Config, Database, DryRun, Endpoint, Json, Names, Threads
from merger.commands.session import open_datastore, open_registry, progress_bar, reported
from merger.settings_error import SettingsError
from registry.names import printable

if TYPE_CHECKING:
    from merger.sweep import Sweep

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SHOWN = 200


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: registry-merge sweep s3://bucket/survey u/night1 "
        "--database service=registry --older-than 7d"
    )(sweep)


def sweep(
    names: Names,
    database: Database = None,
    config: Config = None,
    older_than: Annotated[
        str,
        typer.Option(
            metavar="AGE",
            help="Only objects of at least this age by the clock of the datastore: 90m, 36h, 7d; "
            "longer than any attempt takes from its first upload to its delta.",
        ),
    ] = "1d",
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what is found; without it, only list.")
    ] = False,
    dry_run: DryRun = False,
    threads: Threads = None,
    endpoint_url: Endpoint = None,
    as_json: Json = False,
) -> None:
    """List, or delete, the objects of a RUN that nothing names.

    These are datasets of superseded attempts and of attempts that died before their delta was
    there, logs of the latter, and uploads that never ended. Kept is what the central registry names
    in any RUN, and what a delta names that is not merged, forgotten, or in quarantine. Exit code 5
    or 3: something could not be deleted.
    """
    from merger.sweep import Sweep

    with reported(as_json):
        if delete and dry_run:
            raise SettingsError("expected --delete or --dry-run, found both")
        age_s = parse_age(older_than)
        store, run, read = open_datastore(names, config, endpoint_url)
        threads = threads or read.threads
        with (
            open_registry(database, config) as registry,
            Sweep(
                registry, store, run, older_than_s=age_s, delete=delete, threads=threads
            ) as begun,
        ):
            with progress_bar(f"sweep {run}") as progress:
                found = begun.run(progress)
            (print_json if as_json else show_sweep)(begun)
        raise typer.Exit(found.exit_code)


def parse_age(text: str) -> float:
    """Return seconds from a text such as ``36h``.

    Raises
    ------
    SettingsError
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw]?)", text)
    if not found:
        raise SettingsError(f"--older-than: expected an age such as 90m, 36h or 7d, found {text!r}")
    return float(found[1]) * _SECONDS[found[2]]


def print_json(sweep: "Sweep") -> None:
    """Print one JSON object, the list of objects as it is read: it may have a million."""
    found = sweep.report
    told = {
        field.name: getattr(found, field.name)
        for field in dataclasses.fields(found)
        if field.name not in ("unfinished", "not_deleted", "wall_s")
    }
    told |= {
        "exit_code": int(found.exit_code),
        "wall_s": round(found.wall_s, 3),
        "unfinished": [dataclasses.asdict(upload) for upload in found.unfinished],
        "not_deleted": [{"key": one.key, "message": str(one.error)} for one in found.not_deleted],
    }
    print(json.dumps(told)[:-1] + ', "objects": [', end="")
    for number, one in enumerate(sweep.left()):
        print(", " * (number > 0) + json.dumps(dataclasses.asdict(one)), end="")
    print("]}")


def show_sweep(sweep: "Sweep") -> None:
    """Print what was found, and what became of it."""
    console, found = Console(), sweep.report
    if found.n_left or found.unfinished:
        console.print(_table_of(sweep))
    if found.n_left > _SHOWN:
        console.print(f"… and {found.n_left - _SHOWN} more; --json has all")
    for one in found.not_deleted[:_SHOWN]:
        console.print(f"not deleted: {one.error}", markup=False, soft_wrap=True)
    if found.not_listed:
        line = f"unfinished uploads were not looked at: {found.not_listed}"
        console.print(line, markup=False, soft_wrap=True)
    if found.n_unreadable:
        line = f"{found.n_unreadable} deltas or jobs could not be read, and protect what is theirs"
        console.print(line, soft_wrap=True)
    console.print(
        f"RUN {found.run}: {found.n_objects} objects; named by nothing and old enough "
        f"{found.n_left} ({found.left_bytes} bytes), younger {found.n_young}; unfinished uploads "
        f"{len(found.unfinished)} ({sum(u.size_bytes for u in found.unfinished)} bytes)",
        markup=False,
        soft_wrap=True,
    )
    if found.is_delete:
        console.print(
            f"deleted {found.n_deleted} objects ({found.deleted_bytes} bytes), "
            f"not deleted {found.n_not_deleted}",
            soft_wrap=True,
        )
    else:
        console.print("nothing was deleted; --delete does it")


def _table_of(sweep: "Sweep") -> Table:
    table = Table()
    table.add_column("key", overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("age", justify="right")
    table.add_column("reason", overflow="fold")
    for one in itertools.islice(sweep.left(), _SHOWN):
        table.add_row(Text(one.key), str(one.size_bytes), _age(one.age_s), one.reason)
    for upload in sweep.report.unfinished[:_SHOWN]:
        table.add_row(
            Text(printable(upload.key)),
            str(upload.size_bytes),
            _age(sweep.age_s(upload.began_s)),
            "an upload that did not end",
        )
    return table


def _age(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if abs(seconds) >= _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.1f}{unit}"
    return f"{seconds:.0f}s"
