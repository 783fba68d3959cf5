# SPDX-License-Identifier: BSD-3-Clause
"""The repo object: what a task that is a Python function sees of its quantum.

>>> def isr(repo):
...     raw = repo.get("raw")
...     repo.put(correct(raw, repo.config["gain"]), "postisr")

The datasets may lie in the sandbox, in a directory or in S3: `get` and `put` are the same.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from executor import private_registry, task_versions
from executor.storage_classes import StorageClass, storage_class
from executor.task_datasets import TaskDatasets, open_datasets
from registry import names
from registry.errors import QuantumExecError
from registry.job import Job
from registry.model import DataId, DataIdValue, DatasetRef, format_data_id
from registry.typed_json import canonical


class RepoError(QuantumExecError, LookupError):
    """A task asked for what its quantum does not have, or gave what cannot be kept."""

    error_type = "repo"


class NoWorkFoundError(Exception):
    """Raised by a task to end successfully with fewer outputs, or none."""


class RepeatableQuantumError(Exception):
    """Raised by a task that would fail again with the same inputs: a pool need not try again."""


class InvalidQuantumError(Exception):
    """Raised by a task whose quantum makes no sense as it is written: the graph must be mended."""


class Repo:
    """The datasets and the private registry of one quantum."""

    def __init__(self, job: Job, attempt_id: str, sandbox: Path) -> None:
        self.run = job.run
        self.task_label = job.task_label
        self.data_id: DataId = job.data_id
        self.config: Mapping[str, Any] = job.task.config
        self.quantum_id = job.quantum_id
        self.attempt_id = attempt_id
        self.registry_path = sandbox / names.PRIVATE_REGISTRY
        self.log = logging.getLogger(job.task_label)
        self._versions_path = sandbox / names.VERSIONS_FILE
        self._datasets: TaskDatasets = open_datasets(job, sandbox)
        self._types = {t.name: t for t in job.dataset_types}
        self._inputs = [
            DatasetRef(i.dataset_id, i.dataset_type, i.data_id, i.run) for i in job.inputs
        ]
        self._outputs = [
            DatasetRef(o.dataset_id, o.dataset_type, o.data_id, job.run) for o in job.outputs
        ]

    def input_refs(self, dataset_type: str, /, **data_id: DataIdValue) -> list[DatasetRef]:
        """The inputs of a dataset type that are there; an optional one may not be.

        Parameters
        ----------
        data_id
            Values of dimensions; only refs that have all of them are returned.

        Raises
        ------
        RepoError
            If the task has no inputs of this type, or the type no such dimension.
        """
        refs = self._refs(self._inputs, dataset_type, "input", data_id)
        return [ref for ref in refs if self._datasets.has(ref.dataset_id)]

    def input_ref(self, dataset_type: str, /, **data_id: DataIdValue) -> DatasetRef:
        """The only such input; raises `RepoError` if there is not exactly one."""
        return self._only(self.input_refs(dataset_type, **data_id), dataset_type, "input", data_id)

    def output_refs(self, dataset_type: str, /, **data_id: DataIdValue) -> list[DatasetRef]:
        """The predicted outputs of a dataset type, with these values of dimensions."""
        return self._refs(self._outputs, dataset_type, "output", data_id)

    def output_ref(self, dataset_type: str, /, **data_id: DataIdValue) -> DatasetRef:
        """The only such predicted output; raises `RepoError` if there is not exactly one."""
        refs = self.output_refs(dataset_type, **data_id)
        return self._only(refs, dataset_type, "output", data_id)

    def path(self, ref: DatasetRef) -> Path:
        """Where the file of a dataset is, or is to be.

        Raises
        ------
        RepoError
            If the ref is not of this quantum, or an optional input that is not there.
        NoPathError
            In direct mode, if the datastore is in S3.
        """
        return self._datasets.path(self._known(ref).dataset_id)

    def uri(self, ref: DatasetRef) -> str:
        """URI of a dataset, ``file://`` or ``s3://``; raises `RepoError` as `path` does."""
        return self._datasets.uri(self._known(ref).dataset_id)

    def get(self, ref: DatasetRef | str, /, **data_id: DataIdValue) -> Any:
        """Read a dataset by its ref, or the only input of a dataset type.

        Parameters
        ----------
        data_id
            With a dataset type: values of dimensions that tell one input from the others.

        Raises
        ------
        RepoError
            If it is not there, or cannot be read as its storage class.
        TransferError
            In direct mode, if the object is gone, has other bytes than were recorded, or cannot
            be fetched.
        """
        found = self._chosen(ref, self.input_ref, data_id)
        storage, where = self._storage_class(found), self._datasets.location(found.dataset_id)
        try:
            return self._datasets.read(found.dataset_id, storage)
        except (QuantumExecError, MemoryError):
            raise
        except FileNotFoundError as error:
            raise RepoError(f"{_label(found)}: expected a file at {where}, found none") from error
        except ImportError as error:
            raise self._not_installed(found, error) from error
        except Exception as error:
            # Readers raise what they like for a damaged file: fits, for one, a TypeError.
            raise RepoError(
                f"{_label(found)}: expected storage class {self._class_name(found)} at {where}, "
                f"found what cannot be read as such: {type(error).__name__}: {error}"
            ) from error

    def put(self, value: Any, ref: DatasetRef | str, /, **data_id: DataIdValue) -> None:
        """Write an output by its ref, or the only output of a dataset type, with this data ID.

        It is there whole or not at all. A second `put` replaces the first.

        Raises
        ------
        RepoError
            If it is no output of this quantum, or the value is not for its storage class.
        TransferError
            In direct mode, if the datastore cannot be written.
        """
        found = self._chosen(ref, self.output_ref, data_id)
        if found not in self._outputs:
            raise RepoError(f"{_label(found)}: expected an output to write, found an input")
        storage = self._storage_class(found)
        try:
            self._datasets.write(found.dataset_id, value, storage)
        except (QuantumExecError, MemoryError):
            raise
        except ImportError as error:
            raise self._not_installed(found, error) from error
        except Exception as error:
            raise RepoError(
                f"{_label(found)}: a {type(value).__name__} cannot be written as storage class "
                f"{self._class_name(found)}: {type(error).__name__}: {error}"
            ) from error

    def version(self, name: str, version: str) -> None:
        """Report the version of something that was used; it is kept with this attempt.

        Imported Python packages that have a ``__version__`` are reported without this.

        Raises
        ------
        RepoError
            If one is not a text of 1 to 200 printable characters.
        """
        if not task_versions.is_reportable(name) or not task_versions.is_reportable(version):
            raise RepoError(
                f"version {version!r} of {name!r}: expected two texts of 1 to 200 printable "
                "characters"
            )
        task_versions.report(self._versions_path, name, version)

    def metric(self, name: str, value: float) -> None:
        """Report a finite number; it reaches the central registry with this attempt."""
        if not math.isfinite(value):
            raise RepoError(f"metric {name!r}: expected a finite number, found {value!r}")
        with closing(private_registry.connect(self.registry_path)) as connection, connection:
            connection.execute(
                "INSERT OR REPLACE INTO metric VALUES (?, ?, ?)",
                (self.attempt_id, name, float(value)),
            )

    def dimension_record(self, dimension: str, data_id: DataId | None = None) -> dict[str, Any]:
        """Return the facts known about a dimension's value: of this quantum, if none is named.

        Raises
        ------
        RepoError
            If the registry has no such record.
        """
        wanted = self.data_id if data_id is None else data_id
        with closing(private_registry.connect(self.registry_path)) as connection:
            rows = connection.execute(
                "SELECT data_id, record FROM dimension_record WHERE dimension = ?", (dimension,)
            ).fetchall()
        for text, record in rows:
            if json.loads(text).items() <= wanted.items():
                return dict(json.loads(record))
        raise RepoError(
            f"dimension {dimension!r}: expected a record for {format_data_id(wanted)}, found none"
        )

    def add_dimension_record(
        self, dimension: str, data_id: DataId, record: Mapping[str, Any]
    ) -> None:
        """Add facts about a value of a dimension; they reach the central registry."""
        with closing(private_registry.connect(self.registry_path)) as connection, connection:
            connection.execute(
                "INSERT INTO dimension_record VALUES (?, ?, ?)",
                (dimension, canonical(data_id), canonical(dict(record))),
            )

    def _refs(
        self, refs: list[DatasetRef], dataset_type: str, what: str, data_id: DataId
    ) -> list[DatasetRef]:
        of_type = [ref for ref in refs if ref.dataset_type == dataset_type]
        if not of_type:
            raise RepoError(
                f"{what} {dataset_type!r}: expected one of "
                f"{sorted({ref.dataset_type for ref in refs})} for task {self.task_label}"
            )
        dimensions = self._types[dataset_type].dimensions
        if not data_id.keys() <= set(dimensions):
            raise RepoError(
                f"{what} {dataset_type!r}: expected dimensions among {dimensions}, found "
                f"{sorted(data_id)}"
            )
        return [ref for ref in of_type if data_id.items() <= ref.data_id.items()]

    def _only(
        self, refs: list[DatasetRef], dataset_type: str, what: str, data_id: DataId
    ) -> DatasetRef:
        if len(refs) != 1:
            asked = f" ({format_data_id(data_id)})" if data_id else ""
            raise RepoError(
                f"{what} {dataset_type!r}{asked}: expected exactly one dataset, found {len(refs)}"
            )
        return refs[0]

    def _chosen(
        self, ref: DatasetRef | str, only: Callable[..., DatasetRef], data_id: DataId
    ) -> DatasetRef:
        """The ref that is given, or the only one of a dataset type with a data ID."""
        if isinstance(ref, str):
            return self._known(only(ref, **data_id))
        if data_id:
            raise RepoError(
                f"{_label(ref)}: expected a ref alone, found {format_data_id(data_id)} beside it"
            )
        return self._known(ref)

    def _known(self, ref: DatasetRef) -> DatasetRef:
        """The ref, if it is one of this quantum and there is something behind it."""
        if ref not in self._outputs and ref not in self._inputs:
            raise RepoError(
                f"{_label(ref)}: expected an input or output of quantum {self.quantum_id} "
                f"({self.task_label})"
            )
        if ref in self._inputs and not self._datasets.has(ref.dataset_id):
            raise RepoError(
                f"{_label(ref)}: expected an input that is there, found none; input_refs returns "
                "those that are"
            )
        return ref

    def _not_installed(self, ref: DatasetRef, error: ImportError) -> RepoError:
        return RepoError(
            f"{_label(ref)}: storage class {self._class_name(ref)} needs a package that is not "
            f"installed here: {error}"
        )

    def _class_name(self, ref: DatasetRef) -> str:
        return self._types[ref.dataset_type].storage_class

    def _storage_class(self, ref: DatasetRef) -> StorageClass:
        return storage_class(self._class_name(ref))


def _label(ref: DatasetRef) -> str:
    return f"{ref.dataset_type} ({format_data_id(ref.data_id)})"
