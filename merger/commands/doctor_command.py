# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge doctor``: is this place fit for a merge?"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from merger.commands.options import Config, Database, Endpoint, Json
from merger.commands.session import open_datastore, reported
from merger.exit_codes import ExitCode
from merger.settings import database_address, read_config

if TYPE_CHECKING:
    from merger.doctor import Examination

_COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: registry-merge doctor s3://bucket/survey u/night1 --write")(doctor)


def doctor(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[[DATASTORE] RUN]", help="What is to be merged; nothing: the database only."
        ),
    ] = None,
    database: Database = None,
    config: Config = None,
    endpoint_url: Endpoint = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Also write an object below the RUN, and remove it."),
    ] = False,
    grants: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="Only print the SQL that lets a role merge."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check database, datastore and clocks, and say what to change.

    Nothing is changed, and no right is needed. Exit code 16: something has to be changed; 3 or 5:
    the database or the datastore could not even be reached.
    """
    from merger import rights
    from merger.doctor import examine

    with reported(as_json) as report:
        address = database_address(database, read_config(config))
        if grants is not None:
            text = rights.grants(grants, database=address.dbname)
            told = {"sql": text, "exit_code": int(ExitCode.OK)}
            report(told, lambda console: print(text, end=""))
            return
        store = run = None
        if names:
            store, run, _ = open_datastore(names, config, endpoint_url)
        found = examine(address, store, run, write=write)
        report(_as_object(found), lambda console: _show(console, found))
        raise typer.Exit(found.exit_code)


def _as_object(found: "Examination") -> dict[str, object]:
    from dataclasses import asdict

    checks = [asdict(check) for check in found.checks]
    return {"checks": checks, "exit_code": int(found.exit_code)}


def _show(console: Console, found: "Examination") -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("", "what", "found"):
        table.add_column(name, overflow="fold")
    for check in found.checks:
        colour = _COLOURS[check.standing]
        lines = [check.found]
        if check.remedy is not None:
            lines = [f"found {check.found}; expected {check.expected}", f"→ {check.remedy}"]
        table.add_row(f"[{colour}]{check.standing}[/]", check.subject, _plain("\n".join(lines)))
    console.print(table)


def _plain(text: str) -> str:
    """Keep brackets of messages out of the markup."""
    from rich.markup import escape

    return escape(text)
