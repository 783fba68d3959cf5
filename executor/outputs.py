# SPDX-License-Identifier: BSD-3-Clause
"""Outputs: the predicted datasets found in the repo, measured, and recorded in the registry."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from executor import private_registry
from registry import names
from registry.errors import QuantumExecError
from registry.job import Job, PredictedOutput
from registry.model import format_data_id
from registry.staging import StageOutFile
from registry.typed_json import canonical
from transfer_plugins.checksums import checksum_of_file

if TYPE_CHECKING:
    from executor.direct_data import DirectDatasets

_SHOWN = 5


class OutputError(QuantumExecError):
    """A predicted output is missing or no regular file, or there is one that is not predicted."""

    error_type = "output"


def record_outputs(
    job: Job,
    attempt_id: str,
    sandbox: Path,
    *,
    may_be_missing: bool,
    direct: "DirectDatasets | None" = None,
) -> list[StageOutFile]:
    """Find and measure the predicted outputs, and insert their rows into the private registry.

    Parameters
    ----------
    may_be_missing
        The task said that there was no work, so that even required outputs may be absent.
    direct
        Where the outputs lie, if not in the sandbox. Nothing is to be uploaded then.

    Raises
    ------
    OutputError
        If a required output is missing, one is a directory, a link or another special file, or
        something lies in the repo that is neither input nor predicted output.
    PrivateRegistryError
        If the task left a registry that cannot be written.
    """
    if direct is None:
        measured = [_measure(job, o, attempt_id, sandbox, may_be_missing) for o in job.outputs]
    else:
        measured = direct.measure_outputs(may_be_missing=may_be_missing)
    path = sandbox / names.PRIVATE_REGISTRY
    try:
        with closing(private_registry.connect(path)) as connection, connection:
            for output, found in zip(job.outputs, measured, strict=True):
                if found:
                    _insert(connection, job, output, attempt_id, found)
    except sqlite3.Error as error:
        raise private_registry.PrivateRegistryError(
            f"private registry: outputs cannot be recorded: {error}"
        ) from error
    here = [] if direct else [i.path for i in job.inputs] + [o.path for o in job.outputs]
    _check_declared(set(here), sandbox)
    return [found for found in measured if found]


def _check_declared(declared: set[str], sandbox: Path) -> None:
    """Refuse files in the repo that nobody declared: they would be lost without a word."""
    repo = sandbox / names.REPO_DIR
    found = [
        Path(directory, name).relative_to(repo).as_posix()
        for directory, directories, files in os.walk(repo)
        for name in (*files, *(d for d in directories if os.path.islink(f"{directory}/{d}")))
    ]
    undeclared = sorted(set(found) - declared)
    if undeclared:
        shown = ", ".join(repr(f"{names.REPO_DIR}/{path}") for path in undeclared[:_SHOWN])
        more = f" and {len(undeclared) - _SHOWN} more" if len(undeclared) > _SHOWN else ""
        raise OutputError(
            f"expected only inputs and predicted outputs in repo/, found {shown}{more}; declare "
            "them in the graph, or write what is not to be kept elsewhere in the sandbox"
        )


def _measure(
    job: Job, output: PredictedOutput, attempt_id: str, sandbox: Path, may_be_missing: bool
) -> StageOutFile | None:
    path, where = sandbox / names.REPO_DIR / output.path, f"{names.REPO_DIR}/{output.path}"
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if output.optional or may_be_missing:
            return None
        raise missing_output(output, where) from error
    check_kind(output, where, status, path, sandbox)
    extension = next(t.extension for t in job.dataset_types if t.name == output.dataset_type)
    return StageOutFile(
        where,
        names.dataset_key(output.path, extension, attempt_id),
        status.st_size,
        checksum_of_file(path),
        status.st_mtime_ns,
    )


def missing_output(output: PredictedOutput, where: str) -> OutputError:
    """The error of a required output that is not there."""
    return OutputError(f"{_label(output)}: expected a file at {where}, found none")


def check_kind(
    output: PredictedOutput, where: str, status: os.stat_result, path: Path, root: Path
) -> None:
    """Raise `OutputError` unless an output is a regular file that really lies below ``root``."""
    is_inside = path.resolve().is_relative_to(root.resolve())
    if not stat.S_ISREG(status.st_mode) or not is_inside:
        raise OutputError(
            f"{_label(output)}: expected a regular file at {where}, found a directory, a link or a "
            "special file"
        )


def _label(output: PredictedOutput) -> str:
    return f"output {output.dataset_type} ({format_data_id(output.data_id)})"


def _insert(
    connection: sqlite3.Connection,
    job: Job,
    output: PredictedOutput,
    attempt_id: str,
    found: StageOutFile,
) -> None:
    """Insert the two rows of an output; what a task wrote there itself is kept or replaced."""
    storage_class = next(
        t.storage_class for t in job.dataset_types if t.name == output.dataset_type
    )
    data_id = canonical(output.data_id)
    connection.execute(
        "INSERT INTO dataset VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (dataset_id) DO NOTHING",
        (output.dataset_id, job.run, output.dataset_type, data_id, job.quantum_id, attempt_id),
    )
    connection.execute(
        "INSERT OR REPLACE INTO datastore_record VALUES (?, ?, ?, ?, ?)",
        (output.dataset_id, found.key, found.size_bytes, found.checksum, storage_class),
    )
