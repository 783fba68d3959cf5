# SPDX-License-Identifier: BSD-3-Clause
"""A quantum's sandbox opened again, for a developer to run the task by hand.

It is staged from the datastore with what the attempt read, and seeded as the wrapper seeds it.
Nothing that is done in it is ever committed: it has no stage-out list, and its attempt id is
known to nobody.
"""

import gzip
import logging
import os
import shutil
import signal
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TextIO

from executor import private_registry
from executor.exit_codes import code_of_signal
from executor.graph.selection import Selection, SelectionError
from executor.sandbox import telling_of_disk
from executor.stop_signal import taking_stop_signals
from executor.submit.publish import graphs_of_run
from executor.submit.shell_script import write_run_task
from executor.task import task_environment
from registry import names, staging
from registry.delta import Delta, read_delta
from registry.errors import FormatError, QuantumExecError
from registry.graph_record import read_predicted_quanta
from registry.job import DataMode, Job, PredictedInput, read_job, write_job
from registry.model import format_data_id
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore, TransferError
from transfer_plugins.stage_in import InputNotReadyError, stage_in

_log = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
_SHOWN = 5
# Later than every attempt, so that stage-in fetches the inputs of a successful quantum as well.
_NO_ATTEMPT_IS_LATER = str(uuid.UUID(int=(1 << 128) - 1))


@dataclass(frozen=True, slots=True)
class OpenSandbox:
    """A sandbox in which the task of a quantum can be run.

    ``former`` is the attempt whose inputs it has; None if no attempt left a delta.
    ``attempt_id`` is a new one that never reaches the datastore.
    """

    directory: Path
    job: Job
    attempt_id: str
    former: Delta | None
    missing: list[str]
    environment: dict[str, str]
    seeded: private_registry.Snapshot


def find_job(store: ObjectStore, run: str, wanted: Selection) -> Job:
    """Return the published job of the one quantum that is meant.

    Raises
    ------
    SelectionError
        If the RUN is not there, or none or several of its quanta are meant.
    TransferError
        If the datastore cannot be read.
    """
    names.check_run(run)
    if len(wanted.quantum_ids) == 1 and not (wanted.task_labels or wanted.data_ids):
        (quantum_id,) = wanted.quantum_ids
    else:
        quantum_id = _find_quantum(store, run, wanted)
    key = names.job_key(run, _checked_id(quantum_id))
    try:
        content = store.get(key)
    except ObjectNotFoundError as error:
        _graphs(store, run)
        raise SelectionError(
            f"RUN {run!r} in {store.uri}: expected quantum {quantum_id}, found no job of it"
        ) from error
    return read_job(content, f"job file {store.uri}/{key}")


def _checked_id(quantum_id: str) -> str:
    try:
        return str(uuid.UUID(quantum_id))
    except ValueError as error:
        raise SelectionError(
            f"quantum: expected an id such as {uuid.UUID(int=0)}, found {quantum_id!r}"
        ) from error


def _graphs(store: ObjectStore, run: str) -> list[str]:
    found = graphs_of_run(store, run)
    if not found:
        raise SelectionError(f"expected a graph of RUN {run!r} in {store.uri}, found none")
    return found


def _find_quantum(store: ObjectStore, run: str, wanted: Selection) -> str:
    found: dict[str, str] = {}
    for graph_id in _graphs(store, run):
        key = names.predicted_quanta_key(run, graph_id)
        for quantum in read_predicted_quanta(store.get(key), f"predicted quanta {key!r}"):
            if wanted.takes(quantum.quantum_id, quantum.task_label, quantum.data_id):
                label = f"{quantum.task_label} ({format_data_id(quantum.data_id)})"
                found[quantum.quantum_id] = f"{quantum.quantum_id} {label}"
    if len(found) != 1:
        some = ", ".join(list(found.values())[:_SHOWN])
        dots = ", …" if len(found) > _SHOWN else ""
        raise SelectionError(
            f"RUN {run!r} in {store.uri}: expected one quantum to be meant, found {len(found)}"
            + (f": {some}{dots}; add --quantum, --task or --data-id" if found else "")
        )
    return next(iter(found))


def former_attempt(store: ObjectStore, job: Job, attempt_id: str | None) -> Delta | None:
    """Return the delta of an attempt, or of the newest if none is named; None without any.

    Raises
    ------
    SelectionError
        If the attempt that is named left no delta.
    DeltaError
        If its delta is damaged.
    """
    listed = store.list_objects(names.delta_prefix(job.run, job.quantum_id))
    keys = {parsed[1]: o.key for o in listed if (parsed := names.parse_delta_key(o.key))}
    if attempt_id is not None:
        if attempt_id not in keys:
            raise SelectionError(
                f"quantum {job.quantum_id}: expected one of its attempts {sorted(keys)}, found "
                f"{attempt_id!r}"
            )
        return read_delta(store.get(keys[attempt_id]), keys[attempt_id])
    for newest in sorted(keys, reverse=True):
        try:
            return read_delta(store.get(keys[newest]), keys[newest])
        except FormatError as error:
            _log.warning("%s", error)
    return None


