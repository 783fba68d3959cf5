# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec run`` as a process, in a sandbox that stage-in has made."""

import gzip
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry import names
from registry.delta import Delta, read_delta
from registry.job import Job, TaskCall
from registry.staging import StageOutList
from tests.samples import RAW_CONTENT, RAW_KEY, make_job, make_output
from transfer_plugins.object_store import DirectoryObjectStore
from transfer_plugins.stage_in import stage_in
from transfer_plugins.stage_out import read_list, stage_out

COMMAND = [sys.executable, "-m", "executor", "run", "--log-level", "INFO"]


@dataclass
class Sandbox:
    """A sandbox with one job, beside the datastore that it was staged in from."""

    directory: Path
    job: Job
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> DirectoryObjectStore:
        """The datastore."""
        return DirectoryObjectStore(self.directory.parent / "store")

    @property
    def output(self) -> Path:
        """Where the task is to write its output."""
        return self.directory / names.REPO_DIR / make_output().path

    @property
    def registry(self) -> Path:
        """The private registry."""
        return self.directory / names.PRIVATE_REGISTRY

    def start(self) -> "subprocess.Popen[str]":
        """Start the wrapper."""
        return subprocess.Popen(
            COMMAND,
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, timeout_s: float = 60) -> tuple[int, str]:
        """Run the wrapper to its end; returns exit code and standard error."""
        process = self.start()
        _, stderr = process.communicate(timeout=timeout_s)
        return process.returncode, stderr

    def stage_out_list(self) -> StageOutList:
        """What the wrapper asks to upload."""
        return read_list(self.directory)

    def delta(self) -> Delta:
        """The delta that the wrapper wrote, verified under its key."""
        entry = self.stage_out_list().delta
        assert entry is not None, "there is no delta"
        return read_delta((self.directory / entry.path).read_bytes(), entry.key)

    def stage_out(self) -> None:
        """Upload everything; refused if a file is not what was recorded."""
        stage_out(self.stage_out_list(), self.store, self.directory, patience_s=0)

    def log(self) -> str:
        """What the task wrote."""
        return gzip.decompress((self.directory / names.TASK_LOG).read_bytes()).decode()


def make_sandbox(tmp_path: Path, *command: str, **changes: Any) -> Sandbox:
    """Stage in a job with a shell command, or with other changes to the sample job."""
    if command:
        changes["task"] = TaskCall(list(command))
    job = make_job(**changes)
    directory = tmp_path / "sandbox"
    directory.mkdir(exist_ok=True)
    sandbox = Sandbox(directory, job)
    sandbox.store.put(RAW_KEY, RAW_CONTENT)
    stage_in(job, sandbox.store, directory)
    return sandbox


def make_function_sandbox(
    tmp_path: Path, source: str, *, config: Mapping[str, object] | None = None, **changes: Any
) -> Sandbox:
    """Stage in a job whose task is ``tasks:main`` in a module with this source."""
    modules = tmp_path / "modules"
    modules.mkdir(exist_ok=True)
    (modules / "tasks.py").write_text(source)
    task = TaskCall(function="tasks:main", config=dict(config or {}))
    sandbox = make_sandbox(tmp_path, **{"task": task, **changes})
    sandbox.environment["PYTHONPATH"] = str(modules)
    return sandbox
