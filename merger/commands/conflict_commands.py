# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge conflicts``: what several attempts claim, and which side stays."""

import enum
from typing import Annotated

import typer

from merger.commands.options import Config, Database, DryRun, Endpoint, Json
from merger.commands.session import open_registry, reported
from merger.exit_codes import ExitCode

_SHOWN = 200
"""Conflicts in the table; ``--json`` has all."""

conflicts = typer.Typer(
    help="List, show and settle conflicts: keys that several attempts claim with other content.",
    no_args_is_help=True,
)

Name = Annotated[
    str, typer.Argument(metavar="ID", help="Beginning of the id of a conflict, or its key.")
]
Type = Annotated[
    str | None, typer.Option("--type", help="Only conflicts about this dataset type or dimension.")
]
Task = Annotated[
    str | None, typer.Option("--task", help="Only conflicts with a side that this task made.")
]
DataIds = Annotated[
    str | None,
    typer.Option(
        "--data-id", help="Only conflicts at these values, such as exposure=3,detector=1."
    ),
]
All = Annotated[bool, typer.Option("--all", help="Conflicts that are settled, too.")]


class TableName(enum.StrEnum):
    """Tables whose keys may be claimed twice."""

    DATASET = "dataset"
    DIMENSION_RECORD = "dimension_record"


Table = Annotated[
    TableName | None, typer.Option("--table", help="Only conflicts about rows of this table.")
]


class Settlement(enum.StrEnum):
    """What may be decided about a conflict without naming a side."""

    KEEP = "keep"
    REPLACE = "replace"
    DEFER = "defer"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(conflicts, name="conflicts")


@conflicts.command("list", epilog="Example: registry-merge conflicts list u/night1 --type catalog")
def list_all(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Only conflicts with a side in this RUN.")
    ] = None,
    type_name: Type = None,
    task: Task = None,
    data_id: DataIds = None,
    table: Table = None,
    settled_too: All = False,
    database: Database = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the conflicts that nobody has settled; exit code 0 whether there are any or not."""
    from merger import conflict_reports
    from merger.settling import Selection, list_conflicts, parse_data_id

    with reported(as_json) as report, open_registry(database, config) as registry:
        wanted = parse_data_id(data_id)
        selection = Selection(run, type_name, table, settled_too, task, wanted)
        number, found = list_conflicts(registry, selection, limit=None if as_json else _SHOWN)
        report(
            {
                "exit_code": int(ExitCode.OK),
                "n_conflicts": number,
                "conflicts": [one.as_object() for one in found],
            },
            lambda console: conflict_reports.show_list(console, number, found),
        )


@conflicts.command(epilog="Example: registry-merge conflicts show 3f2a9c s3://bucket/survey")
def show(
    name: Name,
    datastore: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASTORE]", help="Look there whether the objects of the sides exist."
        ),
    ] = None,
    database: Database = None,
    config: Config = None,
    endpoint_url: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Show the sides of a conflict field by field, the one that is in the table first."""
    from merger import conflict_reports
    from merger.settings import SettingsError, read_config
    from merger.settling import read_conflict
    from transfer_plugins.object_store import open_store

    with reported(as_json) as report, open_registry(database, config) as registry:
        if endpoint_url is not None and datastore is None:
            raise SettingsError("--endpoint-url: expected a DATASTORE to look in, found none")
        conflict, makers = read_conflict(registry, name)
        objects = {}
        if datastore is not None:
            endpoint = endpoint_url or read_config(config).endpoint_url
            store = open_store(datastore, endpoint_url=endpoint)
            objects = conflict_reports.look_for_objects(store, conflict)
        report(
            {
                "exit_code": int(ExitCode.OK),
                **conflict.as_object(),
                "attempts": makers,
                "objects": objects,
            },
            lambda console: conflict_reports.show_sides(console, conflict, makers, objects),
        )


@conflicts.command(
    epilog="Example: registry-merge conflicts settle --key 3f2a9c --keep 019a2b; or: "
    "registry-merge conflicts settle --run u/night1 --type catalog --decision replace"
)
def settle(
    key: Annotated[
        str | None, typer.Option("--key", help="One conflict: the beginning of its id, or its key.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="ATTEMPT|CHECKSUM",
            help="With --key: the side that stays, by the beginning of its attempt or checksum.",
        ),
    ] = None,
    decision: Annotated[
        Settlement | None,
        typer.Option(
            help="keep: the oldest side stays; replace: the newest one; defer: what was decided "
            "is taken back.",
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="All conflicts with a side in this RUN.")
    ] = None,
    type_name: Type = None,
    task: Task = None,
    data_id: DataIds = None,
    table: Table = None,
    settled_too: All = False,
    dry_run: DryRun = False,
    database: Database = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Decide which side of conflicts stays: of one by its id, or of all that a filter finds.

    All are settled in one transaction. Later merges hold to it; it may be decided otherwise later.
    """
    from merger import conflict_reports
    from merger.settings import SettingsError
    from merger.settling import Selection, parse_data_id, settle_one, settle_selected

    with reported(as_json) as report:
        wanted = parse_data_id(data_id)
        filters = (run, type_name, task, wanted, table)
        if (keep is None) is (decision is None) or (keep is not None and key is None):
            raise SettingsError("settle: expected --decision, or --keep with --key")
        if (key is None) is not any(filters) or (key and settled_too):
            raise SettingsError(
                "settle: expected --key alone, or some of --run, --type, --task, --data-id, --table"
            )
        with open_registry(database, config) as registry:
            if key is not None:
                found = settle_one(registry, key, decision=decision, side=keep, is_dry=dry_run)
            else:
                settled_too = settled_too or decision is Settlement.DEFER
                selection = Selection(run, type_name, table, settled_too, task, wanted)
                found = settle_selected(registry, selection, str(decision), is_dry=dry_run)
        report(
            conflict_reports.settle_object(found, dry_run),
            lambda console: conflict_reports.show_settled(console, found, dry_run),
        )
