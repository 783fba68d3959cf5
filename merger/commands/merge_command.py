# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge merge``."""

from typing import Annotated

import typer

from merger.commands.options import Config, Database, Endpoint, Json, Names, Threads
from merger.commands.session import open_datastore, open_registry, progress_bar, reported
from merger.settings import DEFAULT_BATCH_SIZE


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: registry-merge merge s3://bucket/survey u/night1 "
        "--database service=registry"
    )(merge)


def merge(
    names: Names,
    database: Database = None,
    config: Config = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help=f"Deltas in one transaction. ({DEFAULT_BATCH_SIZE} by default)"),
    ] = None,
    threads: Threads = None,
    endpoint_url: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Merge every delta of a RUN that was not merged before.

    May be repeated, killed, or run several times at once: the outcome is the same. Exit code 10:
    conflicts were recorded; 11: bad deltas are in quarantine; 12: deltas of a newer format wait.
    """
    from merger import reports
    from merger.merge import merge_run

    with reported(as_json) as report:
        store, run, read = open_datastore(names, config, endpoint_url)
        with open_registry(database, config) as registry, progress_bar(f"merge {run}") as progress:
            merged = merge_run(
                registry,
                store,
                run,
                batch_size=batch_size or read.batch_size or DEFAULT_BATCH_SIZE,
                threads=threads or read.threads,
                progress=progress,
            )
        report(reports.merge_object(merged), lambda console: reports.show_merge(console, merged))
        raise typer.Exit(merged.exit_code)
