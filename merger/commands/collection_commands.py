# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge collections``: RUNs and the chains made of them."""

from typing import TYPE_CHECKING, Annotated

import typer

from merger.commands.options import Config, Database, DryRun, Json
from merger.commands.session import open_registry, reported
from merger.exit_codes import ExitCode
from merger.settings import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from merger.collection_chains import Collection

Chain = Annotated[str, typer.Argument(metavar="CHAIN", help="Name of a CHAINED collection.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="List RUNs and chains, and change what a chain is made of.", no_args_is_help=True
    )
    database = "--database service=registry"
    group.command("list", epilog=f"Example: registry-merge collections list 'u/*' {database}")(
        list_
    )
    group.command(
        "chain",
        epilog="Example: registry-merge collections chain u/me/all u/me/night2 --mode prepend "
        + database,
    )(chain_)
    group.command("show", epilog=f"Example: registry-merge collections show u/me/all {database}")(
        show
    )
    app.add_typer(group, name="collections")


def list_(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Names with * and ?, as 'u/me/*'.")
    ] = "*",
    database: Database = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the collections of the central registry: RUNs with their datasets, chains with members.

    A RUN is where datasets are born; a chain is searched as if it were its members, in this order.
    """
    import dataclasses

    from merger.collection_chains import list_collections

    with reported(as_json) as report, open_registry(database, config) as registry:
        found = list_collections(registry, pattern)
        report(
            {
                "exit_code": int(ExitCode.OK),
                "collections": [dataclasses.asdict(one) for one in found],
            },
            lambda console: _show_collections(console, found),
        )


def chain_(
    chain: Chain,
    children: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHILD]...", help="RUNs or chains, in search order."),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="redefine: these and no others; prepend, append: a member that is there moves; "
            "remove: out of the chain; delete: no chain any more, its members stay.",
        ),
    ] = "redefine",
    database: Database = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make a chain, or change its members; datasets stay where they are.

    The modes are those of butler collection-chain. Changes at the same time come one by one.
    """
    from merger.collection_chains import ChainMode, change_chain

    with reported(as_json) as report:
        if mode not in list(ChainMode):
            modes = ", ".join(ChainMode)
            raise SettingsError(f"--mode: expected one of {modes}, found {mode!r}")
        with open_registry(database, config) as registry:
            members = change_chain(registry, chain, children or [], ChainMode(mode), is_dry=dry_run)
        text = f"{', '.join(members)}" if members else "no such chain any more"
        begin = "would be" if dry_run else "is"
        report(
            {
                **{"exit_code": int(ExitCode.OK), "chain": chain},
                **{"members": members, "dry_run": dry_run},
            },
            lambda console: console.print(
                f"chain {chain} {begin}: {text}", markup=False, soft_wrap=True
            ),
        )


def show(
    chain: Chain, database: Database = None, config: Config = None, as_json: Json = False
) -> None:
    """List the RUNs of a chain in search order, one a line; chains in it are opened up."""
    from merger.collection_chains import show_chain

    with reported(as_json) as report, open_registry(database, config) as registry:
        runs = show_chain(registry, chain)
        report(
            {"exit_code": int(ExitCode.OK), "chain": chain, "runs": runs},
            lambda console: console.print("\n".join(runs), markup=False, soft_wrap=True),
        )


def _show_collections(console: "Console", collections: "list[Collection]") -> None:
    from rich.table import Table

    table = Table()
    table.add_column("collection", overflow="fold")
    table.add_column("kind", no_wrap=True)
    table.add_column("datasets", justify="right", no_wrap=True)
    table.add_column("members", overflow="fold")
    for one in collections:
        number = "" if one.n_datasets is None else str(one.n_datasets)
        table.add_row(one.name, one.kind, number, "\n".join(one.members))
    console.print(table)
