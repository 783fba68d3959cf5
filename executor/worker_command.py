# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec run``: the only command that runs on a worker, once per quantum.

Parsed with argparse and apart from the other commands: typer imports pydantic, together 0.15 s,
which is more than all the rest of a no-op quantum.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from executor.exit_codes import ExitCode, code_of_signal
from registry.errors import QuantumExecError

_UPLOAD_PATIENCE_S = 600.0

_EXAMPLE = "example: quantum-exec run s3://bucket/repo/u/me/night1/quantum-exec/jobs/ID.json"


def main(arguments: list[str]) -> int:
    """Run one quantum; returns the exit code, which is the task's own if that is not 0."""
    options = _parse(arguments)
    logging.basicConfig(
        level=options.log_level,
        stream=sys.stderr,
        format="%(levelname)s %(asctime)s %(name)s: %(message)s",
    )
    try:
        if options.exit_with_parent is not None and _has_lost(options.exit_with_parent):
            return code_of_signal(signal.SIGTERM)
        if options.job is None:
            return _run_staged_in(options.sandbox or Path.cwd())
        return _run_by_uri(options.job, options.sandbox, options.endpoint_url)
    except QuantumExecError as error:
        return tell(error, ExitCode.FAILED)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="quantum-exec run",
        description="Run one quantum on this worker. Without a URI the sandbox was staged in by "
        "the transfer plugin, which also stages out.",
        epilog=_EXAMPLE,
    )
    parser.add_argument(
        "job", nargs="?", help="URI of a job file, <datastore>/<run>/quantum-exec/jobs/<id>.json"
    )
    parser.add_argument(
        "--sandbox",
        type=Path,
        help="directory to run in; default: this one, or a new one below it for a URI",
    )
    parser.add_argument(
        "--endpoint-url", help="address of the S3 service, if it is not AWS (with a URI)"
    )
    parser.add_argument(
        "--log-level",
        default="WARNING",
        choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        help="what is told on standard error (default: WARNING)",
    )
    parser.add_argument("--exit-with-parent", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _has_lost(parent: int) -> bool:
    """Tie this process to its parent; true if that is gone already."""
    from executor.parent_death import end_with_parent

    end_with_parent(signal.SIGTERM)
    return os.getppid() != parent


def _run_staged_in(sandbox: Path) -> int:
    from executor.quantum_run import run_quantum

    return run_quantum(sandbox.resolve())


def _run_by_uri(uri: str, sandbox: Path | None, endpoint_url: str | None) -> int:
    """Do the plugin's part as well: stage in, run, stage out."""
    from executor.quantum_run import run_quantum
    from transfer_plugins.job_files import open_job
    from transfer_plugins.stage_in import stage_in
    from transfer_plugins.stage_out import read_list, stage_out

    try:
        job, store, _ = open_job(uri, endpoint_url=endpoint_url)
        if sandbox is None:
            sandbox = Path(tempfile.mkdtemp(prefix=f"{job.task_label}-", dir=Path.cwd()))
        sandbox.mkdir(parents=True, exist_ok=True)
        sandbox = sandbox.resolve()
        stage_in(job, store, sandbox)
    except QuantumExecError as error:
        return tell(error, ExitCode.STAGE_IN_FAILED)
    code = run_quantum(sandbox)
    try:
        stage_out(read_list(sandbox), store, sandbox, patience_s=_UPLOAD_PATIENCE_S)
    except QuantumExecError as error:
        return tell(error, ExitCode.STAGE_OUT_FAILED)
    return code


def tell(error: Exception, code: int) -> int:
    """Say an error of ours in one line; returns the code to exit with."""
    print(f"quantum-exec: {error}", file=sys.stderr)
    return code
