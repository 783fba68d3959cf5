# SPDX-License-Identifier: BSD-3-Clause
"""Direct mode: the task reads and writes in the datastore itself; only the registry is local."""

import os
from pathlib import Path
from typing import Any

from executor.outputs import check_kind, missing_output
from executor.sandbox_files import make_place
from executor.storage_classes import StorageClass
from executor.task_datasets import TaskDatasets, extensions_of, temporary
from registry import names, staging
from registry.errors import QuantumExecError
from registry.job import Job, PredictedOutput
from transfer_plugins.checksums import checksum_of_bytes, checksum_of_file
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import (
    ChecksumMismatchError,
    DirectoryObjectStore,
    ObjectNotFoundError,
    open_store,
)


class NoPathError(QuantumExecError):
    """A dataset in S3 has no path; read and write it through the repo object, or by its URI."""

    error_type = "no_path"


def read_report(sandbox: Path) -> staging.StageInReport:
    """Read what stage-in left in a sandbox; raises `FormatError`, or `OSError` if it is gone."""
    path = sandbox / names.STAGE_IN_FILE
    return staging.read_stage_in_report(path.read_bytes(), f"stage-in report {path}")


class DirectDatasets(TaskDatasets):
    """Objects of the datastore; an output has its final key from the start.

    The key carries the attempt, so nothing written there counts before the delta is.
    """

    def __init__(self, job: Job, report: staging.StageInReport, sandbox: Path) -> None:
        self._outputs = job.outputs
        self.store = open_store(report.datastore or "", endpoint_url=report.endpoint_url)
        self._sandbox = sandbox
        self._inputs = {read.dataset_id: read for read in report.inputs}
        self._extensions = extensions_of(job)
        self._keys = {i: read.key for i, read in self._inputs.items()} | {
            o.dataset_id: names.dataset_key(
                o.path, self._extensions[o.dataset_id], report.attempt_id
            )
            for o in job.outputs
        }

    def has(self, dataset_id: str) -> bool:
        """Tell whether stage-in found the input."""
        return dataset_id in self._inputs

    def key(self, dataset_id: str) -> str:
        """Key of an input that is there, or of an output."""
        return self._keys[dataset_id]

    def path(self, dataset_id: str) -> Path:
        """Path in a ``file://`` datastore; raises `NoPathError` in S3."""
        if not isinstance(self.store, DirectoryObjectStore):
            raise NoPathError(
                f"{self.uri(dataset_id)}: expected a file, found an object in S3, which has no "
                "path; use get and put, or its URI"
            )
        return self.store.path(self._keys[dataset_id])

    def uri(self, dataset_id: str) -> str:
        """URI of the object."""
        if isinstance(self.store, DirectoryObjectStore):
            return self.path(dataset_id).as_uri()
        return f"{self.store.uri}/{self._keys[dataset_id]}"

    def location(self, dataset_id: str) -> str:
        """What stands for a dataset in a command: its path, or in S3 its URI."""
        is_file = isinstance(self.store, DirectoryObjectStore)
        return str(self.path(dataset_id)) if is_file else self.uri(dataset_id)

    def read(self, dataset_id: str, storage: StorageClass) -> Any:
        """Read an object, verified: from its bytes, or through a file if the format needs one."""
        key = self._keys[dataset_id]
        known = self._inputs.get(dataset_id)
        checksum = known.checksum if known else None
        if storage.read_bytes is None:
            with temporary(self._sandbox, self._extensions[dataset_id]) as part:
                self.store.download(key, part, checksum=checksum)
                return storage.read(part)
        content = self.store.get(key)
        if checksum is not None and checksum_of_bytes(content) != checksum:
            raise ChecksumMismatchError(
                f"{self.store.uri}/{key}: expected {checksum}, found {checksum_of_bytes(content)} "
                f"({len(content)} bytes)"
            )
        return storage.read_bytes(content)

    def write(self, dataset_id: str, value: Any, storage: StorageClass) -> None:
        """Write an object: as bytes, or through a file if the format needs one."""
        key, extension = self._keys[dataset_id], self._extensions[dataset_id]
        # Libraries compress by the name of a file; bytes have none.
        if storage.write_bytes is not None and not extension.endswith(".gz"):
            self.store.put(key, storage.write_bytes(value))
            return
        with temporary(self._sandbox, extension) as part:
            storage.write(value, part)
            self.store.upload(part, key, checksum_of_file(part))

    def prepare_outputs(self) -> None:
        """Make the directories of the outputs; what an earlier try of this attempt left is removed.

        In S3 there are no directories, and to delete may not be allowed.
        """
        if isinstance(self.store, DirectoryObjectStore):
            for output in self._outputs:
                make_place(self.path(output.dataset_id))

    def measure_outputs(self, *, may_be_missing: bool) -> list[staging.StageOutFile | None]:
        """Measure all outputs where they lie; None for one that is not there and need not be.

        Raises
        ------
        OutputError
            If a required output is missing, or one is a directory, a link or a special file.
        TransferError
            If the datastore cannot be asked.
        """
        return map_concurrently(lambda o: self._measure(o, may_be_missing), self._outputs)

    def _measure(
        self, output: PredictedOutput, may_be_missing: bool
    ) -> staging.StageOutFile | None:
        key, where = self._keys[output.dataset_id], self.location(output.dataset_id)
        try:
            if isinstance(self.store, DirectoryObjectStore):
                size, checksum = _measure_file(output, where, self.store)
            else:
                head = self.store.head(key)
                size, checksum = head.size_bytes, head.checksum or ""
                if head.checksum is None:
                    size, checksum = self.store.measure(key)
        except (ObjectNotFoundError, FileNotFoundError, NotADirectoryError) as error:
            if output.optional or may_be_missing:
                return None
            raise missing_output(output, where) from error
        return staging.StageOutFile(key, key, size, checksum, 0)

    @property
    def environment(self) -> dict[str, str]:
        """What leads a command of the task to the datastore, beside the credentials it has."""
        endpoint_url = self.store.endpoint_url
        return {"AWS_ENDPOINT_URL": endpoint_url} if endpoint_url else {}


def _measure_file(
    output: PredictedOutput, where: str, store: DirectoryObjectStore
) -> tuple[int, str]:
    """Size and checksum of a file that the task wrote into the datastore, now on its disk."""
    path = Path(where)
    status = os.lstat(path)
    check_kind(output, where, status, path, store.root)
    with path.open("rb") as file:
        # The delta must not outlive a power cut that its outputs do not.
        os.fsync(file.fileno())
    return status.st_size, checksum_of_file(path)
