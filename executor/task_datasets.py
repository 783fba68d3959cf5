# SPDX-License-Identifier: BSD-3-Clause
"""The datasets of a quantum as its task reaches them: in the sandbox, or in the datastore."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from executor.storage_classes import StorageClass
from registry import names
from registry.job import DataMode, Job, PredictedInput, PredictedOutput


class TaskDatasets(ABC):
    """Inputs and outputs of one attempt, by dataset id."""

    @abstractmethod
    def has(self, dataset_id: str) -> bool:
        """Tell whether an input is there; an optional one may not be."""

    @abstractmethod
    def path(self, dataset_id: str) -> Path:
        """Where the file of a dataset is, or is to be; raises `NoPathError` in S3."""

    @abstractmethod
    def uri(self, dataset_id: str) -> str:
        """URI of a dataset, ``file://`` or ``s3://``."""

    def location(self, dataset_id: str) -> str:
        """What stands for a dataset in a command: its path, or in S3 its URI."""
        return str(self.path(dataset_id))

    @abstractmethod
    def read(self, dataset_id: str, storage: StorageClass) -> Any:
        """Read a dataset; the errors are those of its storage class and of the store."""

    @abstractmethod
    def write(self, dataset_id: str, value: Any, storage: StorageClass) -> None:
        """Write a dataset, replacing what is there; whole or not at all."""


def open_datasets(job: Job, sandbox: Path) -> TaskDatasets:
    """Return the datasets of an attempt, where the job's data mode has them.

    In direct mode stage-in must have left its report in the sandbox.
    """
    if job.data_mode is DataMode.STAGED:
        return StagedDatasets(job, sandbox)
    from executor.direct_data import DirectDatasets, read_report

    return DirectDatasets(job, read_report(sandbox), sandbox)


class StagedDatasets(TaskDatasets):
    """Files of the sandbox, which stage-in brought and stage-out will take."""

    def __init__(self, job: Job, sandbox: Path) -> None:
        # Not beside the dataset: what a killed process leaves in the repo is an undeclared output.
        self._sandbox = sandbox
        repo = sandbox / names.REPO_DIR
        self._paths = {p.dataset_id: repo / p.path for p in _datasets(job)}
        self._extensions = extensions_of(job)

    def has(self, dataset_id: str) -> bool:
        """Tell whether the file is there."""
        return self._paths[dataset_id].exists()

    def path(self, dataset_id: str) -> Path:
        """Path in the sandbox."""
        return self._paths[dataset_id]

    def uri(self, dataset_id: str) -> str:
        """URI of the file in the sandbox."""
        return self._paths[dataset_id].as_uri()

    def read(self, dataset_id: str, storage: StorageClass) -> Any:
        """Read a file."""
        return storage.read(self._paths[dataset_id])

    def write(self, dataset_id: str, value: Any, storage: StorageClass) -> None:
        """Write a file under a temporary name in the sandbox, and rename it."""
        path = self._paths[dataset_id]
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(self._sandbox, self._extensions[dataset_id]) as part:
            storage.write(value, part)
            part.replace(path)


def extensions_of(job: Job) -> dict[str, str]:
    """Extension of each dataset of a job, by its id."""
    extensions = {t.name: t.extension for t in job.dataset_types}
    return {p.dataset_id: extensions[p.dataset_type] for p in _datasets(job)}


def _datasets(job: Job) -> list[PredictedInput | PredictedOutput]:
    return [*job.inputs, *job.outputs]


@contextmanager
def temporary(directory: Path, extension: str) -> Iterator[Path]:
    """A path that nothing is at, in a directory; what is there in the end is removed."""
    part = directory / f".part-{os.urandom(8).hex()}{extension}"
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
