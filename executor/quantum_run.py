# SPDX-License-Identifier: BSD-3-Clause
"""One attempt at one quantum, from a staged-in sandbox to a stage-out list.

The delta is made here and only here, after everything that it names lies measured in the sandbox;
the stage-out list is the last thing written, by rename, so that whoever stages out sees the whole
attempt or nothing of it. Job and stage-in report are read before the task begins: what it does to
these files changes nothing.
"""

import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from executor import outputs, private_registry, sandbox_files, task
from executor.exit_codes import ExitCode, code_of_signal, signal_name
from executor.limits import limits_here
from executor.sandbox_files import SandboxError
from executor.stop_signal import StopSignal
from executor.stopped_commit import StoppedCommit, commit_stopped, take_links
from executor.task_log import whole_log
from executor.task_supervision import NO_RESOURCES, TaskEnd, run_task
from executor.versions import VersionsError, own_versions, reported_versions
from executor.wrapper_log import WrapperLog
from registry import names, staging
from registry.attempt import AttemptStatus, utc_now
from registry.delta import DELTA_FORMAT, AddedRows, Delta, write_delta
from registry.errors import QuantumExecError
from registry.job import DataMode, Job, read_job
from registry.model import format_data_id
from transfer_plugins.checksums import checksum_of_file

if TYPE_CHECKING:
    from executor.direct_data import DirectDatasets

_log = logging.getLogger(__name__)

_ERROR_CHARACTERS = 4000


class NotStagedInError(QuantumExecError):
    """Stage-in has not ended in this sandbox; there is nothing to run, and nothing to record."""

    error_type = "not_staged_in"


@dataclass(frozen=True, slots=True)
class QuantumEnd:
    """How a quantum ended; ``delta`` and list are None if no attempt was made."""

    code: int
    delta: Delta | None = None
    stage_out_list: staging.StageOutList | None = None

    @property
    def is_done(self) -> bool:
        """Whether the quantum is successful, now or since an earlier attempt."""
        if self.delta is None:
            return self.code == ExitCode.SUCCESS
        return self.delta.status is AttemptStatus.SUCCESSFUL


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of the task and the check of its outputs."""

    status: AttemptStatus
    end: TaskEnd | None = None
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
        If the sandbox was not staged in or cannot be written; nothing can be recorded then.
    """
    job, report = read_staged_in(sandbox)
    links = take_links(sandbox)
    with StopSignal() as stop:
        end = attempt_quantum(job, report, sandbox, stop)
        if stop.received is not None and end.stage_out_list is not None:
            commit = StoppedCommit(report.attempt_id, sandbox, end.stage_out_list, links)
            commit_stopped([commit], stop.received_at)
    return end.code


def attempt_quantum(
    job: Job, report: staging.StageInReport, sandbox: Path, stop: StopSignal
) -> QuantumEnd:
    """Make the attempt that stage-in named, unless an earlier one was successful.

    Raises
    ------
    SandboxError
        If the sandbox cannot be written.
    """
    label = f"quantum {job.quantum_id} ({job.task_label}, {format_data_id(job.data_id)})"
    if report.successful_attempt:
        _log.info("%s: attempt %s was successful already", label, report.successful_attempt)
        return QuantumEnd(ExitCode.SUCCESS)
    _log.info("%s: attempt %s begins", label, report.attempt_id)
    end = _Attempt(job, report, sandbox, stop).run()
    _log.info("%s: attempt %s is %s", label, report.attempt_id, end.delta and end.delta.status)
    if end.delta and end.delta.error:
        _log.error("%s: %s", label, end.delta.error)
    return end


def read_staged_in(sandbox: Path) -> tuple[Job, staging.StageInReport]:
    """Read job file and stage-in report; raises `NotStagedInError` if they are not there."""
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


