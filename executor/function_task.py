# SPDX-License-Identifier: BSD-3-Clause
"""The process of a task that is a Python function: ``python -m executor.function_task``.

A process of its own, like any command, so that a crash of the users' code, its memory and its
signals are its own. It finds the job in the sandbox that the wrapper names in the environment.
"""

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from executor.exit_codes import ExitCode
from executor.repo import InvalidQuantumError, NoWorkFoundError, RepeatableQuantumError, Repo
from executor.task import InvalidTaskError
from executor.task_versions import report_modules
from registry import names
from registry.job import read_job


def main() -> int:
    """Call the function of the job with its repo object; the exit code tells how it ended."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stdout,
        format="%(levelname)s %(asctime)s %(name)s: %(message)s",
    )
    sandbox = Path(os.environ["QUANTUM_EXEC_SANDBOX"])
    job = read_job((sandbox / names.JOB_FILE).read_bytes(), "job file in the sandbox")
    # The task file may travel with the job, or be importable as installed.
    sys.path.insert(0, str(sandbox))
    try:
        function = load_function(job.task.function or "")
    except InvalidTaskError as error:
        print(error, flush=True)
        return ExitCode.INVALID_QUANTUM
    try:
        return _call(function, Repo(job, os.environ["QUANTUM_EXEC_ATTEMPT_ID"], sandbox))
    finally:
        # What ran is worth knowing of a failure, too, and no version is worth one.
        with suppress(OSError):
            report_modules(sandbox / names.VERSIONS_FILE)


def _call(function: Callable[[Repo], object], repo: Repo) -> int:
    """Call the function; an exception that is not for the pool ends the process as usual."""
    try:
        function(repo)
    except NoWorkFoundError as reason:
        print(f"no work: {reason}", flush=True)
        return ExitCode.NO_WORK
    except (RepeatableQuantumError, InvalidQuantumError) as error:
        traceback.print_exc(file=sys.stdout)
        is_invalid = isinstance(error, InvalidQuantumError)
        return ExitCode.INVALID_QUANTUM if is_invalid else ExitCode.REPEATABLE
    return ExitCode.SUCCESS


def load_function(path: str) -> Callable[[Repo], object]:
    """Import ``module:function``.

    Raises
    ------
    InvalidTaskError
        If there is no such module on this machine, or no such function in it.
    """
    module, _, name = path.partition(":")
    try:
        found: Callable[[Repo], object] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidTaskError(
            f"function {path!r}: expected module:function that this machine can import; {error}"
        ) from error
    return found


if __name__ == "__main__":
    sys.exit(main())
