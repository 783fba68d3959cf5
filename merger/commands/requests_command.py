# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge requests``."""

from typing import Annotated

import typer

from merger.commands.options import Config, Database, Json, Run
from merger.commands.session import open_registry, reported
from merger.settings import SettingsError


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: registry-merge requests u/night1 --yaml "
        "--database service=registry > requests.yaml"
    )(requests)


def requests(
    run: Run,
    database: Database = None,
    config: Config = None,
    margin: Annotated[
        float, typer.Option(min=1, max=100, help="Memory and disk are so much more than measured.")
    ] = 1.2,
    cover: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1,
            help="Share of the quanta that memory is sized for; the others grow into it.",
        ),
    ] = 1.0,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print a piece of a submit configuration.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what the tasks of a RUN used, and what the next run should ask for.

    Reads the central registry only. Exit codes: 0, shown; 1, no successful attempt of the RUN is
    in the registry; 2, wrong options; 3, 4 and 5, the registry is away, not set up or closed to us.
    """
    with reported(as_json) as report:
        if as_yaml and as_json:
            raise SettingsError("--yaml: expected no --json, found both")

        from merger import measured_requests as measured

        with open_registry(database, config) as registry:
            tasks = measured.read_measured(registry, run, cover)
        if as_yaml:
            print(measured.requests_yaml(run, tasks, margin), end="")
            return
        report(
            measured.requests_object(run, tasks, margin, cover),
            lambda console: measured.show_requests(console, run, tasks, margin, cover),
        )
