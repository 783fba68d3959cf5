# SPDX-License-Identifier: BSD-3-Clause
"""Entry point of ``quantum-exec`` and of ``python -m executor``."""

import sys
from typing import NoReturn

from executor import worker_command
from executor.exit_codes import ExitCode
from executor.worker_command import tell
from registry.errors import QuantumExecError


def main() -> NoReturn:
    """Entry point of the console script; our own errors end in one line, not in a traceback."""
    if sys.argv[1:2] == ["run"]:
        sys.exit(worker_command.main(sys.argv[2:]))
    from executor.cli import app

    try:
        app(prog_name="quantum-exec")
    except QuantumExecError as error:
        sys.exit(tell(error, _exit_code_of(error)))
    raise AssertionError("typer always exits")


def _exit_code_of(error: QuantumExecError) -> int:
    codes = {
        "graph": ExitCode.USAGE,
        "invalid_datastore": ExitCode.USAGE,
        "configuration": ExitCode.USAGE,
        "other_graph": ExitCode.OTHER_GRAPH,
        "already_submitted": ExitCode.ALREADY_SUBMITTED,
    }
    return codes.get(error.error_type, ExitCode.FAILED)


if __name__ == "__main__":
    main()
