# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge ingest-files`` and ``ingest-dimensions``: existing objects and records."""

from typing import Annotated

import typer

from merger.commands.options import Config, Database, DryRun, Endpoint, Json, OnConflict, Run
from merger.commands.session import open_registry, policies_of, progress_bar, reported
from merger.settings import read_config

TableFile = Annotated[
    str,
    typer.Argument(
        metavar="TABLE",
        help="CSV (may be gzipped) or Parquet, told by content; - for CSV on stdin.",
    ),
]
Text = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="COLUMN",
        help="Its values in CSV are text, though they look like integers; may be given again.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "ingest-files",
        epilog="Example: registry-merge ingest-files raw raw/2026 raws.csv --dimensions "
        "exposure,detector --storage-class Fits --datastore s3://bucket/survey "
        "--database service=registry",
    )(ingest_files)
    app.command(
        "ingest-dimensions",
        epilog="Example: registry-merge ingest-dimensions exposure exposures.parquet "
        "--key instrument,exposure --database service=registry",
    )(ingest_dimensions)


def ingest_files(
    dataset_type: Annotated[
        str, typer.Argument(metavar="DATASET_TYPE", help="Dataset type of all files.")
    ],
    run: Run,
    table: TableFile,
    dimensions: Annotated[
        str | None,
        typer.Option(help="Dimensions of a new dataset type, with commas between."),
    ] = None,
    storage_class: Annotated[
        str | None, typer.Option(help="Storage class of a new dataset type, as Fits or Parquet.")
    ] = None,
    datastore: Annotated[
        str | None,
        typer.Option(help="URIs below this root become keys, which quanta can read."),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Stands before every key of the table that is no URI.")
    ] = "",
    text: Text = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Ask the store for sizes that the table lacks.")
    ] = False,
    checksums: Annotated[
        bool,
        typer.Option("--checksums", help="Read objects whose checksum is not known either."),
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Ingest the rest of a table with bad rows.")
    ] = False,
    ignore_columns: Annotated[
        bool, typer.Option("--ignore-columns", help="Pass over columns with other names.")
    ] = False,
    on_conflict: OnConflict = None,
    database: Database = None,
    config: Config = None,
    endpoint_url: Endpoint = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Register objects that exist as datasets of a RUN: a row of the table for each.

    Columns: uri (or key), one for each dimension, and, if known, size, checksum, dataset_id. A CSV
    column of integers gives integers as values of a dimension, unless data IDs that are there have
    text. One bad row, and nothing is ingested. May be repeated: what is there is skipped.
    Exit code 1: rows are bad; 10: conflicts were recorded; 15: --on-conflict fail left rows out.
    """
    from merger import entry_reports
    from merger import file_ingest as ingest
    from merger.source_table import SourceTable
    from transfer_plugins.object_store import open_store

    with reported(as_json) as report:
        read = read_config(config)
        root = datastore or read.datastore
        endpoint = endpoint_url or read.endpoint_url
        wanted = ingest.FileIngest(
            dataset_type=dataset_type,
            run=run,
            dimensions=None if dimensions is None else [d for d in dimensions.split(",") if d],
            storage_class=storage_class,
            store=open_store(root, endpoint_url=endpoint) if root else None,
            prefix=prefix,
            as_text=text or [],
            policies=policies_of(on_conflict, read),
            is_lenient=skip_bad,
            ignores_columns=ignore_columns,
            measures=measure or checksums,
            reads_bytes=checksums,
            is_dry=dry_run,
        )
        with (
            SourceTable(table) as source,
            open_registry(database, config) as registry,
            progress_bar(f"ingest {run}") as progress,
        ):
            done = ingest.ingest_files(registry, source, wanted, progress)
        report(
            entry_reports.ingest_object(done, dry_run),
            lambda console: entry_reports.show_ingest(console, done, dry_run),
        )
        raise typer.Exit(done.exit_code)


def ingest_dimensions(
    dimension: Annotated[
        str, typer.Argument(metavar="DIMENSION", help="Dimension that the records are about.")
    ],
    table: TableFile,
    key: Annotated[
        str | None,
        typer.Option(
            help="Columns of the data ID, with commas between: the dimension and those without "
            "which it means nothing. (the dimension alone by default)"
        ),
    ] = None,
    text: Text = None,
    on_conflict: OnConflict = None,
    database: Database = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Register facts about values of a dimension: a row of the table for each record.

    The columns of --key make the data ID, all others are facts. A CSV column of integers gives
    integers, one of numbers numbers, any other text; an empty value is null. May be repeated: what
    is there is skipped. forget never takes these records away. Exit code 10: conflicts were
    recorded. Policy fail counts as defer here.
    """
    from merger import dimension_ingest as ingest
    from merger import entry_reports
    from merger.source_table import SourceTable

    with reported(as_json) as report:
        wanted = ingest.DimensionIngest(
            dimension=dimension,
            key=[name for name in (key or dimension).split(",") if name],
            as_text=text or [],
            policies=policies_of(on_conflict, read_config(config)).without_fail(),
            is_dry=dry_run,
        )
        with (
            SourceTable(table) as source,
            open_registry(database, config) as registry,
            progress_bar(f"ingest {dimension}") as progress,
        ):
            done = ingest.ingest_dimensions(registry, source, wanted, progress)
        report(
            entry_reports.dimensions_object(done, dry_run),
            lambda console: entry_reports.show_dimensions(console, done, dry_run),
        )
        raise typer.Exit(done.exit_code)
