# SPDX-License-Identifier: BSD-3-Clause
"""Entry point of ``quantum-exec`` and of ``python -m executor``."""

import sys
from typing import NoReturn

from executor import worker_command
from executor.exit_codes import ExitCode
from executor.worker_command import tell
from registry.errors import QuantumExecError

_CODES = {
    "graph": ExitCode.USAGE,
    "invalid_datastore": ExitCode.USAGE,
    "invalid_name": ExitCode.USAGE,
    "configuration": ExitCode.USAGE,
    "selection": ExitCode.USAGE,
    "not_submittable": ExitCode.USAGE,
    "bundle": ExitCode.USAGE,
    "run_not_found": ExitCode.USAGE,
    "jobs_missing": ExitCode.USAGE,
    "no_submission": ExitCode.USAGE,
    "invalid_task": ExitCode.INVALID_QUANTUM,
    "input_not_ready": ExitCode.STAGE_IN_FAILED,
    "other_graph": ExitCode.OTHER_GRAPH,
    "already_submitted": ExitCode.ALREADY_SUBMITTED,
    "not_queued": ExitCode.NOT_QUEUED,
    "sandbox_unusable": ExitCode.SANDBOX_UNUSABLE,
    "not_staged_in": ExitCode.SANDBOX_UNUSABLE,
    "transfer": ExitCode.DATASTORE_UNAVAILABLE,
    "transfer_refused": ExitCode.DATASTORE_UNAVAILABLE,
    "no_credentials": ExitCode.DATASTORE_UNAVAILABLE,
    "bucket_not_found": ExitCode.DATASTORE_UNAVAILABLE,
    "object_not_found": ExitCode.DATASTORE_UNAVAILABLE,
    "checksum_mismatch": ExitCode.DATASTORE_UNAVAILABLE,
}
"""Exit codes by ``error_type``; an error that is not here ends with 1."""

_OURS = ("registry", "transfer_plugins", "executor", "merger")


def main() -> NoReturn:
    """Entry point of the console script; our own errors end in one line, not in a traceback."""
    if sys.argv[1:2] == ["run"]:
        sys.exit(worker_command.main(sys.argv[2:]))
    if sys.argv[1:2] == ["init"]:
        from executor import init_check

        sys.exit(init_check.main(sys.argv[2:]))
    try:
        from executor.cli import app

        app(prog_name="quantum-exec")
    except QuantumExecError as error:
        sys.exit(tell(error, _exit_code_of(error)))
    except ModuleNotFoundError as error:
        # A worker has the standard library and this package; that is enough for `run` only.
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        sys.exit(tell(error, ExitCode.FAILED))
    raise AssertionError("typer always exits")


def _exit_code_of(error: QuantumExecError) -> int:
    return _CODES.get(error.error_type, ExitCode.FAILED)


if __name__ == "__main__":
    main()
