# SPDX-License-Identifier: BSD-3-Clause
"""Arguments and options that several commands have."""

import uuid
from pathlib import Path
from typing import Annotated

import typer

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="REGISTRY_MERGE_DATABASE",
        help="libpq URL, keywords ('host=… dbname=…') or service=name, without a password: that "
        "comes from ~/.pgpass, a service file, PGPASSWORD, db-auth.yaml, or a private --config.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="YAML file with any of: database, datastore, endpoint_url, batch_size, threads, "
        "connections, on_conflict, output_chain, rds_iam, rds_region.",
    ),
]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="[DATASTORE] RUN",
        help="s3://bucket/prefix or file:///directory (may stand in --config), and the RUN.",
    ),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a RUN collection.")]
Endpoint = Annotated[
    str | None, typer.Option(help="Address of the S3 service, if boto3 does not know it.")
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Deltas read at once. (4 by default for file://, 16 for s3://)"),
]
OnConflict = Annotated[
    list[str] | None,
    typer.Option(
        "--on-conflict",
        metavar="[TYPE=]POLICY",
        help="defer, keep, replace or fail, for all or as DATASET_TYPE=POLICY or "
        "dimension:NAME=POLICY; may be given again. (defer by default)",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only tell what would be done; nothing is changed.")
]


def quantum_id(text: str) -> str:
    """Return the id of a quantum as the registry has it.

    Raises
    ------
    merger.settings.SettingsError
        If it is none.
    """
    from merger.settings import SettingsError

    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise SettingsError(f"--quantum: expected the id of a quantum, found {text!r}") from None
