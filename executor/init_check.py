# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec init``: can this worker run the quanta of a graph? Once for each DAG, before all.

Better one job that fails with one message than each of 27,000. What it found, error included, is
in the bucket afterwards: Python, release, formats, packages, space.
"""

import argparse
import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

from executor.exit_codes import ExitCode
from executor.formats import FormatsDifferError, check_formats, parse_formats, submitted_formats
from executor.sandbox_files import SandboxError, write_own_file
from executor.versions import own_versions
from registry import names
from registry.attempt import utc_now
from registry.errors import QuantumExecError
from registry.graph_record import read_graph_record

INIT_FORMAT = 1
INIT_FAILED = "quantum-exec: init job on"
_OLDEST_PYTHON = (3, 11)

_EPILOG = """\
example:
  quantum-exec init 0d5e7f9c-… --formats job=2,delta=3

exit codes (all in docs/exit-codes.md):
  0   quanta of the graph can be run here     21  releases do not fit together, or wrong graph
  2   usage                                   37  the sandbox cannot be used"""


def main(arguments: list[str]) -> int:
    """Look at this worker and write ``init.json``; returns the exit code."""
    options = _parse(arguments)
    sandbox = options.sandbox.resolve()
    error: QuantumExecError | None = None
    try:
        # HTCondor holds a job that leaves no output, so there is one before anything can fail.
        _write(sandbox, options.graph_id, "the init job did not come to its end")
        _check(sandbox, options.graph_id, options.formats)
        _write(sandbox, options.graph_id, None)
    except QuantumExecError as found:
        error = found
    except (OSError, sqlite3.Error) as found:
        error = SandboxError(f"sandbox {sandbox}: expected to write files, found {found}")
    if error is None:
        return ExitCode.SUCCESS
    host = os.uname().nodename
    print(f"{INIT_FAILED} {host}: {error}", file=sys.stderr)
    try:
        _write(sandbox, options.graph_id, str(error))
    except OSError:
        return ExitCode.SANDBOX_UNUSABLE
    is_sandbox = isinstance(error, SandboxError)
    return ExitCode.SANDBOX_UNUSABLE if is_sandbox else ExitCode.INVALID_QUANTUM


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="quantum-exec init",
        description="Look whether this worker can run the quanta of a graph, whose record the "
        "transfer plugin has staged in. The first job of a DAG; all others wait for it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("graph_id", help="id of the graph, the name of its record")
    parser.add_argument(
        "--formats",
        type=parse_formats,
        default={},
        help="newest formats of the access point, as job=2,delta=3",
    )
    parser.add_argument(
        "--sandbox", type=Path, default=Path(), help="directory with the record; default: this one"
    )
    return parser.parse_args(arguments)


def _check(sandbox: Path, graph_id: str, formats: dict[str, int]) -> None:
    if sys.version_info[:2] < _OLDEST_PYTHON:
        raise FormatsDifferError(
            f"expected Python 3.11 or later, found {'.'.join(map(str, sys.version_info[:3]))} "
            f"({sys.executable})"
        )
    check_formats(formats)
    path = sandbox / f"{graph_id}.json"
    try:
        record = read_graph_record(path.read_bytes(), f"graph record {path}")
    except FileNotFoundError as error:
        raise SandboxError(
            f"sandbox {sandbox}: expected the graph record {path.name} from the transfer plugin, "
            "found none"
        ) from error
    if record.graph_id != graph_id:
        raise FormatsDifferError(
            f"graph record: expected that of graph {graph_id}, found {record.graph_id}"
        )
    _check_registry(sandbox)


def _check_registry(sandbox: Path) -> None:
    """Make a private registry as a quantum does: some network file systems cannot lock it."""
    path = sandbox / "init.sqlite3"
    connection = sqlite3.connect(path)
    try:
        with connection:
            connection.execute("CREATE TABLE written (number INTEGER)")
    finally:
        connection.close()
        path.unlink(missing_ok=True)


def _write(sandbox: Path, graph_id: str, error: str | None) -> None:
    import importlib.metadata

    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    found = {
        "format": INIT_FORMAT,
        "graph_id": graph_id,
        "error": error,
        "written": utc_now(),
        "host": os.uname().nodename,
        "executable": sys.executable,
        "versions": own_versions(),
        "formats": submitted_formats(),
        "packages": dict(sorted((str(k), str(v)) for k, v in packages.items())),
        "n_cpus": os.cpu_count(),
        "scratch_free_bytes": shutil.disk_usage(sandbox).free,
    }
    content = json.dumps(found, indent=1).encode()
    write_own_file(sandbox / names.INIT_FILE, content)
