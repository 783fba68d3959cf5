# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge init`` and ``migrate``."""

import typer

from merger.commands.options import Config, Database, Json
from merger.commands.session import reported
from merger.exit_codes import ExitCode
from merger.settings import database_address, read_config


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: registry-merge init --database postgresql://merger@db/registry")(
        init
    )
    app.command(epilog="Example: registry-merge migrate --database service=registry")(migrate)


def init(database: Database = None, config: Config = None, as_json: Json = False) -> None:
    """Create the tables of the central registry; does nothing if they are there."""
    from merger import schema

    with reported(as_json) as report:
        is_new = schema.create(database_address(database, read_config(config)))
        text = "created" if is_new else "was there already"
        report(
            {
                "exit_code": int(ExitCode.OK),
                "created": is_new,
                "schema_version": schema.SCHEMA_VERSION,
            },
            lambda console: console.print(
                f"central registry: schema version {schema.SCHEMA_VERSION} {text}"
            ),
        )


def migrate(database: Database = None, config: Config = None, as_json: Json = False) -> None:
    """Upgrade the tables of the central registry to this release."""
    from merger import schema

    with reported(as_json) as report:
        before, after = schema.migrate(database_address(database, read_config(config)))
        report(
            {
                **{"exit_code": int(ExitCode.OK), "schema_version_before": before},
                "schema_version": after,
            },
            lambda console: console.print(
                f"central registry: schema version {before}, now {after}"
            ),
        )
