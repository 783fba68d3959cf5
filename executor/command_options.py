# SPDX-License-Identifier: BSD-3-Clause
"""Options that several commands share, so that each has one name and one help text."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from registry.job import DataMode

DatastoreOption = Annotated[
    str, typer.Option("--datastore", help="s3://bucket/prefix or file:///directory")
]
EndpointOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time
    typer.Option("--endpoint-url", help="address of the S3 service, if it is not AWS"),
]

RunOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--run", help="RUN to write into; default: the one that the graph file names"),
]
ExtendOption = Annotated[
    bool, typer.Option("--extend", help="let the RUN belong to this graph as well")
]
ConfigOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--config", help="submit configuration (YAML)"),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="wait for the DAG and end with its exit code")
]
DataOption = Annotated[
    DataMode,
    typer.Option(
        "--data",
        help="who moves datasets: stage-in and stage-out, or the task itself (then its worker "
        "must reach the datastore)",
    ),
]
QuantaOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--quantum", help="quantum id; may be given again"),
]
TasksOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--task", help="task label; may be given again"),
]
DataIdsOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--data-id", help="exposure=3,detector=1; may be given again"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="report as one JSON object")]
