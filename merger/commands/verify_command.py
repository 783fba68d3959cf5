# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge verify``."""

from typing import Annotated

import typer

from merger.commands.options import Config, Database, Endpoint, Json, Names, Threads
from merger.commands.session import open_datastore, open_registry, progress_bar, reported


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: registry-merge verify s3://bucket/survey u/night1 "
        "--database service=registry"
    )(verify)


def verify(
    names: Names,
    database: Database = None,
    config: Config = None,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Fetch every dataset and compare its bytes.")
    ] = False,
    threads: Threads = None,
    endpoint_url: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Compare central registry, deltas and bucket, and name every difference (exit code 13)."""
    from merger import reports
    from merger.verification import verify_run

    with reported(as_json) as report:
        store, run, read = open_datastore(names, config, endpoint_url)
        with open_registry(database, config) as registry, progress_bar(f"verify {run}") as progress:
            found = verify_run(
                registry,
                store,
                run,
                checksums=checksums,
                threads=threads or read.threads,
                progress=progress,
            )
        report(reports.verify_object(found), lambda console: reports.show_verify(console, found))
        raise typer.Exit(found.exit_code)
