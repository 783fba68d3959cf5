# SPDX-License-Identifier: BSD-3-Clause
"""The commands of ``registry-merge``."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer
from rich.console import Console

from merger.exit_codes import ExitCode
from merger.settings import (
    DEFAULT_BATCH_SIZE,
    ConfigFile,
    SettingsError,
    database_address,
    read_config,
)
from registry.errors import InvalidNameError, QuantumExecError
from transfer_plugins.object_store import InvalidDatastoreError

if TYPE_CHECKING:
    from merger import reports

app = typer.Typer(
    help="Merge deltas of quantum-exec into the central registry (PostgreSQL).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="REGISTRY_MERGE_DATABASE",
        help="libpq URL, keywords ('host=… dbname=…') or service=name, without a password: that "
        "comes from ~/.pgpass, a service file, PGPASSWORD, or a private file given by --config.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="YAML file with any of: database, datastore, endpoint_url, batch_size, threads.",
    ),
]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="[DATASTORE] RUN",
        help="s3://bucket/prefix or file:///directory (may stand in --config), and the RUN.",
    ),
]
Endpoint = Annotated[
    str | None, typer.Option(help="Address of the S3 service, if boto3 does not know it.")
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Deltas read at once. (4 by default for file://, 16 for s3://)"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


@app.command(epilog="Example: registry-merge init --database postgresql://merger@db/registry")
def init(database: Database = None, config: Config = None, as_json: Json = False) -> None:
    """Create the tables of the central registry; does nothing if they are there."""
    from merger import schema

    with _reported(as_json) as report:
        is_new = schema.create(database_address(database, read_config(config)))
        text = "created" if is_new else "was there already"
        report(
            {"created": is_new, "schema_version": schema.SCHEMA_VERSION},
            lambda console: console.print(
                f"central registry: schema version {schema.SCHEMA_VERSION} {text}"
            ),
        )


@app.command(epilog="Example: registry-merge migrate --database service=registry")
def migrate(database: Database = None, config: Config = None, as_json: Json = False) -> None:
    """Upgrade the tables of the central registry to this release."""
    from merger import schema

    with _reported(as_json) as report:
        before, after = schema.migrate(database_address(database, read_config(config)))
        report(
            {"schema_version_before": before, "schema_version": after},
            lambda console: console.print(
                f"central registry: schema version {before}, now {after}"
            ),
        )


@app.command(
    epilog="Example: registry-merge merge s3://bucket/survey u/night1 --database service=registry"
)
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
    from merger.central_registry import CentralRegistry
    from merger.merge import merge_run
    from transfer_plugins.object_store import open_store

    with _reported(as_json) as report:
        read = read_config(config)
        datastore, run = _datastore_and_run(names, read)
        store = open_store(datastore, endpoint_url=endpoint_url or read.endpoint_url)
        address = database_address(database, read)
        with CentralRegistry(address) as registry, _progress(f"merge {run}") as progress:
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


@app.command(
    epilog="Example: registry-merge verify s3://bucket/survey u/night1 --database service=registry"
)
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
    from merger.central_registry import CentralRegistry
    from merger.verification import verify_run
    from transfer_plugins.object_store import open_store

    with _reported(as_json) as report:
        read = read_config(config)
        datastore, run = _datastore_and_run(names, read)
        store = open_store(datastore, endpoint_url=endpoint_url or read.endpoint_url)
        address = database_address(database, read)
        with CentralRegistry(address) as registry, _progress(f"verify {run}") as progress:
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


Report = Callable[[dict[str, object], Callable[[Console], None]], None]


@contextmanager
def _reported(as_json: bool) -> Iterator[Report]:
    """Give a function that reports in the form asked for, and turn errors into messages."""

    def report(as_object: dict[str, object], show: Callable[[Console], None]) -> None:
        if as_json:
            print(json.dumps(as_object))
        else:
            show(Console())

    try:
        yield report
    except (QuantumExecError, psycopg.Error) as error:
        error_type = getattr(error, "error_type", "central_registry")
        if as_json:
            print(json.dumps({"error_type": error_type, "message": str(error)}))
        print(f"registry-merge: {error}", file=sys.stderr)
        is_usage = isinstance(error, SettingsError | InvalidNameError | InvalidDatastoreError)
        raise typer.Exit(ExitCode.USAGE if is_usage else ExitCode.ERROR) from None


def _datastore_and_run(names: list[str], config: ConfigFile) -> tuple[str, str]:
    if len(names) == 2:
        return names[0], names[1]
    if len(names) == 1 and config.datastore is not None:
        return config.datastore, names[0]
    raise SettingsError(
        f"expected DATASTORE and RUN, or a RUN and 'datastore' in --config, found {names}"
    )


@contextmanager
def _progress(title: str) -> Iterator["reports.ProgressBar"]:
    from merger.reports import ProgressBar

    with ProgressBar(Console(stderr=True), title) as bar:
        yield bar


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