def log_of(store: ObjectStore, job: Job, former: Delta | None) -> bytes:
    """Return what the task wrote during an attempt.

    Raises
    ------
    SelectionError
        If there was no attempt, or it left no log.
    TransferError, FormatError
        If the log cannot be fetched or is damaged.
    """
    if former is None or former.log_key is None:
        raise SelectionError(
            f"quantum {job.quantum_id} ({job.task_label}, {format_data_id(job.data_id)}): expected "
            f"an attempt with a log in {store.uri}, found none"
        )
    content = store.get(former.log_key)
    try:
        # Logs of the first release were not compressed.
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (EOFError, OSError, zlib.error) as error:
        raise FormatError(f"log {former.log_key!r}: expected gzip, found {error}") from error


def open_sandbox(
    job: Job, store: ObjectStore, sandbox: Path, former: Delta | None, python_path: Path
) -> OpenSandbox:
    """Stage a quantum into an empty directory, as ``former`` read it, and seed its registry.

    A quantum whose task reads the datastore itself is opened with its inputs as files, so that
    they can be looked at and nothing is written to the datastore.

    Raises
    ------
    InputNotReadyError
        If there is no former attempt, and an input was not made yet; or it was not kept.
    TransferError
        If an input is missing, differs from its checksum, or cannot be fetched.
    SandboxError
        If the directory cannot be written.
    """
    job = replace(job, data_mode=DataMode.STAGED, replaces=None)
    with telling_of_disk(sandbox):
        report = _stage_in_again(job, store, sandbox, former)
        for output in job.outputs:
            (sandbox / names.REPO_DIR / output.path).parent.mkdir(parents=True, exist_ok=True)
        seeded = private_registry.create(sandbox / names.PRIVATE_REGISTRY, job, report.inputs)
        environment = task_environment(job, report.attempt_id, sandbox)
        paths = [str(python_path), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        write_run_task(job, report.attempt_id, sandbox, environment)
    return OpenSandbox(sandbox, job, report.attempt_id, former, report.missing, environment, seeded)


def _stage_in_again(
    job: Job, store: ObjectStore, sandbox: Path, former: Delta | None
) -> staging.StageInReport:
    """Fetch the very objects that an attempt read; without one, what stage-in finds."""
    as_read = job
    if former is not None:
        read = {found.dataset_id: found for found in former.inputs}
        explicit = [
            replace(i, producer=None, key=found.key, checksum=found.checksum)
            for i in job.inputs
            if (found := read.get(i.dataset_id))
        ]
        as_read = replace(job, inputs=explicit)
    try:
        report = stage_in(replace(as_read, replaces=_NO_ATTEMPT_IS_LATER), store, sandbox)
    except ObjectNotFoundError:
        if former is not None:
            _check_kept(job, store, former)
        raise
    if former is not None:
        fetched = {found.dataset_id for found in report.inputs}
        report = replace(
            report,
            inputs=[found for found in former.inputs if found.dataset_id in fetched],
            missing=[i.dataset_id for i in job.inputs if i.dataset_id not in fetched],
        )
    sandbox.joinpath(names.JOB_FILE).write_bytes(write_job(job))
    sandbox.joinpath(names.STAGE_IN_FILE).write_bytes(staging.write_stage_in_report(report))
    # Without a list nothing can be staged out of here.
    sandbox.joinpath(names.STAGE_OUT_FILE).unlink()
    return report


def _check_kept(job: Job, store: ObjectStore, former: Delta) -> None:
    """Say so if an attempt read what was never in the datastore."""
    read = {found.dataset_id: found.attempt_id for found in former.inputs}
    for predicted in job.inputs:
        attempt_id = read.get(predicted.dataset_id)
        if predicted.producer is None or attempt_id is None:
            continue
        key = names.delta_key(predicted.run, predicted.producer, attempt_id)
        try:
            made = read_delta(store.get(key), key)
        except (TransferError, FormatError):
            continue
        if predicted.dataset_id in made.not_kept:
            raise InputNotReadyError(_not_kept(job, predicted, made))


def _not_kept(job: Job, predicted: PredictedInput, made: Delta) -> str:
    return (
        f"{predicted.dataset_type} ({format_data_id(predicted.data_id)}): expected the dataset "
        f"that attempt {made.attempt_id} of quantum {made.quantum_id} ({made.task_label}) made, "
        "found that it was read in the same job and not kept; run its reader once more, which "
        "makes it again and keeps it: "
        f"quantum-exec rerun {job.run} --quantum {job.quantum_id} --replace"
    )


def login_shell() -> list[str]:
    """The shell of the person in front of the terminal."""
    return [shutil.which(os.environ.get("SHELL", "")) or "/bin/sh"]


def run_in(opened: OpenSandbox, command: list[str], stdout: TextIO = sys.stdout) -> int:
    """Run a command in a sandbox with the environment of the task; returns its exit code.

    Raises
    ------
    QuantumExecError
        If it cannot be started.
    """
    try:
        child = subprocess.Popen(
            command, cwd=opened.directory, env=opened.environment, stdout=stdout
        )
    except (OSError, ValueError) as error:
        raise QuantumExecError(
            f"sandbox {opened.directory}: expected a command that can be started, found "
            f"{command[0]!r}: {error}"
        ) from error
    with child, _leaving_signals_to(child):
        code = child.wait()
    return code if code >= 0 else code_of_signal(-code)


@contextmanager
def _leaving_signals_to(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Outlive Ctrl-C, which the terminal sends to the child as well; pass SIGTERM on."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            child.send_signal(number)

    with taking_stop_signals(pass_on):
        yield
