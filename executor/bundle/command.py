# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec bundle``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from executor.command_options import EndpointOption, JsonOption


def bundle(
    output: Annotated[Path, typer.Option(help="directory for the bundle")],
    datastore: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="s3://bucket/prefix to which the worker archive is uploaded now"),
    ] = None,
    python: Annotated[
        str, typer.Option(help="Python on execution points, 3.11 or later")
    ] = "/usr/bin/env python3",
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the programs of a worker into files that need nothing but Python there.

    The directory gets quantum_exec_plugin, which travels with each job, worker.pyz, which the
    plugin brings from S3, and bundle.json. A submit configuration names it as 'bundle'; submit
    uploads the archive where it is missing. The same programs give the same bytes.

    Exit codes: 1 a package is missing, or the directory cannot be written; 2 command line; 38
    datastore.

    Example: quantum-exec bundle --output bundle --datastore s3://bucket/repo
    """
    from executor.bundle.building import make_bundle
    from transfer_plugins.object_store import open_store

    store = open_store(datastore, endpoint_url=endpoint_url) if datastore else None
    record = make_bundle(output, python, store)
    if as_json:
        print(json.dumps({"directory": str(output.resolve()), **asdict(record)}))
        return
    print(f"{output}: quantum-exec {record.release} for Python {record.python_needed} or later")
    print(f"quantum_exec_plugin {record.plugin.size_bytes:>9} bytes  {record.plugin.checksum}")
    print(f"worker.pyz          {record.worker.size_bytes:>9} bytes  {record.worker.checksum}")
    print(f"byte code for Python {record.compiled_for}; others start more slowly")
    for uri in record.datastores:
        print(f"uploaded: {uri}/{record.worker_key}")
