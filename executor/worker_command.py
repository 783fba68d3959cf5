# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec run``: the only command that runs on a worker, once per job.

Parsed with argparse and apart from the other commands: typer imports pydantic, together 0.15 s,
which is more than all the rest of a no-op quantum.
"""

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from executor.exit_codes import ExitCode, code_of_signal
from executor.sandbox import make_sandbox, telling_of_disk
from executor.sandbox_files import SandboxError
from executor.stop_signal import taking_stop_signals
from registry import names
from registry.errors import FormatError, InvalidNameError, QuantumExecError

_UPLOAD_PATIENCE_S = 600.0
_UNREADABLE = (FormatError, InvalidNameError)
"""Errors of a job file: it cannot be run anywhere."""

_EPILOG = """\
examples:
  quantum-exec run
  quantum-exec run s3://bucket/repo/u/me/night1/quantum-exec/jobs/ID.json

exit codes (all in docs/exit-codes.md):
  0   success, also of an earlier attempt, or no work    21  the job cannot be run as written
  2   usage, or a URI of no job                          22  other outputs than predicted
  30  stage-in failed     31  stage-out failed           34, 35, 36  over wall time, memory, scratch
  37  sandbox not staged in, not writable or full        128 + n  ended by signal n
  any other: the task's own. With several URIs: that of the first that failed; all are run."""


