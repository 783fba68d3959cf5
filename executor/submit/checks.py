# SPDX-License-Identifier: BSD-3-Clause
"""What is looked at before anything is queued: files, directories and requests of a submission.

Cheap things first, nothing is written. What only a pool can tell is in `pool_slots`.
"""

import difflib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from executor.bundle.bundle_record import BundleError, read_bundle
from executor.submit.configuration import SubmitConfiguration
from executor.submit.configuration_error import ConfigurationError
from executor.submit.requests import Requests
from registry.errors import QuantumExecError
from registry.job import PredictedInput

_MIB = 1024 * 1024
# Of each job, measured: lines of the DAG and the node table, two versions of the status file,
# DAGMan's log and that of all node jobs; as much again for retries.
_BYTES_PER_JOB = 8000
_FILE_VARIABLES = (
    *("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE"),
    *("PGPASSFILE", "PGSERVICEFILE", "LSST_DB_AUTH"),
)


class NotSubmittableError(QuantumExecError):
    """A submission would fail or wait for ever; every reason is in the message."""

    error_type = "not_submittable"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a check found; an error keeps the submission from being queued."""

    message: str
    is_error: bool = True


@dataclass(frozen=True)
class Submission:
    """What is to be submitted, as far as checks look at it.

    ``task_labels`` are all of the RUN, ``requests`` by label of the jobs; ``input_bytes`` is the
    most that one quantum is known to read, by task label.
    """

    run: str
    task_labels: Collection[str]
    n_jobs: int
    configuration: SubmitConfiguration
    requests: Mapping[str, Requests]
    input_bytes: Mapping[str, int] = field(default_factory=dict)


def most_input_bytes(quanta: Iterable[tuple[str, Iterable[PredictedInput]]]) -> dict[str, int]:
    """Return for each task label the most that one of its quanta reads, as far as it is known."""
    most: dict[str, int] = {}
    for label, inputs in quanta:
        most[label] = max(most.get(label, 0), sum(i.size_bytes or 0 for i in inputs))
    return most


def check_locally(
    submission: Submission, environment: Mapping[str, str] = os.environ
) -> list[Finding]:
    """Look at this machine and at what is to be submitted, and at no pool."""
    configuration = submission.configuration
    return [
        *submit_path_findings(configuration, submission.n_jobs),
        *_programs(configuration),
        *_files(configuration, submission.requests, environment),
        *_labels(configuration, submission.task_labels),
        *_collections(configuration, submission.run),
        *_scratch(submission),
        *_memory(submission.requests),
    ]


def raise_errors(findings: list[Finding]) -> None:
    """Raise `NotSubmittableError` if there is an error among the findings."""
    errors = [finding.message for finding in findings if finding.is_error]
    if errors:
        raise NotSubmittableError("; ".join(errors))


def submit_path_findings(configuration: SubmitConfiguration, n_jobs: int) -> Iterator[Finding]:
    """Look whether the files of a DAG can be written, and whether DAGMan will run there."""
    root = Path(configuration.submit_path).resolve()
    if root.is_relative_to("/tmp"):
        # "default node log file … is in /tmp": DAGMan ends with 1 at once (DAGMAN_USE_STRICT).
        yield Finding(
            "submitPath: expected a directory outside /tmp, where DAGMan refuses to run; found "
            f"{str(root)!r}"
        )
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(f"submitPath: expected a directory to write in, found {str(there)!r}")
        return
    free, needed = shutil.disk_usage(there).free, n_jobs * _BYTES_PER_JOB
    if free < needed:
        yield Finding(
            f"submitPath: expected {needed / _MIB:.2f} MiB for the files of {n_jobs} jobs, found "
            f"{free / _MIB:.2f} MiB free in {str(there)!r}"
        )


def _programs(configuration: SubmitConfiguration) -> Iterator[Finding]:
    commands: list[Callable[[], str]] = [configuration.merge_command]
    if not configuration.bundle:
        commands.append(configuration.worker_command)
    for command in commands:
        try:
            path = command()
        except ConfigurationError as error:
            yield Finding(str(error))
            continue
        # What execution points have is not known here; what runs here is.
        if command == configuration.merge_command and not os.access(path, os.X_OK):
            yield Finding(f"mergeExecutable: expected a program on this machine, found no {path}")


def _files(
    configuration: SubmitConfiguration,
    requests: Mapping[str, Requests],
    environment: Mapping[str, str],
) -> Iterator[Finding]:
    if configuration.merge_config and not os.access(configuration.merge_config, os.R_OK):
        yield Finding(
            f"mergeConfig: expected a file that can be read, found no {configuration.merge_config}"
        )
    for name in _FILE_VARIABLES:
        path = environment.get(name)
        if path and not os.access(path, os.R_OK):
            yield Finding(f"{name}: expected a file that can be read, found no {path}")
    if configuration.bundle:
        try:
            read_bundle(Path(configuration.bundle))
        except BundleError as error:
            yield Finding(str(error))
    images = {r.container_image for r in requests.values() if r.container_image}
    for image in sorted(image for image in images if image.startswith("/")):
        if not Path(image).exists():
            yield Finding(f"containerImage: expected an image, found no {image}")


def _labels(configuration: SubmitConfiguration, task_labels: Collection[str]) -> Iterator[Finding]:
    for key, labels in (
        ("pipetask", configuration.pipetask),
        ("initTasks", configuration.init_tasks),
    ):
        for label in labels:
            if label not in task_labels:
                near = difflib.get_close_matches(label, task_labels, n=1)
                advice = f"; did you mean {near[0]}?" if near else ""
                yield Finding(
                    f"{key}: {label}: expected a task label of the graph, found none{advice}",
                    is_error=key == "initTasks",
                )


def _collections(configuration: SubmitConfiguration, run: str) -> Iterator[Finding]:
    if configuration.output == run:
        yield Finding(
            f"output: expected a chain of another name than the RUN {run!r}, which is its member"
        )


def _scratch(submission: Submission) -> Iterator[Finding]:
    """Inputs whose size is known must fit where they are staged in."""
    for label, size in submission.input_bytes.items():
        asked = submission.requests.get(label)
        if asked and asked.request_disk and size > asked.request_disk * _MIB:
            yield Finding(
                f"requestDisk: {label}: expected at least the {size / _MIB:.0f} MiB of inputs that "
                f"one of its quanta reads, found {asked.request_disk} MiB",
                is_error=False,
            )


def _memory(requests: Mapping[str, Requests]) -> Iterator[Finding]:
    """First and greatest request may come from different levels."""
    for label, asked in requests.items():
        first, most = asked.request_memory, asked.request_memory_max
        if first is not None and most is not None and most < first:
            yield Finding(
                f"requestMemoryMax: {label}: expected at least its requestMemory, {first} MiB, "
                f"found {most} MiB; the request does not grow",
                is_error=False,
            )
