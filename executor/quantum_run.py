# SPDX-License-Identifier: BSD-3-Clause
"""One attempt at one quantum, from a staged-in sandbox to a stage-out list.

The delta is made here and only here, after everything that it names lies measured in the sandbox;
the stage-out list is the last thing written, by rename, so that whoever stages out sees the whole
attempt or nothing of it.
"""

import logging
import os
import socket
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

from executor import outputs, private_registry, task
from executor.exit_codes import ExitCode, code_of_signal, signal_name
from registry import names, staging
from registry.attempt import AttemptStatus
from registry.delta import DELTA_FORMAT, AddedRows, Delta, write_delta
from registry.errors import QuantumExecError
from registry.job import Job, read_job
from registry.model import format_data_id
from transfer_plugins.checksums import checksum_of_file
from transfer_plugins.stage_in import utc_now

_log = logging.getLogger(__name__)

_LOG_TAIL_BYTES = 2000
_ERROR_CHARACTERS = 4000


class NotStagedInError(QuantumExecError):
    """Stage-in has not ended in this sandbox; there is nothing to run, and nothing to record."""

    error_type = "not_staged_in"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of the task and the check of its outputs."""

    status: AttemptStatus
    end: task.TaskEnd | None = None
    no_work: bool = False
    error: str | None = None
    files: list[staging.StageOutFile] = field(default_factory=list)
    rows: AddedRows = field(default_factory=AddedRows)
    code: int = ExitCode.SUCCESS


def run_quantum(sandbox: Path) -> int:
    """Run the quantum whose job and inputs stage-in put into a sandbox.

    Returns
    -------
    int
        The exit code for the pool: 0 for a success, also one of an earlier attempt; the task's
        own code or 128 + signal; or an `ExitCode`.

    Raises
    ------
    QuantumExecError
        If the sandbox was not staged in; nothing can be recorded then.
    """
    job, report = _read_staged_in(sandbox)
    label = f"quantum {job.quantum_id} ({job.task_label}, {format_data_id(job.data_id)})"
    if report.successful_attempt:
        _log.info("%s: attempt %s was successful already", label, report.successful_attempt)
        return ExitCode.SUCCESS
    _log.info("%s: attempt %s begins", label, report.attempt_id)
    with task.StopSignal() as stop:
        outcome = _attempt(job, report, sandbox, stop)
        _commit(job, report, sandbox, outcome)
    _log.info("%s: attempt %s is %s", label, report.attempt_id, outcome.status)
    if outcome.error:
        _log.error("%s: %s", label, outcome.error)
    return outcome.code


def _read_staged_in(sandbox: Path) -> tuple[Job, staging.StageInReport]:
    job_path, report_path = sandbox / names.JOB_FILE, sandbox / names.STAGE_IN_FILE
    try:
        job = read_job(job_path.read_bytes(), f"job file {job_path}")
        text = report_path.read_bytes()
    except OSError as error:
        raise NotStagedInError(
            f"sandbox {sandbox}: expected {names.JOB_FILE} and {names.STAGE_IN_FILE} from "
            f"stage-in, found none: {error.strerror}"
        ) from error
    report = staging.read_stage_in_report(text, f"stage-in report {report_path}")
    if report.quantum_id != job.quantum_id:
        raise NotStagedInError(
            f"sandbox {sandbox}: expected inputs of quantum {job.quantum_id}, found those of "
            f"{report.quantum_id}"
        )
    return job, report


def _attempt(
    job: Job, report: staging.StageInReport, sandbox: Path, stop: task.StopSignal
) -> _Outcome:
    """Run the task and look at what it left; every error becomes a failed attempt."""
    end: task.TaskEnd | None = None
    try:
        seeded = private_registry.create(sandbox / names.PRIVATE_REGISTRY, job, report.inputs)
        required = {i.dataset_id for i in job.inputs if not i.optional}
        if required & set(report.missing):
            return _Outcome(AttemptStatus.SUCCESSFUL, no_work=True)
        if stop.received is not None:
            return _aborted(None, stop.received)
        _prepare_outputs(job, sandbox)
        end = task.run_task(
            task.command_of(job, report.attempt_id, sandbox),
            task.task_environment(job, report.attempt_id, sandbox),
            sandbox,
            stop,
        )
        return _judge(job, report, sandbox, seeded, end)
    except QuantumExecError as error:
        invalid = isinstance(error, task.InvalidTaskError)
        code = ExitCode.INVALID_QUANTUM if invalid else ExitCode.FAILED
        return _Outcome(AttemptStatus.FAILED, end, error=str(error), code=code)
    except Exception as error:
        # A bug of ours or a full disk: the report is worth more than a dead wrapper.
        text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        return _Outcome(AttemptStatus.FAILED, end, error=text, code=ExitCode.FAILED)


def _judge(
    job: Job,
    report: staging.StageInReport,
    sandbox: Path,
    seeded: private_registry.Snapshot,
    end: task.TaskEnd,
) -> _Outcome:
    no_work = end.exit_code == ExitCode.NO_WORK
    if end.stopped_by is not None and end.exit_code != 0:
        return _aborted(end, end.stopped_by)
    if end.exit_code != 0 and not no_work:
        return _task_failed(sandbox, end)
    files = outputs.record_outputs(job, report.attempt_id, sandbox, may_be_missing=no_work)
    rows = private_registry.added_rows(
        sandbox / names.PRIVATE_REGISTRY, seeded, job, report.attempt_id
    )
    recorded = {row.object_key for row in rows.datastore_record}
    if recorded != {found.key for found in files}:
        raise private_registry.PrivateRegistryError(
            f"table datastore_record: expected the keys of the outputs found, "
            f"{sorted(f.key for f in files)}; found {sorted(recorded)}"
        )
    return _Outcome(AttemptStatus.SUCCESSFUL, end, no_work=no_work, files=files, rows=rows)


def _aborted(end: task.TaskEnd | None, number: int) -> _Outcome:
    return _Outcome(
        AttemptStatus.ABORTED,
        end,
        error=f"stopped by {signal_name(number)} before the task ended",
        code=code_of_signal(number),
    )


def _task_failed(sandbox: Path, end: task.TaskEnd) -> _Outcome:
    if end.signal is not None:
        how, code = f"was killed by {signal_name(end.signal)}", code_of_signal(end.signal)
    else:
        how, code = f"ended with exit code {end.exit_code}", end.exit_code or ExitCode.FAILED
    text = f"the task {how}; its log ends:\n{_log_tail(sandbox)}"
    return _Outcome(AttemptStatus.FAILED, end, error=text, code=code)


def _log_tail(sandbox: Path) -> str:
    try:
        with (sandbox / names.TASK_LOG).open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")
    except OSError as error:
        return f"(the log cannot be read: {error.strerror})"


def _storable(text: str | None) -> str | None:
    """An error as PostgreSQL takes it: not too long, no NUL, no lone surrogate."""
    if text is None:
        return None
    whole = text[:_ERROR_CHARACTERS].encode("utf-8", "replace").decode()
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _prepare_outputs(job: Job, sandbox: Path) -> None:
    """Make the directories; what an earlier attempt left in the same sandbox does not count."""
    (sandbox / names.TASK_LOG).unlink(missing_ok=True)
    for output in job.outputs:
        path = sandbox / names.REPO_DIR / output.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.is_file():
            path.unlink()


def _commit(job: Job, report: staging.StageInReport, sandbox: Path, outcome: _Outcome) -> None:
    """Write log, delta and, last, the stage-out list."""
    log_path = sandbox / names.TASK_LOG
    log_path.touch()
    log_key = names.log_key(job.run, job.quantum_id, report.attempt_id)
    delta = _delta_of(job, report, outcome, log_key)
    (sandbox / names.DELTA_FILE).write_bytes(write_delta(delta))
    delta_key = names.delta_key(job.run, job.quantum_id, report.attempt_id)
    stage_out_list = staging.StageOutList(
        job.run,
        [*outcome.files, _stage_out_file(sandbox, names.TASK_LOG, log_key)],
        _stage_out_file(sandbox, names.DELTA_FILE, delta_key),
    )
    part = sandbox / f"{names.STAGE_OUT_FILE}.part"
    part.write_bytes(staging.write_stage_out_list(stage_out_list))
    part.replace(sandbox / names.STAGE_OUT_FILE)


def _delta_of(job: Job, report: staging.StageInReport, outcome: _Outcome, log_key: str) -> Delta:
    delta = Delta(
        format=DELTA_FORMAT,
        graph_id=job.graph_id,
        run=job.run,
        quantum_id=job.quantum_id,
        task_label=job.task_label,
        data_id=job.data_id,
        attempt_id=report.attempt_id,
        status=outcome.status,
        no_work=outcome.no_work,
        started=report.started,
        finished=utc_now(),
        host=socket.gethostname(),
        resources=task.NO_RESOURCES,
        exit_code=None,
        signal=None,
        error=_storable(outcome.error),
        log_key=log_key,
        inputs=report.inputs,
        rows=outcome.rows,
    )
    end = outcome.end
    if end is None:
        return delta
    return replace(delta, resources=end.resources, exit_code=end.exit_code, signal=end.signal)


def _stage_out_file(sandbox: Path, name: str, key: str) -> staging.StageOutFile:
    path = sandbox / name
    found = path.stat()
    return staging.StageOutFile(name, key, found.st_size, checksum_of_file(path), found.st_mtime_ns)
