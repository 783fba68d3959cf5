# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge import``: an SQLite registry into the central one."""

from pathlib import Path
from typing import Annotated

import typer

from merger.commands.options import Config, Database, DryRun, Json, OnConflict
from merger.commands.session import open_registry, policies_of, progress_bar, reported
from merger.settings import read_config


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "import",
        epilog="Example: registry-merge import old.sqlite3 --run u/me/night1=imported/night1 "
        "--database service=registry",
    )(import_)


def import_(
    sqlite: Annotated[Path, typer.Argument(metavar="SQLITE", help="File with the registry.")],
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run", metavar="OLD=NEW", help="Another name for a RUN; may be given again."
        ),
    ] = None,
    only_run: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Import this RUN of the file only; may be given again."),
    ] = None,
    on_conflict: OnConflict = None,
    database: Database = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Import a registry in SQLite: the private one of a sandbox, or that of a whole repository.

    The file is only read, everything in it is checked first, and a bad row is named with table,
    rowid and column. Attempts that the file's ledger has are merged like deltas; all other datasets
    are entered as existing ones. May be repeated: what is there is skipped. Each table is counted
    in file and registry. Exit code 10: conflicts were recorded; 13: rows or chains are not there as
    in the file; 15: policy fail left rows out.
    """
    from merger import entry_reports, sqlite_import
    from merger.sqlite_source import SqliteSource

    with reported(as_json) as report:
        options = sqlite_import.ImportOptions(
            renames=dict(sqlite_import.parse_renames(run or [])),
            only_runs=only_run or (),
            policies=policies_of(on_conflict, read_config(config)),
            is_dry=dry_run,
        )
        with (
            SqliteSource(sqlite) as source,
            open_registry(database, config) as registry,
            progress_bar(f"import {sqlite.name}") as progress,
        ):
            done = sqlite_import.import_registry(registry, source, options, progress)
        report(
            entry_reports.import_object(done, dry_run),
            lambda console: entry_reports.show_import(console, done, dry_run),
        )
        raise typer.Exit(done.exit_code)
