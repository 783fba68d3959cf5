# SPDX-License-Identifier: BSD-3-Clause
"""The repo object: what a task that is a Python function sees of its sandbox.

>>> def isr(repo):
...     raw = repo.get("raw")
...     repo.put(correct(raw, repo.config["gain"]), "postisr")
"""

import json
import logging
import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from executor import private_registry
from executor.storage_classes import StorageClass, storage_class
from registry import names
from registry.errors import QuantumExecError
from registry.job import Job
from registry.model import DataId, DatasetRef, format_data_id
from registry.typed_json import canonical


class RepoError(QuantumExecError, LookupError):
    """A task asked for what its quantum does not have, or gave what cannot be kept."""

    error_type = "repo"


class NoWorkFoundError(Exception):
    """Raised by a task to end successfully with fewer outputs, or none."""


class Repo:
    """The POSIX repo and the private registry of one quantum."""

    def __init__(self, job: Job, attempt_id: str, sandbox: Path) -> None:
        self.run = job.run
        self.task_label = job.task_label
        self.data_id: DataId = job.data_id
        self.config: Mapping[str, Any] = job.task.config
        self.quantum_id = job.quantum_id
        self.attempt_id = attempt_id
        self.registry_path = sandbox / names.PRIVATE_REGISTRY
        self.log = logging.getLogger(job.task_label)
        self._root = sandbox / names.REPO_DIR
        self._types = {t.name: t for t in job.dataset_types}
        self._paths = {p.dataset_id: p.path for p in job.inputs} | {
            p.dataset_id: p.path for p in job.outputs
        }
        self._inputs = [
            DatasetRef(i.dataset_id, i.dataset_type, i.data_id, i.run) for i in job.inputs
        ]
        self._outputs = [
            DatasetRef(o.dataset_id, o.dataset_type, o.data_id, job.run) for o in job.outputs
        ]

    def input_refs(self, dataset_type: str) -> list[DatasetRef]:
        """The inputs of a dataset type that are there; an optional one may not be."""
        refs = self._refs(self._inputs, dataset_type, "input")
        return [ref for ref in refs if self.path(ref).exists()]

    def input_ref(self, dataset_type: str) -> DatasetRef:
        """The only input of a dataset type; raises `RepoError` if there is not exactly one."""
        return self._only(self.input_refs(dataset_type), dataset_type, "input")

    def output_refs(self, dataset_type: str) -> list[DatasetRef]:
        """The predicted outputs of a dataset type."""
        return self._refs(self._outputs, dataset_type, "output")

    def output_ref(self, dataset_type: str) -> DatasetRef:
        """The only predicted output of a dataset type; raises `RepoError` if there are several."""
        return self._only(self.output_refs(dataset_type), dataset_type, "output")

    def path(self, ref: DatasetRef) -> Path:
        """Where the file of a dataset is, or is to be; raises `RepoError` for a foreign ref."""
        if ref.dataset_id not in self._paths:
            raise RepoError(
                f"{ref.dataset_type} ({format_data_id(ref.data_id)}): expected an input or output "
                f"of quantum {self.quantum_id} ({self.task_label})"
            )
        return self._root / self._paths[ref.dataset_id]

    def get(self, ref: DatasetRef | str) -> Any:
        """Read an input by its ref, or by its dataset type if there is only one."""
        found = self.input_ref(ref) if isinstance(ref, str) else ref
        return self._storage_class(found).read(self.path(found))

    def put(self, value: Any, ref: DatasetRef | str) -> None:
        """Write an output by its ref, or by its dataset type if there is only one."""
        found = self.output_ref(ref) if isinstance(ref, str) else ref
        if found not in self._outputs:
            raise RepoError(f"{found.dataset_type}: expected an output to write, found an input")
        path = self.path(found)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._storage_class(found).write(value, path)

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

    def _refs(self, refs: list[DatasetRef], dataset_type: str, what: str) -> list[DatasetRef]:
        found = [ref for ref in refs if ref.dataset_type == dataset_type]
        if not found:
            raise RepoError(
                f"{what} {dataset_type!r}: expected one of "
                f"{sorted({ref.dataset_type for ref in refs})} for task {self.task_label}"
            )
        return found

    def _only(self, refs: list[DatasetRef], dataset_type: str, what: str) -> DatasetRef:
        if len(refs) != 1:
            raise RepoError(
                f"{what} {dataset_type!r}: expected exactly one dataset, found {len(refs)}"
            )
        return refs[0]

    def _storage_class(self, ref: DatasetRef) -> StorageClass:
        return storage_class(self._types[ref.dataset_type].storage_class)
