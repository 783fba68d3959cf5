# SPDX-License-Identifier: BSD-3-Clause
"""A task from its start to the end of its last process: log, limits, signals, resources."""

import fcntl
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from executor import process_tree
from executor.exit_codes import ExitCode
from executor.guardian import Guardian
from executor.limits import OverLimit, Watch
from executor.parent_death import being_subreaper, end_with_parent
from executor.stop_signal import StopSignal, send_to_group
from executor.task import InvalidTaskError
from executor.task_log import TaskLog
from executor.vacate_time import seconds_for_task
from registry import names
from registry.delta import ResourceUse
from registry.job import ResourceRequest

_KILL_AFTER_S = 20.0
_PIPE_BYTES = 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_FLUSH_S = 1.0
# Where the kernel has no pidfd_open (before 5.3), the child is asked this often.
_POLL_MS = 20
_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended.

    By ``exit_code`` or by ``signal``; ``stopped_by`` names our own SIGTERM or SIGINT, ``over`` the
    limit for which it was ended. ``n_left_running`` processes of it were killed afterwards.
    """

    exit_code: int | None
    signal: int | None
    stopped_by: int | None
    resources: ResourceUse
    over: OverLimit | None = None
    n_left_running: int = 0
    log_end: str = ""


def run_task(
    command: list[str],
    environment: Mapping[str, str],
    sandbox: Path,
    stop: StopSignal,
    request: ResourceRequest,
) -> TaskEnd:
    """Run a task until none of its processes is left, its output in the log of the sandbox.

    Raises
    ------
    InvalidTaskError
        If the program cannot be started.
    """
    marker = f"QUANTUM_EXEC_ATTEMPT_ID={environment['QUANTUM_EXEC_ATTEMPT_ID']}"
    log = TaskLog(sandbox / names.TASK_LOG)
    try:
        with being_subreaper(), Guardian(marker) as guardian:
            ours = {guardian.pid, *process_tree.children_of(os.getpid())}
            read_before, written_before = process_tree.io_bytes()
            supervision = _Supervision(stop, log, Watch(request, sandbox), ours)
            end = supervision.run(command, environment, sandbox)
            read, written = process_tree.io_bytes()
    finally:
        log.close()
    # The log went through this process as well.
    io = (read - read_before - log.total_bytes, written - written_before - log.written_bytes)
    return end.told(max(0, io[0]), max(0, io[1]))


@dataclass
class _Ended:
    """What is known when all processes are gone."""

    status: int
    usage: resource.struct_rusage
    reaped: process_tree.Reaped
    wall_s: float
    supervision: "_Supervision"

    def told(self, read_bytes: int, write_bytes: int) -> TaskEnd:
        code = os.waitstatus_to_exitcode(self.status)
        watch, over = self.supervision.watch, self.supervision.over
        use = ResourceUse(
            round(self.wall_s, 6),
            round(self.usage.ru_utime + self.reaped.cpu_user_s, 6),
            round(self.usage.ru_stime + self.reaped.cpu_system_s, 6),
            # Linux gives ru_maxrss in KiB (getrusage(2)).
            max(watch.max_rss_bytes, self.usage.ru_maxrss * 1024, self.reaped.max_rss_bytes),
            read_bytes,
            write_bytes,
            watch.max_scratch_bytes,
        )
        if code == -signal.SIGKILL and over is None and self.supervision.stop.received is None:
            over = watch.killed_for_memory(use.max_rss_bytes)
        return TaskEnd(
            code if code >= 0 else None,
            -code if code < 0 else None,
            self.supervision.stop.received,
            use,
            over,
            self.reaped.n_processes,
            self.supervision.log.end(2000).decode(errors="replace"),
        )


class _Supervision:
    """One task while it runs."""

    def __init__(self, stop: StopSignal, log: TaskLog, watch: Watch, ours: set[int]) -> None:
        self.stop = stop
        self.log = log
        self.watch = watch
        self.over: OverLimit | None = None
        self._ours = ours
        self._kill_at: float | None = None
        self._flush_at = time.monotonic() + _FLUSH_S

    def run(self, command: list[str], environment: Mapping[str, str], sandbox: Path) -> _Ended:
        """Start the task, see to it while it runs, end what it left, and read its log out."""
        started = time.monotonic()
        read_end, write_end = os.pipe()
        try:
            with suppress(OSError):
                fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            os.set_blocking(read_end, False)
            try:
                child = _start(command, environment, sandbox, write_end)
            finally:
                os.close(write_end)
            self.stop.watch(child.pid)
            status, usage = self._wait(child.pid, read_end)
            # wait4 took the status, so Popen must not ask for it again.
            child.returncode = os.waitstatus_to_exitcode(status)
            wall_s = time.monotonic() - started
            self.stop.watch(None)
            send_to_group(child.pid, signal.SIGKILL)
            reaped = process_tree.end_descendants(self._ours)
            self._drain(read_end)
        finally:
            os.close(read_end)
        self.watch.measure_scratch()
        return _Ended(status, usage, reaped, wall_s, self)

    def _wait(self, pid: int, read_end: int) -> tuple[int, resource.struct_rusage]:
        poll = select.poll()
        poll.register(read_end, select.POLLIN)
        pid_fd = _open_pid(pid)
        if pid_fd is not None:
            poll.register(pid_fd, select.POLLIN)
        try:
            while True:
                found, status, usage = os.wait4(pid, os.WNOHANG)
                if found:
                    return status, usage
                due_ms = int(self._due_in_s() * 1000) + 1
                events = poll.poll(due_ms if pid_fd is not None else min(due_ms, _POLL_MS))
                if any(fd == read_end for fd, _ in events) and not self._read(read_end):
                    poll.unregister(read_end)
                self._look(pid)
        finally:
            if pid_fd is not None:
                os.close(pid_fd)

    def _due_in_s(self) -> float:
        if self.over is None:
            return self.watch.due_in_s()
        return _FLUSH_S if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())

    def _read(self, read_end: int) -> bool:
        """Take what the task has printed; false when nobody can print any more."""
        try:
            chunk = os.read(read_end, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        self.log.write(chunk)
        return bool(chunk)

    def _drain(self, read_end: int) -> None:
        """Take what is left in the pipe; all who could write to it are dead."""
        deadline = time.monotonic() + _DRAIN_S
        while time.monotonic() < deadline and select.select([read_end], [], [], 0)[0]:
            if not self._read(read_end):
                return

    def _look(self, pid: int) -> None:
        now = time.monotonic()
        if now >= self._flush_at:
            self.log.flush()
            self._flush_at = now + _FLUSH_S
        if self.over is None and self.watch.due_in_s() == 0:
            pids = process_tree.descendants_of(os.getpid(), self._ours)
            self.over = self.watch.sample(pids)
            if self.over is not None:
                self._end_for_limit(pid, self.over)
        if self.stop.received is not None and self._kill_at is None:
            self._kill_at = now + seconds_for_task()
        if self._kill_at is not None and now >= self._kill_at:
            send_to_group(pid, signal.SIGKILL)
            self._kill_at = now + _KILL_AFTER_S

    def _end_for_limit(self, pid: int, over: OverLimit) -> None:
        """Time may be needed to end well; memory and disk are not there to be waited for."""
        if over.code is ExitCode.OVER_WALL_TIME:
            send_to_group(pid, signal.SIGTERM)
            self._kill_at = time.monotonic() + _KILL_AFTER_S
        else:
            send_to_group(pid, signal.SIGKILL)


def _start(
    command: list[str], environment: Mapping[str, str], sandbox: Path, output: int
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=sandbox,
            env=dict(environment),
            start_new_session=True,
            # Safe here: the wrapper has no other threads.
            preexec_fn=end_with_parent,
        )
    except (OSError, ValueError, IndexError) as error:
        raise InvalidTaskError(f"task cannot be started: {command[:1]!r}: {error}") from error


def _open_pid(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


NO_RESOURCES = ResourceUse(0.0, 0.0, 0.0, 0)
"""Of an attempt whose task never began."""