def main(arguments: list[str]) -> int:
    """Run quanta; returns the exit code, which is the task's own if that is not 0."""
    options = _parse(arguments)
    logging.basicConfig(
        level=options.log_level,
        stream=sys.stderr,
        format="%(levelname)s %(asctime)s %(name)s: %(message)s",
    )
    if options.exit_with_parent is not None and _has_lost(options.exit_with_parent):
        return code_of_signal(signal.SIGTERM)
    if not options.jobs:
        return _run_staged_in(options.sandbox or Path())
    with _noting_stop() as stopped_by:
        return _run_each(options.jobs, options.sandbox, options.endpoint_url, stopped_by)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="quantum-exec run",
        description="Run one quantum on this worker, or those of a cluster one after the other. "
        "Without a URI the sandbox was staged in by the transfer plugin, which also stages out. "
        "With several URIs they run one after the other, each in a sandbox of its own; SIGTERM "
        "ends them all.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "jobs",
        nargs="*",
        metavar="URI",
        help="URI of a job file, <datastore>/<run>/quantum-exec/jobs/<id>.json, or of a cluster "
        "file, …/clusters/<id>.json",
    )
    parser.add_argument(
        "--sandbox",
        type=Path,
        help="directory to run in; default: this one, or a new one below it for each URI",
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
    options = parser.parse_args(arguments)
    if options.sandbox and len(options.jobs) > 1:
        parser.error("expected one URI with --sandbox: each quantum needs a sandbox of its own")
    return options


def _has_lost(parent: int) -> bool:
    """Tie this process to its parent; true if that is gone already."""
    from executor.parent_death import end_with_parent

    end_with_parent(signal.SIGTERM)
    return os.getppid() != parent


@contextmanager
def _noting_stop() -> Iterator[list[int]]:
    """Collect the signals that end the quantum under way, so that no other one is begun.

    While data are staged nothing of an attempt counts yet: there a signal simply ends us.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        # While a task runs `StopSignal` has taken our place, and only tells us.
        if signal.getsignal(number) is note:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    with taking_stop_signals(note):
        yield received


def _run_each(
    uris: list[str], sandbox: Path | None, endpoint_url: str | None, stopped_by: list[int]
) -> int:
    first_failure = 0
    for uri in uris:
        code = _run_by_uri(uri, sandbox, endpoint_url)
        first_failure = first_failure or code
        if stopped_by:
            return first_failure or code_of_signal(stopped_by[0])
    return first_failure


def _run_staged_in(sandbox: Path) -> int:
    """Run the quanta of a sandbox; an error that no delta can tell ends in one line."""
    try:
        with telling_of_disk(sandbox):
            if (sandbox / names.CLUSTER_FILE).exists():
                from executor.cluster_run import run_cluster

                return run_cluster(sandbox.resolve())
            from executor.quantum_run import run_quantum

            return run_quantum(sandbox.resolve())
    except QuantumExecError as error:
        return tell(error, _code_without_delta(error))


def _code_without_delta(error: QuantumExecError) -> int:
    if error.error_type in ("not_staged_in", SandboxError.error_type):
        return ExitCode.SANDBOX_UNUSABLE
    return ExitCode.INVALID_QUANTUM if isinstance(error, _UNREADABLE) else ExitCode.FAILED


def _run_by_uri(uri: str, named: Path | None, endpoint_url: str | None) -> int:
    """Do the plugin's part as well: stage in, run, stage out."""
    from transfer_plugins.job_files import is_cluster_uri, split_job_uri
    from transfer_plugins.object_store import InvalidDatastoreError, open_store

    try:
        open_store(split_job_uri(uri)[0])
    except (FormatError, InvalidDatastoreError) as error:
        return tell(error, ExitCode.USAGE)
    stage = _stage_in_cluster if is_cluster_uri(uri) else _stage_in
    try:
        sandbox, stage_out = stage(uri, named, endpoint_url)
    except (QuantumExecError, ModuleNotFoundError) as error:
        return tell(error, stage_in_code(error))
    code = _run_staged_in(sandbox)
    try:
        stage_out()
    except QuantumExecError as error:
        return tell(error, ExitCode.STAGE_OUT_FAILED)
    return code


_Staged = tuple[Path, Callable[[], object]]
"""A sandbox, and what is to be called when its quanta have ended."""


def _stage_in(uri: str, named: Path | None, endpoint_url: str | None) -> _Staged:
    from transfer_plugins.job_files import open_job
    from transfer_plugins.stage_in import stage_in
    from transfer_plugins.stage_out import read_list, stage_out

    job, store, _ = open_job(uri, endpoint_url=endpoint_url)
    with make_sandbox(job.task_label, named) as sandbox:
        stage_in(job, store, sandbox)
    patience_s = _UPLOAD_PATIENCE_S
    return sandbox, lambda: stage_out(read_list(sandbox), store, sandbox, patience_s=patience_s)


def _stage_in_cluster(uri: str, named: Path | None, endpoint_url: str | None) -> _Staged:
    from transfer_plugins.job_files import open_cluster
    from transfer_plugins.stage_in_cluster import stage_in_cluster
    from transfer_plugins.stage_out_cluster import stage_out_cluster

    cluster, store, _ = open_cluster(uri, endpoint_url=endpoint_url)
    with make_sandbox(cluster.label, named) as sandbox:
        stage_in_cluster(cluster, store, sandbox)
    patience_s = _UPLOAD_PATIENCE_S
    return sandbox, lambda: stage_out_cluster(cluster, store, sandbox, patience_s=patience_s)


def stage_in_code(error: Exception) -> int:
    """The exit code of a quantum that could not be staged in."""
    if isinstance(error, SandboxError) or _is_disk_full(error):
        return ExitCode.SANDBOX_UNUSABLE
    return ExitCode.INVALID_QUANTUM if isinstance(error, _UNREADABLE) else ExitCode.STAGE_IN_FAILED


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether a transfer failed for want of space; the datastore is only read at stage-in."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def tell(error: Exception, code: int) -> int:
    """Say an error in one line; returns the code to exit with."""
    if isinstance(error, ModuleNotFoundError):
        error = QuantumExecError(
            f"expected the Python package {error.name!r}, found none; 'pip install quantum-exec' "
            "brings what the commands need ('run' without s3:// needs nothing else)"
        )
    print(f"quantum-exec: {error}", file=sys.stderr)
    return code