class _Attempt:
    """One attempt in its sandbox."""

    def __init__(
        self, job: Job, report: staging.StageInReport, sandbox: Path, stop: StopSignal
    ) -> None:
        self.job = job
        self.report = report
        self.sandbox = sandbox
        self.stop = stop
        self.log = WrapperLog(report.started)
        self.direct: DirectDatasets | None = None

    def run(self) -> QuantumEnd:
        """Run the task and commit what came of it.

        Raises
        ------
        SandboxError
            If the sandbox cannot be written; there is no delta then.
        """
        n_bytes = sum(found.size_bytes for found in self.report.inputs)
        self.log.add("staged_in", n_inputs=len(self.report.inputs), n_bytes=n_bytes)
        sandbox_files.reserve_space(self.sandbox)
        outcome = self._outcome()
        if outcome.error and sandbox_files.is_full(self.sandbox):
            error = f"the disk of the sandbox is full; {outcome.error}"
            outcome = replace(outcome, error=error, code=ExitCode.OVER_SCRATCH)
        sandbox_files.release_space(self.sandbox)
        try:
            return self._commit(outcome)
        except OSError as error:
            raise SandboxError(
                f"sandbox {self.sandbox}: attempt {self.report.attempt_id} of quantum "
                f"{self.job.quantum_id} cannot be recorded: {error.strerror or error}"
                + (f"; {outcome.error}" if outcome.error else "")
            ) from error

    def _outcome(self) -> _Outcome:
        """Run the task and look at what it left; every error becomes a failed attempt."""
        end: TaskEnd | None = None
        try:
            seeded = self._prepare()
            required = {i.dataset_id for i in self.job.inputs if not i.optional}
            missing = required & set(self.report.missing)
            if missing:
                self.log.add("no_work", n_missing_inputs=len(missing))
                return _Outcome(AttemptStatus.SUCCESSFUL, no_work=True)
            if self.stop.received is not None:
                return _aborted(None, self.stop.received)
            end = self._run_task()
            return self._judge(seeded, end)
        except QuantumExecError as error:
            return _Outcome(AttemptStatus.FAILED, end, error=str(error), code=_code_of(error))
        except Exception as error:
            # A bug of ours or a full disk: the report is worth more than a dead wrapper.
            import traceback

            text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
            return _Outcome(AttemptStatus.FAILED, end, error=text, code=ExitCode.FAILED)

    def _prepare(self) -> private_registry.Snapshot:
        """Seed the registry, make directories; what an earlier attempt left does not count."""
        seeded = private_registry.create(
            self.sandbox / names.PRIVATE_REGISTRY, self.job, self.report.inputs
        )
        self.log.add("registry_seeded")
        for name in (names.TASK_LOG, names.VERSIONS_FILE):
            sandbox_files.clear(self.sandbox / name)
        if self.job.data_mode is DataMode.DIRECT:
            # What it imports, a staged quantum does not need.
            from executor.direct_data import DirectDatasets

            self.direct = DirectDatasets(self.job, self.report, self.sandbox)
            self.direct.prepare_outputs()
            return seeded
        for output in self.job.outputs:
            sandbox_files.make_place(self.sandbox / names.REPO_DIR / output.path)
        return seeded

    def _run_task(self) -> TaskEnd:
        job, attempt_id = self.job, self.report.attempt_id
        command = task.command_of(job, attempt_id, self.sandbox)
        environment = task.task_environment(job, attempt_id, self.sandbox)
        if self.direct is not None:
            environment.update(self.direct.environment)
        self.log.add("task_started")
        is_member = self.sandbox.parent.name == names.QUANTA_DIR
        member = job.task_label if is_member else None
        limits = limits_here(job.task.resources, os.environ, member=member)
        end = run_task(command, environment, self.sandbox, self.stop, limits)
        sandbox_files.take_back(self.sandbox)
        facts = {"exit_code": end.exit_code, "signal": end.signal}
        self.log.add("task_ended", **{k: v for k, v in facts.items() if v is not None})
        if end.n_left_running:
            self.log.add("processes_ended", n_processes=end.n_left_running)
        return end

    def _judge(self, seeded: private_registry.Snapshot, end: TaskEnd) -> _Outcome:
        no_work = end.exit_code == ExitCode.NO_WORK
        if end.over is not None:
            text = _with_log_end(end.over.message, end.log_end)
            return _Outcome(AttemptStatus.FAILED, end, error=text, code=end.over.code)
        if end.stopped_by is not None and end.exit_code != 0:
            return _aborted(end, end.stopped_by)
        if end.exit_code != 0 and not no_work:
            return _task_failed(end)
        job, attempt_id = self.job, self.report.attempt_id
        registry = self.sandbox / names.PRIVATE_REGISTRY
        private_registry.check_unharmed(registry, seeded)
        files = outputs.record_outputs(
            job, attempt_id, self.sandbox, may_be_missing=no_work, direct=self.direct
        )
        rows = private_registry.added_rows(registry, seeded, job, attempt_id)
        recorded = {row.object_key for row in rows.datastore_record}
        if recorded != {found.key for found in files}:
            raise private_registry.PrivateRegistryError(
                f"table datastore_record: expected the keys of the outputs found, "
                f"{sorted(f.key for f in files)}; found {sorted(recorded)}"
            )
        n_bytes = sum(found.size_bytes for found in files)
        self.log.add("outputs_recorded", n_outputs=len(files), n_bytes=n_bytes)
        to_upload = files if self.direct is None else []
        return _Outcome(AttemptStatus.SUCCESSFUL, end, no_work=no_work, files=to_upload, rows=rows)

    def _commit(self, outcome: _Outcome) -> QuantumEnd:
        """Write log, delta and, last, the stage-out list."""
        job, attempt_id = self.job, self.report.attempt_id
        log_path = self.sandbox / names.TASK_LOG
        is_file = log_path.is_file() and not log_path.is_symlink()
        if not is_file or log_path.stat().st_size == 0:
            # No task was started, or it took the file away, or the disk was full.
            end = outcome.end.log_end.encode() if outcome.end else b""
            sandbox_files.write_own_file(log_path, whole_log(end))
        log_key = names.log_key(job.run, job.quantum_id, attempt_id)
        delta = self._delta(outcome, log_key)
        files = [*outcome.files, stage_out_file(self.sandbox, names.TASK_LOG, log_key)]
        stage_out_list = write_commit(delta, files, self.sandbox)
        return QuantumEnd(outcome.code, delta, stage_out_list)

    def _versions(self) -> dict[str, str]:
        try:
            reported = reported_versions(self.sandbox)
        except VersionsError as error:
            self.log.add("versions_left_out", reason=str(error)[:200])
            reported = {}
        return {**reported, **own_versions()}

    def _delta(self, outcome: _Outcome, log_key: str) -> Delta:
        job, report, end = self.job, self.report, outcome.end
        return Delta(
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
            host=os.uname().nodename,
            resources=NO_RESOURCES if end is None else end.resources,
            exit_code=None if end is None else end.exit_code,
            signal=None if end is None else end.signal,
            error=_storable(outcome.error),
            log_key=log_key,
            inputs=report.inputs,
            rows=outcome.rows,
            requested=job.task.resources,
            versions=self._versions(),
            wrapper_log=self.log.entries,
        )


