# SPDX-License-Identifier: BSD-3-Clause
"""One attempt on this machine, the way HTCondor does it: stage in, run as a process, stage out."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from executor.exit_codes import ExitCode, code_of_signal, signal_name
from executor.sandbox import telling_of_disk
from executor.sandbox_files import SandboxError, remove_tree
from executor.task import public_environment
from executor.worker_command import stage_in_code
from registry import names
from registry.delta import Delta, read_delta
from registry.errors import QuantumExecError
from registry.job import Job
from transfer_plugins.object_store import ObjectStore
from transfer_plugins.stage_in import stage_in
from transfer_plugins.stage_out import read_list, stage_out

_WRAPPER_LOG = "quantum-exec.log"
# A person waits in front of a local run, so it is less patient than a pool.
_UPLOAD_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt on this machine ended; ``delta`` is None if none was committed."""

    delta: Delta | None
    exit_code: int
    error: str | None


class Children:
    """The wrappers that run now, so that a signal to the runner can be passed on to all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.stopped_by: int | None = None
        self.end_orphans: Callable[[], int] = lambda: 0
        """Called when a wrapper did not end well: ends what it may have left running."""

    @property
    def is_stopping(self) -> bool:
        """Whether the runner was told to stop, so that nothing new is to begin."""
        return self.stopped_by is not None

    def run(self, command: list[str], sandbox: Path, environment: Mapping[str, str]) -> int:
        """Run a wrapper to its end; returns its exit code, negative for a signal."""
        with (sandbox / _WRAPPER_LOG).open("wb") as log, self._lock:
            child = subprocess.Popen(
                command,
                cwd=sandbox,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches the whole group; the runner passes it on itself.
                start_new_session=True,
            )
            self._running.add(child)
            if self.is_stopping:
                child.send_signal(signal.SIGTERM)
        try:
            code = child.wait()
        finally:
            with self._lock:
                self._running.discard(child)
        if code:
            self.end_orphans()
        return code

    @contextmanager
    def held(self) -> Iterator[Collection[int]]:
        """The process ids of all wrappers; none is started meanwhile."""
        with self._lock:
            yield [child.pid for child in self._running]

    def stop(self, number: int) -> None:
        """Tell all wrappers to stop, because of a signal; their attempts end as aborted."""
        self.stopped_by = number
        for child in list(self._running):
            child.send_signal(signal.SIGTERM)


def attempt_locally(
    job: Job,
    store: ObjectStore,
    scratch: Path,
    children: Children,
    *,
    python_path: Path | None = None,
) -> AttemptEnd:
    """Make one attempt at a quantum in a new sandbox below ``scratch``, and remove the sandbox.

    An error of staging is an end like any other: it is told, and nothing is committed.
    """
    try:
        with telling_of_disk(scratch):
            sandbox = Path(tempfile.mkdtemp(prefix=f"{job.task_label}-", dir=scratch))
    except SandboxError as error:
        return AttemptEnd(None, ExitCode.SANDBOX_UNUSABLE, str(error))
    try:
        return _attempt(job, store, sandbox, children, python_path)
    finally:
        remove_tree(sandbox)


def _attempt(
    job: Job, store: ObjectStore, sandbox: Path, children: Children, python_path: Path | None
) -> AttemptEnd:
    command = [sys.executable, "-m", "executor", "run", "--exit-with-parent", str(os.getpid())]
    try:
        with telling_of_disk(sandbox):
            report = stage_in(job, store, sandbox)
            ended = children.run(command, sandbox, _environment(job, python_path))
    except QuantumExecError as error:
        return AttemptEnd(None, stage_in_code(error), str(error))
    if ended < 0:
        # A task that kills its wrapper could have written a stage-out list in its stead.
        return AttemptEnd(None, code_of_signal(-ended), _wrapper_died(sandbox, ended))
    code = ended
    try:
        stage_out_list = read_list(sandbox)
        stage_out(stage_out_list, store, sandbox, patience_s=_UPLOAD_PATIENCE_S)
        if report.successful_attempt:
            key = names.delta_key(job.run, job.quantum_id, report.successful_attempt)
            return AttemptEnd(read_delta(store.get(key), key), ExitCode.SUCCESS, None)
        if stage_out_list.delta is None:
            return AttemptEnd(None, code or ExitCode.FAILED, _wrapper_died(sandbox, ended))
        content = (sandbox / stage_out_list.delta.path).read_bytes()
        delta = read_delta(content, stage_out_list.delta.key)
    except (QuantumExecError, OSError) as error:
        return AttemptEnd(None, ExitCode.STAGE_OUT_FAILED, str(error))
    return AttemptEnd(delta, code, delta.error)


def _environment(job: Job, python_path: Path | None) -> dict[str, str]:
    """The environment of a wrapper: no database, no S3 secret; modules beside the graph file."""
    environment = public_environment(os.environ, data_mode=job.data_mode)
    if python_path is not None:
        parts = [str(python_path), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(part for part in parts if part)
    return environment


def _wrapper_died(sandbox: Path, code: int) -> str:
    how = signal_name(-code) if code < 0 else f"exit code {code}"
    said = (sandbox / _WRAPPER_LOG).read_text("utf-8", "replace").strip()[-1000:]
    return f"quantum-exec run ended with {how} and left no delta. {said}".strip()
