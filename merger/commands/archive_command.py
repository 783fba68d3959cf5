# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge archive``: the deltas of a RUN as a few Parquet files."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from merger.commands.options import Config, DryRun, Endpoint, Json, Names, Threads
from merger.commands.session import open_datastore, progress_bar, reported
from merger.settings import DEFAULT_ROWS_PER_FILE

if TYPE_CHECKING:
    from merger.delta_archive import ArchiveReport

_SHOWN = 20
"""Deltas that could not be read; it may be all."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: registry-merge archive s3://bucket/survey u/night1")(archive)


def archive(
    names: Names,
    rows_per_file: Annotated[
        int, typer.Option(min=1, help="Deltas in one Parquet file.")
    ] = DEFAULT_ROWS_PER_FILE,
    dry_run: DryRun = False,
    config: Config = None,
    threads: Threads = None,
    endpoint_url: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Copy the deltas of a RUN into a few Parquet files beside them.

    For analysis with DuckDB, pandas or Arrow, and for merges that read a few large objects instead
    of many small ones. May be repeated: it adds the deltas that no archive has. The deltas stay,
    because workers and reruns look for them. Exit code 13: an archive is damaged; 5: deltas could
    not be read.
    """
    from merger.delta_archive import archive_run

    with reported(as_json) as report:
        store, run, read = open_datastore(names, config, endpoint_url)
        with progress_bar(f"archive {run}") as progress:
            found = archive_run(
                store,
                run,
                rows_per_file=rows_per_file,
                threads=threads or read.threads,
                dry_run=dry_run,
                progress=progress,
            )
        report(archive_object(found, dry_run), lambda console: show_archive(console, found))
        raise typer.Exit(found.exit_code)


def archive_object(found: "ArchiveReport", dry_run: bool) -> dict[str, object]:
    """Return the report as ``--json`` prints it."""
    told = dataclasses.asdict(found) | {"exit_code": int(found.exit_code), "dry_run": dry_run}
    return told | {"wall_s": round(found.wall_s, 3)}


def show_archive(console: Console, found: "ArchiveReport") -> None:
    """Print what was archived, and what needs a person."""
    table = Table()
    table.add_column(f"RUN {found.run}", overflow="fold")
    table.add_column("number", justify="right")
    table.add_row("deltas in the datastore", str(found.n_deltas))
    table.add_row("archived before", str(found.n_archived_before))
    table.add_row("not archived before", str(found.n_to_archive))
    table.add_row("archived now", str(found.n_archived))
    table.add_row("of these with key and bytes only", str(found.n_undecoded))
    table.add_row("too large, left as they are", str(found.n_too_large))
    table.add_row("files written", str(len(found.written)))
    table.add_row("bytes written", str(sum(file.size_bytes for file in found.written)))
    table.add_row("seconds", f"{found.wall_s:.2f}")
    console.print(table)
    for file in found.written:
        console.print(f"wrote {file.key}", markup=False, soft_wrap=True)
    for message in found.damaged:
        console.print(message, markup=False, soft_wrap=True)
    for message in found.unread[:_SHOWN]:
        console.print(f"not archived: {message}", markup=False, soft_wrap=True)
    if len(found.unread) > _SHOWN:
        console.print(f"… and {len(found.unread) - _SHOWN} more; --json has all")
    for key in found.strangers:
        console.print(f"no delta, left alone: {key}", markup=False, soft_wrap=True)
