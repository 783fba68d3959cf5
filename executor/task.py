# SPDX-License-Identifier: BSD-3-Clause
"""The task of a quantum: a child process with a log, an environment and a measured end."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from executor.parent_death import end_with_parent
from registry import names
from registry.delta import ResourceUse
from registry.errors import QuantumExecError
from registry.job import Job
from registry.typed_json import canonical

# What a worker must not hand to the users' code: addresses and secrets of databases and of S3.
_PRIVATE_VARIABLES = re.compile(
    r"(PG[A-Z]+|REGISTRY_MERGE_.*|LSST_DB_AUTH.*|AWS_.*|S3_ENDPOINT_URL"
    r"|LSST_RESOURCES_S3_PROFILE_.*|_?CONDOR_CREDS)\Z"
)
_PLACEHOLDER = re.compile(r"\{(input|inputs|output|outputs|data_id|config):([^{}]+)\}|\{(\w+)\}")
_KILL_AFTER_S = 20.0


class InvalidTaskError(QuantumExecError):
    """A command names something that its quantum does not have; mend the graph."""

    error_type = "invalid_task"


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended: by ``exit_code`` or by ``signal``; ``stopped_by`` names our own SIGTERM."""

    exit_code: int | None
    signal: int | None
    stopped_by: int | None
    resources: ResourceUse


def command_of(job: Job, attempt_id: str, sandbox: Path) -> list[str]:
    """Return the argument list of a quantum's task, placeholders filled in.

    ``{input:TYPE}`` and ``{output:TYPE}`` are the path of the only dataset of that type,
    ``{inputs:TYPE}`` and ``{outputs:TYPE}`` all paths, one argument each, if they are a whole
    argument. ``{data_id:DIMENSION}``, ``{config:NAME}``, ``{quantum_id}``, ``{attempt_id}``,
    ``{run}``, ``{task_label}``, ``{repo}`` and ``{registry}`` stand for text. Other braces are
    left as they are.

    Raises
    ------
    InvalidTaskError
        If a placeholder names nothing, or one dataset where there are several.
    """
    if job.task.function is not None:
        return [sys.executable, "-m", "executor.function_task"]
    values = _Placeholders(job, attempt_id, sandbox)
    return [word for argument in job.task.command or [] for word in values.expand(argument)]


class _Placeholders:
    """The values that the placeholders of one quantum stand for."""

    def __init__(self, job: Job, attempt_id: str, sandbox: Path) -> None:
        self.job = job
        self.repo = sandbox / names.REPO_DIR
        self.plain = {
            "quantum_id": job.quantum_id,
            "attempt_id": attempt_id,
            "run": job.run,
            "task_label": job.task_label,
            "repo": str(self.repo),
            "registry": str(sandbox / names.PRIVATE_REGISTRY),
        }

    def expand(self, argument: str) -> list[str]:
        """One argument of the command as one argument, or as one for each path of a list."""
        whole = _PLACEHOLDER.fullmatch(argument)
        if whole and whole[1] in ("inputs", "outputs"):
            return self._paths(whole[1], whole[2])
        return [_PLACEHOLDER.sub(self._replace, argument)]

    def _replace(self, found: re.Match[str]) -> str:
        kind, name, plain = found.groups()
        if plain is not None:
            return self.plain.get(plain, found[0])
        if kind in ("data_id", "config"):
            return self._text(kind, name)
        paths = self._paths(kind, name)
        if kind in ("input", "output") and len(paths) != 1:
            raise InvalidTaskError(
                f"task {self.job.task_label}: expected one dataset for {found[0]}, found "
                f"{len(paths)}; use {{{kind}s:{name}}}"
            )
        return " ".join(paths)

    def _text(self, kind: str, name: str) -> str:
        values: Mapping[str, object] = (
            self.job.data_id if kind == "data_id" else self.job.task.config
        )
        if name not in values:
            raise InvalidTaskError(
                f"task {self.job.task_label}: expected one of {sorted(values)} in {{{kind}:{name}}}"
            )
        value = values[name]
        return value if isinstance(value, str) else canonical(value)

    def _paths(self, kind: str, dataset_type: str) -> list[str]:
        is_input = kind.startswith("input")
        datasets = self.job.inputs if is_input else self.job.outputs
        known = {d.dataset_type for d in datasets}
        if dataset_type not in known:
            raise InvalidTaskError(
                f"task {self.job.task_label}: expected one of {sorted(known)} in "
                f"{{{kind}:{dataset_type}}}"
            )
        paths = [self.repo / d.path for d in datasets if d.dataset_type == dataset_type]
        return [str(path) for path in paths if not is_input or path.exists()]


