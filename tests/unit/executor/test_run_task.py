# SPDX-License-Identifier: BSD-3-Clause
"""A task as a child process: its log, its end, what it used, and signals."""

import gzip
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from executor import task_supervision
from executor.stop_signal import StopSignal
from executor.task import InvalidTaskError
from executor.task_supervision import TaskEnd, run_task
from registry import names
from registry.job import ResourceRequest
from tests.processes import has_ended, wait_until

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GREETING": "hello",
    "QUANTUM_EXEC_ATTEMPT_ID": "0192f0c1-0000-7000-8000-000000000000",
}
NO_LIMITS = ResourceRequest()


def run(sandbox: Path, *command: str, request: ResourceRequest = NO_LIMITS) -> TaskEnd:
    """Run a command without being told to stop."""
    with StopSignal() as stop:
        return run_task(list(command), ENVIRONMENT, sandbox, stop, request)


def log_of(sandbox: Path) -> str:
    """What the task wrote."""
    return gzip.decompress((sandbox / names.TASK_LOG).read_bytes()).decode()


def test_output_and_error_go_to_the_log(tmp_path: Path) -> None:
    end = run(tmp_path, "sh", "-c", "echo $GREETING; echo oh >&2; pwd; cat; exit 0")
    assert (end.exit_code, end.signal, end.stopped_by) == (0, None, None)
    assert log_of(tmp_path) == f"hello\noh\n{tmp_path}\n"


def test_exit_code_is_told(tmp_path: Path) -> None:
    end = run(tmp_path, "sh", "-c", "exit 7")
    assert (end.exit_code, end.signal) == (7, None)


def test_death_by_signal_is_told(tmp_path: Path) -> None:
    end = run(tmp_path, "sh", "-c", "kill -SEGV $$")
    assert (end.exit_code, end.signal) == (None, signal.SIGSEGV)


@pytest.mark.parametrize("command", [["no-such-program"], ["/"], ["a\0b"], []])
def test_program_that_cannot_be_started_is_told(tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(InvalidTaskError, match="task cannot be started: "):
        run(tmp_path, *command)


def test_resources_are_those_of_task_and_children(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    busy = "x = bytearray(60_000_000); import time\nwhile time.process_time() < 0.3: pass"
    end = run(tmp_path, sys.executable, "-c", code, busy)
    used = end.resources
    assert used.cpu_user_s + used.cpu_system_s >= 0.3
    assert used.wall_s >= 0.3
    assert 60_000_000 < used.max_rss_bytes < 2_000_000_000


def test_what_the_task_left_running_is_ended(tmp_path: Path) -> None:
    run(tmp_path, "sh", "-c", "sleep 600 & echo $! > pid")
    left = int((tmp_path / "pid").read_text())
    wait_until(lambda: has_ended(left), "the child of the task is gone")


def stop_when(path: Path, *signals: int) -> threading.Thread:
    """Send signals to this process as soon as there is a file."""

    def send() -> None:
        wait_until(path.exists, f"{path} is there")
        for number in signals:
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_passed_on_to_the_whole_group(tmp_path: Path, number: int) -> None:
    thread = stop_when(tmp_path / "ready", number)
    end = run(tmp_path, "sh", "-c", "sleep 600 & echo $! > pid; touch ready; wait")
    thread.join()
    assert (end.exit_code, end.signal, end.stopped_by) == (None, signal.SIGTERM, number)
    left = int((tmp_path / "pid").read_text())
    wait_until(lambda: has_ended(left), "the child of the task is gone")


def test_task_may_end_well_after_it_was_told_to_stop(tmp_path: Path) -> None:
    thread = stop_when(tmp_path / "ready", signal.SIGTERM)
    code = "trap 'exit 0' TERM; touch ready; while :; do sleep 0.01; done"
    end = run(tmp_path, "sh", "-c", code)
    thread.join()
    assert (end.exit_code, end.stopped_by) == (0, signal.SIGTERM)


def test_task_that_does_not_listen_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_supervision, "_KILL_AFTER_S", 0.1)
    thread = stop_when(tmp_path / "ready", signal.SIGTERM)
    end = run(tmp_path, "sh", "-c", "trap '' TERM; touch ready; while :; do sleep 0.01; done")
    thread.join()
    assert (end.signal, end.stopped_by) == (signal.SIGKILL, signal.SIGTERM)


def test_signal_before_the_task_began_reaches_it(tmp_path: Path) -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        end = run_task(["sleep", "600"], ENVIRONMENT, tmp_path, stop, NO_LIMITS)
    assert end.signal == signal.SIGTERM


def test_signals_are_as_before_afterwards(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run(tmp_path, "true")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
