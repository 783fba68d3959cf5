# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge forget``."""

from typing import TYPE_CHECKING, Annotated

import typer

from merger.commands.options import Config, Database, DryRun, Json, Run, quantum_id
from merger.commands.session import open_registry, reported
from merger.settings import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from merger.forgetting import ForgetReport


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: registry-merge forget u/night1 --dry-run --database service=registry"
    )(forget)


def forget(
    run: Run,
    quantum: Annotated[
        list[str] | None,
        typer.Option("--quantum", help="Only what this quantum put in; may be given again."),
    ] = None,
    outside: Annotated[
        bool,
        typer.Option(
            "--outside", help="All of the RUN: what was ingested or imported into it goes, too."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    dry_run: DryRun = False,
    database: Database = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take out of the central registry what a RUN, or some quanta of it, put in.

    Everything goes in one transaction, and no merge brings it back until merge --remerge. Objects
    and deltas in the datastore stay, and so do datasets that were registered from outside, unless
    with --outside: that undoes ingest-files and import, by RUN.
    """
    from merger.forgetting import forget as forget_rows

    with reported(as_json) as report:
        quantum_ids = None if not quantum else [quantum_id(text) for text in quantum]
        if quantum_ids and outside:
            raise SettingsError("--outside: expected no --quantum: it is of all of the RUN")
        with open_registry(database, config) as registry:
            if not (yes or dry_run):
                _ask(forget_rows(registry, run, quantum_ids, is_dry=True, outside=outside))
            found = forget_rows(registry, run, quantum_ids, is_dry=dry_run, outside=outside)
        report(_as_object(found, dry_run), lambda console: _show(console, found, dry_run))


def _ask(found: "ForgetReport") -> None:
    outside = f", and {found.n_outside_gone} from outside" if found.n_outside_gone else ""
    question = (
        f"Forget {found.n_quanta} quanta with {found.n_attempts} attempts and "
        f"{found.n_datasets} datasets of RUN {found.run}{outside}?"
    )
    try:
        is_meant = typer.confirm(question, err=True)
    except typer.Abort:
        raise SettingsError("forget: expected y or n, or --yes where nobody can answer") from None
    if not is_meant:
        raise typer.Abort


def _as_object(found: "ForgetReport", is_dry: bool) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(found) | {"dry_run": is_dry, "exit_code": 0}


def _show(console: "Console", found: "ForgetReport", is_dry: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column(Text(f"RUN {found.run}"), overflow="fold")
    table.add_column("would go" if is_dry else "gone", justify="right")
    for title, number in (
        ("quanta", found.n_quanta),
        ("attempts", found.n_attempts),
        ("datasets", found.n_datasets),
        ("datasets from outside", found.n_outside_gone),
        ("dimension records", found.n_dimension_records),
        ("deltas in quarantine", found.n_quarantined),
        ("the RUN itself", int(found.is_run_gone)),
        ("places in chains", found.n_chains),
    ):
        table.add_row(title, str(number))
    console.print(table)
    if found.n_from_outside:
        console.print(
            f"{found.n_from_outside} datasets were registered from outside: they stay, with the "
            "RUN, unless with --outside",
            soft_wrap=True,
        )
    if not (found.n_attempts or found.n_outside_gone):
        console.print("nothing of it was left to forget")
    elif found.n_attempts and not is_dry:
        console.print("no merge brings it back, unless with --remerge", soft_wrap=True)