def _code_of(error: QuantumExecError) -> ExitCode:
    if isinstance(error, task.InvalidTaskError):
        return ExitCode.INVALID_QUANTUM
    if isinstance(error, outputs.OutputError | private_registry.PrivateRegistryError):
        return ExitCode.WRONG_OUTPUTS
    return ExitCode.FAILED


def _aborted(end: TaskEnd | None, number: int) -> _Outcome:
    return _Outcome(
        AttemptStatus.ABORTED,
        end,
        error=f"stopped by {signal_name(number)} before the task ended",
        code=code_of_signal(number),
    )


def _task_failed(end: TaskEnd) -> _Outcome:
    if end.signal is not None:
        how, code = f"was killed by {signal_name(end.signal)}", code_of_signal(end.signal)
    else:
        how, code = f"ended with exit code {end.exit_code}", end.exit_code or ExitCode.FAILED
    text = _with_log_end(f"the task {how}", end.log_end)
    return _Outcome(AttemptStatus.FAILED, end, error=text, code=code)


def _with_log_end(error: str, log_end: str) -> str:
    return f"{error}; its log ends:\n{log_end}" if log_end.strip() else f"{error}; its log is empty"


def _storable(text: str | None) -> str | None:
    """An error as PostgreSQL takes it: not too long, no NUL, no lone surrogate."""
    if text is None:
        return None
    whole = text[:_ERROR_CHARACTERS].encode("utf-8", "replace").decode()
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def write_commit(
    delta: Delta,
    files: list[staging.StageOutFile],
    sandbox: Path,
    delta_file: str = names.DELTA_FILE,
) -> staging.StageOutList:
    """Write a delta and, last and by rename, the list that names it; returns the list.

    Raises
    ------
    OSError
        If the sandbox cannot be written.
    """
    sandbox_files.write_own_file(sandbox / delta_file, write_delta(delta))
    delta_key = names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)
    entry = stage_out_file(sandbox, delta_file, delta_key)
    stage_out_list = staging.StageOutList(delta.run, files, entry)
    part = sandbox / f"{names.STAGE_OUT_FILE}.part"
    sandbox_files.write_own_file(part, staging.write_stage_out_list(stage_out_list))
    if (sandbox / names.STAGE_OUT_FILE).is_dir():
        sandbox_files.clear(sandbox / names.STAGE_OUT_FILE)
    part.replace(sandbox / names.STAGE_OUT_FILE)
    return stage_out_list


def stage_out_file(sandbox: Path, name: str, key: str) -> staging.StageOutFile:
    """Measure one of our own files in a sandbox."""
    path = sandbox / name
    found = path.stat()
    return staging.StageOutFile(name, key, found.st_size, checksum_of_file(path), found.st_mtime_ns)
