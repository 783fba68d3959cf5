# SPDX-License-Identifier: BSD-3-Clause
"""``run-task``: the script in an opened sandbox that runs its task as the wrapper does."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from executor.exit_codes import ExitCode
from executor.task import PRIVATE_VARIABLES, InvalidTaskError, command_of
from registry import names
from registry.job import Job

RUN_TASK = "run-task"
_SEEDED = f".{names.PRIVATE_REGISTRY}.seeded"
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def write_run_task(
    job: Job, attempt_id: str, sandbox: Path, environment: Mapping[str, str]
) -> Path:
    """Write the script, and beside it a copy of the registry as it is seeded.

    Each call of the script begins as an attempt does, without outputs and with a fresh registry.
    It holds the variables that the quantum sets, and none of this process's.
    """
    (sandbox / _SEEDED).write_bytes((sandbox / names.PRIVATE_REGISTRY).read_bytes())
    lines = [
        "#!/bin/sh",
        f"# Runs the task of quantum {job.quantum_id} as quantum-exec run does, but shows here",
        "# what it prints. Outputs and rows of an earlier try are removed first.",
        f"cd {shlex.quote(str(sandbox))} || exit {ExitCode.SANDBOX_UNUSABLE:d}",
        *_fresh(job),
        *_without_secrets(),
        *_call(job, attempt_id, sandbox, _set_by_quantum(job, environment)),
    ]
    script = sandbox / RUN_TASK
    script.write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
    script.chmod(0o755)
    return script


def _fresh(job: Job) -> list[str]:
    registry = names.PRIVATE_REGISTRY
    outputs = [shlex.quote(f"{names.REPO_DIR}/{output.path}") for output in job.outputs]
    return [
        f"rm -f {registry}-journal {registry}-wal {registry}-shm",
        f"cp {_SEEDED} {registry} || exit {ExitCode.SANDBOX_UNUSABLE:d}",
        *(f"rm -f {path}" for path in outputs),
    ]


def _without_secrets() -> list[str]:
    """What keeps addresses and secrets that the shell's own start-up files set from the task."""
    pattern = PRIVATE_VARIABLES.pattern.removesuffix(r"\Z")
    program = f"BEGIN {{ for (name in ENVIRON) if (name ~ /^{pattern}$/) print name }}"
    return [f"unset $(awk {shlex.quote(program)})"]


def _set_by_quantum(job: Job, environment: Mapping[str, str]) -> dict[str, str]:
    """The part of a task's environment that does not come from this process."""
    return {
        name: value
        for name, value in environment.items()
        if name in job.task.environment
        or name.startswith("QUANTUM_EXEC_")
        or os.environ.get(name) != value
    }


def _call(job: Job, attempt_id: str, sandbox: Path, variables: Mapping[str, str]) -> list[str]:
    try:
        command = command_of(job, attempt_id, sandbox)
    except InvalidTaskError as error:
        said = shlex.quote(f"run-task: {error}")
        return [f"printf '%s\\n' {said} >&2", f"exit {ExitCode.INVALID_QUANTUM:d}"]
    if not command:
        return [f"exit {ExitCode.INVALID_QUANTUM:d}  # the command of the task is empty"]
    exported = {n: v for n, v in variables.items() if _SHELL_NAME.match(n)}
    # Some systems take variables such as a.b, but no shell has a word for them.
    others = [f"{name}={value}" for name, value in variables.items() if name not in exported]
    return [
        *(f"export {name}={shlex.quote(value)}" for name, value in exported.items()),
        "exec " + shlex.join(["env", *others, *command] if others else command),
    ]
