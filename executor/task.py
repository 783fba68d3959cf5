# SPDX-License-Identifier: BSD-3-Clause
"""What a task is given: its argument list, placeholders filled in, and its environment."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from registry import names
from registry.errors import QuantumExecError
from registry.job import DataMode, Job
from registry.typed_json import canonical

if TYPE_CHECKING:
    from executor.task_datasets import TaskDatasets

# What a worker must not hand to the users' code: addresses and secrets of databases and of S3.
PRIVATE_VARIABLES = re.compile(
    r"(PG[A-Z]+|REGISTRY_MERGE_.*|LSST_DB_AUTH.*|AWS_.*|S3_ENDPOINT_URL"
    r"|LSST_RESOURCES_S3_PROFILE_.*|_?CONDOR_CREDS)\Z"
)
_S3_VARIABLES = re.compile(r"(AWS_.*|S3_ENDPOINT_URL|LSST_RESOURCES_S3_PROFILE_.*)\Z")
_PLACEHOLDER = re.compile(r"\{(input|inputs|output|outputs|data_id|config):([^{}]+)\}|\{(\w+)\}")


class InvalidTaskError(QuantumExecError):
    """A command names something that its quantum does not have; mend the graph."""

    error_type = "invalid_task"


def command_of(job: Job, attempt_id: str, sandbox: Path) -> list[str]:
    """Return the argument list of a quantum's task, placeholders filled in.

    ``{input:TYPE}`` and ``{output:TYPE}`` are the path of the only dataset of that type (in
    direct mode with a datastore in S3 its URI),
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
        return [sys.executable, *_words_of_function_task()]
    values = _Placeholders(job, attempt_id, sandbox)
    return [word for argument in job.task.command or [] for word in values.expand(argument)]


def _words_of_function_task() -> list[str]:
    """How Python is told to run `executor.function_task`; from an archive if we come from one."""
    archive = getattr(getattr(__spec__, "loader", None), "archive", None)
    return ["-m", "executor.function_task"] if archive is None else [archive, "function-task"]


class _Placeholders:
    """The values that the placeholders of one quantum stand for."""

    def __init__(self, job: Job, attempt_id: str, sandbox: Path) -> None:
        self.job = job
        self.repo = sandbox / names.REPO_DIR
        self.direct: TaskDatasets | None = None
        if job.data_mode is DataMode.DIRECT:
            # What it imports, a staged quantum does not need.
            from executor.task_datasets import open_datasets

            self.direct = open_datasets(job, sandbox)
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
        if self.direct is not None:
            ids = [d.dataset_id for d in datasets if d.dataset_type == dataset_type]
            there = [i for i in ids if not is_input or self.direct.has(i)]
            return [self.direct.location(i) for i in there]
        paths = [self.repo / d.path for d in datasets if d.dataset_type == dataset_type]
        return [str(path) for path in paths if not is_input or path.exists()]


def public_environment(
    environment: Mapping[str, str], *, data_mode: DataMode = DataMode.STAGED
) -> dict[str, str]:
    """Return the variables that may reach a task: none that tells of a database or of S3.

    In direct mode those of S3 do: the task reads and writes there itself.
    """
    is_direct = data_mode is DataMode.DIRECT
    return {
        name: value
        for name, value in environment.items()
        if not PRIVATE_VARIABLES.match(name) or (is_direct and _S3_VARIABLES.match(name))
    }


def task_environment(job: Job, attempt_id: str, sandbox: Path) -> dict[str, str]:
    """Return the environment of a task: this process's, the quantum's, and where it is."""
    return {
        **public_environment(os.environ, data_mode=job.data_mode),
        **job.task.environment,
        "QUANTUM_EXEC_SANDBOX": str(sandbox),
        "QUANTUM_EXEC_REPO": str(sandbox / names.REPO_DIR),
        "QUANTUM_EXEC_REGISTRY": str(sandbox / names.PRIVATE_REGISTRY),
        "QUANTUM_EXEC_RUN": job.run,
        "QUANTUM_EXEC_QUANTUM_ID": job.quantum_id,
        "QUANTUM_EXEC_ATTEMPT_ID": attempt_id,
        "QUANTUM_EXEC_TASK_LABEL": job.task_label,
        "QUANTUM_EXEC_DATA_ID": canonical(job.data_id),
        "QUANTUM_EXEC_VERSIONS": str(sandbox / names.VERSIONS_FILE),
    }
