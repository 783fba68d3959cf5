# SPDX-License-Identifier: BSD-3-Clause
"""Prediction: what a graph expects of a quantum, and which deltas say otherwise.

One rule for everybody. A delta that the merger puts into quarantine because it was not predicted
must not count for a worker that looks for an input either, nor for a runner that asks what is
done: else the quantum would never be run again, and its rows never be merged.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

from registry.attempt import short_attempt
from registry.delta import DatasetRow, Delta, DeltaError
from registry.job import PredictedInput, PredictedOutput
from registry.model import DataId


class UnpredictedDeltaError(DeltaError):
    """A delta is whole, and is not what a graph of its RUN expects."""


class UnknownGraphError(UnpredictedDeltaError):
    """The RUN has no graph with the id that a delta names."""

    error_type = "unknown_graph"


class UnpredictedQuantumError(UnpredictedDeltaError):
    """The graph has no such quantum, or one with another task or data ID."""

    error_type = "unpredicted_quantum"


class UnpredictedOutputError(UnpredictedDeltaError):
    """A delta names a dataset that its quantum is not expected to make, or makes it otherwise."""

    error_type = "unpredicted_output"


class Expected(Protocol):
    """A quantum with everything that it may make: `registry.job.Job`, or a quantum of a graph."""

    @property
    def quantum_id(self) -> str:
        """Id of the quantum."""

    @property
    def task_label(self) -> str:
        """Its task."""

    @property
    def data_id(self) -> DataId:
        """Its data ID."""

    @property
    def outputs(self) -> list[PredictedOutput]:
        """The datasets that it may make."""


def check_predicted(
    delta: Delta,
    key: str,
    *,
    task_label: str,
    data_id: DataId,
    outputs: Collection[str],
    dataset_types: Collection[str],
) -> None:
    """Compare a delta with what its graph has under its quantum id.

    Parameters
    ----------
    outputs
        Ids of the datasets that the quantum may make.
    dataset_types
        Names of the dataset types that these may have.

    Raises
    ------
    UnpredictedQuantumError, UnpredictedOutputError
    """
    if (task_label, data_id) != (delta.task_label, delta.data_id):
        raise UnpredictedQuantumError(
            f"delta {key!r}: expected task {task_label!r} for {data_id}, "
            f"found {delta.task_label!r} for {delta.data_id}"
        )
    for row in delta.rows.dataset:
        if row.dataset_id not in outputs:
            raise UnpredictedOutputError(
                f"delta {key!r}: expected only predicted outputs of quantum "
                f"{delta.quantum_id!r}, found {row.dataset_type!r} {row.dataset_id!r}"
            )
        if row.dataset_type not in dataset_types:
            raise UnpredictedOutputError(
                f"delta {key!r}: graph {delta.graph_id!r} has no dataset type {row.dataset_type!r}"
            )


def check_expected(delta: Delta, key: str, quantum: Expected) -> None:
    """Compare a delta with a quantum whose outputs are known in full, their paths too.

    Raises
    ------
    UnpredictedQuantumError, UnpredictedOutputError
    """
    check_predicted(
        delta,
        key,
        task_label=quantum.task_label,
        data_id=quantum.data_id,
        outputs={output.dataset_id for output in quantum.outputs},
        dataset_types={output.dataset_type for output in quantum.outputs},
    )
    check_datasets(delta, key, quantum.outputs)


def check_datasets(
    delta: Delta, key: str, predicted: Iterable[PredictedInput | PredictedOutput]
) -> None:
    """Compare the rows of some datasets with what is predicted of them; others are not looked at.

    Raises
    ------
    UnpredictedOutputError
        If a dataset has another type or data ID, or a key that is not that of its path. One that
        was not kept has no key.
    """
    rows = {row.dataset_id: row for row in delta.rows.dataset}
    keys = {record.dataset_id: record.object_key for record in delta.rows.datastore_record}
    for wanted in predicted:
        row = rows.get(wanted.dataset_id)
        if row is None:
            continue
        expected = DatasetRow(wanted.dataset_id, wanted.dataset_type, wanted.data_id)
        if (row.dataset_type, row.data_id) != (expected.dataset_type, expected.data_id):
            raise UnpredictedOutputError(f"delta {key!r}: expected {expected}, found {row}")
        if wanted.dataset_id in delta.not_kept:
            continue
        found = keys[wanted.dataset_id]
        # The key of an output is its path with the attempt in it (`names.dataset_key`).
        stem, attempt, extension = found.rpartition(f".{short_attempt(delta.attempt_id)}")
        if not attempt or stem + extension != wanted.path:
            raise UnpredictedOutputError(
                f"delta {key!r}: expected dataset {wanted.dataset_id!r} at path {wanted.path!r} "
                f"with attempt {delta.attempt_id!r}, found key {found!r}"
            )
