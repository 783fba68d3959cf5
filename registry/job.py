# SPDX-License-Identifier: BSD-3-Clause
"""Job file: all that a worker must know to run one quantum, written when a graph is published."""

import enum
from dataclasses import dataclass, field

from registry import names, typed_json
from registry.errors import FormatError
from registry.model import DataId, DatasetType, DimensionRecord

JOB_FORMAT = 2


class DataMode(enum.StrEnum):
    """Who moves the bytes of datasets."""

    STAGED = "staged"
    """Stage-in and stage-out: the task sees files of its sandbox only."""
    DIRECT = "direct"
    """The task reads and writes in the datastore itself; only the registry is local."""


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What a quantum asks for, and must not exceed; None asks for nothing in particular.

    ``memory_mib`` is the resident memory of the task's whole process tree, ``scratch_mib`` what
    lies in the sandbox, ``wall_s`` the seconds from the start of the task to its end.
    """

    cpus: int | None = None
    memory_mib: int | None = None
    scratch_mib: int | None = None
    wall_s: float | None = None


@dataclass(frozen=True, slots=True)
class TaskCall:
    """What a quantum runs: a command, or a Python function that is given the repo object.

    Exactly one of ``command`` (argument list with placeholders) and ``function``
    (``module:function``) is given.
    """

    command: list[str] | None = None
    function: str | None = None
    config: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    resources: ResourceRequest = field(default_factory=ResourceRequest)


@dataclass(frozen=True, slots=True)
class PredictedInput:
    """A dataset that the quantum reads.

    ``producer`` is the quantum that makes it, in the RUN ``run``; its delta then tells key, size
    and checksum. Without one the dataset is there already and ``key`` names it, with size (bytes)
    and checksum (``sha256:…``) if known.
    """

    dataset_id: str
    dataset_type: str
    data_id: DataId
    run: str
    path: str
    optional: bool = False
    producer: str | None = None
    key: str | None = None
    size_bytes: int | None = None
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class PredictedOutput:
    """A dataset that the quantum makes, at ``path`` below the repo directory."""

    dataset_id: str
    dataset_type: str
    data_id: DataId
    path: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One quantum with everything it needs.

    ``replaces`` is the attempt whose success must not end a new one early: the quantum is run
    again although it was successful.
    """

    format: int
    graph_id: str
    run: str
    quantum_id: str
    task_label: str
    data_id: DataId
    task: TaskCall
    dataset_types: list[DatasetType]
    inputs: list[PredictedInput]
    outputs: list[PredictedOutput]
    dimension_records: list[DimensionRecord] = field(default_factory=list)
    data_mode: DataMode = DataMode.STAGED
    replaces: str | None = None


def write_job(job: Job) -> bytes:
    """Return the text of a job file."""
    return typed_json.encode(job).encode()


def read_job(text: str | bytes, what: str) -> Job:
    """Read a job file.

    Raises
    ------
    NewerFormatError
        If a newer release wrote it.
    FormatError
        If it is damaged.
    InvalidNameError
        If its RUN is unsafe, or a path leaves the sandbox.
    """
    job = typed_json.decode_format(
        Job, text, what, newest=JOB_FORMAT, upgrade="upgrade quantum-exec on the worker"
    )
    names.check_run(job.run)
    everything: list[PredictedInput | PredictedOutput] = [*job.inputs, *job.outputs]
    known = {dataset_type.name for dataset_type in job.dataset_types}
    for predicted in everything:
        names.check_key(predicted.path, f"{what}: path of {predicted.dataset_type}")
        if predicted.dataset_type not in known:
            raise FormatError(
                f"{what}: expected one of the dataset types {sorted(known)}, found "
                f"{predicted.dataset_type!r}"
            )
    if (job.task.command is None) == (job.task.function is None):
        raise FormatError(f"{what}: expected either a command or a function, found both or none")
    return job