def public_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may reach a task: none that tells of a database or of S3."""
    return {k: v for k, v in environment.items() if not _PRIVATE_VARIABLES.match(k)}


def task_environment(job: Job, attempt_id: str, sandbox: Path) -> dict[str, str]:
    """Return the environment of a task: this process's, the quantum's, and where it is."""
    return {
        **public_environment(os.environ),
        **job.task.environment,
        "QUANTUM_EXEC_SANDBOX": str(sandbox),
        "QUANTUM_EXEC_REPO": str(sandbox / names.REPO_DIR),
        "QUANTUM_EXEC_REGISTRY": str(sandbox / names.PRIVATE_REGISTRY),
        "QUANTUM_EXEC_RUN": job.run,
        "QUANTUM_EXEC_QUANTUM_ID": job.quantum_id,
        "QUANTUM_EXEC_ATTEMPT_ID": attempt_id,
        "QUANTUM_EXEC_TASK_LABEL": job.task_label,
        "QUANTUM_EXEC_DATA_ID": canonical(job.data_id),
    }


class StopSignal:
    """Takes note of SIGTERM or SIGINT while it is entered and passes it on to the task.

    It is entered before the private registry is made, so that no moment of an attempt is without
    it; a signal that came before the task began keeps it from being started.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._group: int | None = None
        self._killer: threading.Timer | None = None
        self._old: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._old[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, action in self._old.items():
            signal.signal(number, action)  # type: ignore[arg-type]

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        outer = self._old[number]
        if callable(outer) and outer is not signal.default_int_handler:
            # Whoever runs several quanta must know, even if this one still succeeds.
            outer(number, frame)
        if self._group is not None:
            send_to_group(self._group, signal.SIGTERM)
            if self._killer is None:
                what = (self._group, signal.SIGKILL)
                self._killer = threading.Timer(_KILL_AFTER_S, send_to_group, what)
                self._killer.daemon = True
                self._killer.start()

    def watch(self, group: int | None) -> None:
        """Name the process group that the signal is for; None when there is none any more."""
        self._group = group
        if group is None and self._killer is not None:
            # The number of a group that is gone may soon be that of another one.
            self._killer.cancel()
        if group is not None and self.received is not None:
            self._pass_on(self.received, None)


def send_to_group(group: int, number: int) -> None:
    """Send a signal to a process group that may be gone."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def run_task(
    command: list[str], environment: Mapping[str, str], sandbox: Path, stop: StopSignal
) -> TaskEnd:
    """Run a task to its end, its standard output and error in the log of the sandbox.

    Raises
    ------
    InvalidTaskError
        If the program cannot be started.
    """
    before = time.monotonic()
    with (sandbox / names.TASK_LOG).open("ab") as log:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=sandbox,
                env=dict(environment),
                start_new_session=True,
                # Safe here: the wrapper has no other threads yet.
                preexec_fn=end_with_parent,
            )
        except (OSError, ValueError, IndexError) as error:
            raise InvalidTaskError(f"task cannot be started: {command[:1]!r}: {error}") from error
    stop.watch(child.pid)
    _, status, usage = os.wait4(child.pid, 0)
    # wait4 took the status, so Popen must not ask for it again.
    child.returncode = os.waitstatus_to_exitcode(status)
    stop.watch(None)
    send_to_group(child.pid, signal.SIGKILL)
    code = child.returncode
    return TaskEnd(
        code if code >= 0 else None,
        -code if code < 0 else None,
        stop.received,
        _resource_use(time.monotonic() - before, usage),
    )


def _resource_use(wall_s: float, usage: resource.struct_rusage) -> ResourceUse:
    # Linux gives ru_maxrss in KiB (getrusage(2)).
    return ResourceUse(
        round(wall_s, 6),
        round(usage.ru_utime, 6),
        round(usage.ru_stime, 6),
        usage.ru_maxrss * 1024,
    )


NO_RESOURCES = ResourceUse(0.0, 0.0, 0.0, 0)
"""Of an attempt whose task never began."""
