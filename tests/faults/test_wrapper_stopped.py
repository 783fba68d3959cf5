# SPDX-License-Identifier: BSD-3-Clause
"""A wrapper that is told to stop, or killed, while its task runs."""

import signal
import subprocess
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode, code_of_signal
from registry import names, staging
from registry.attempt import AttemptStatus
from registry.delta import AddedRows
from tests.processes import has_ended, processes_in, wait_until
from tests.samples import RUN
from tests.wrapper_process import Sandbox, make_function_sandbox, make_sandbox

# Tells its process id and that it runs; ends with the signal, as most programs do.
LONG = "echo begun; cp {input:raw} {output:calexp}; echo $$ > part; mv part pid; exec sleep 600"


def start(sandbox: Sandbox) -> "subprocess.Popen[str]":
    """Start the wrapper and wait until its task runs."""
    process = sandbox.start()
    pid = sandbox.directory / "pid"
    wait_until(lambda: pid.exists() or process.poll() is not None, "the task runs")
    assert process.poll() is None, process.communicate()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_ends_in_an_aborted_attempt(tmp_path: Path, number: signal.Signals) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", LONG)
    process = start(sandbox)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code_of_signal(number)
    delta = sandbox.delta()
    assert delta.status is AttemptStatus.ABORTED
    assert delta.error == f"stopped by {number.name} before the task ended"
    assert (delta.exit_code, delta.signal) == (None, signal.SIGTERM)
    assert delta.rows == AddedRows()
    assert has_ended(int((sandbox.directory / "pid").read_text()))
    assert sandbox.log() == "begun\n"
    sandbox.stage_out()


def test_aborted_attempt_can_be_repeated(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", LONG)
    process = start(sandbox)
    process.terminate()
    process.communicate(timeout=30)
    sandbox.stage_out()
    aborted = sandbox.delta()
    again = make_sandbox(tmp_path)
    assert again.run()[0] == 0
    assert again.delta().attempt_id > aborted.attempt_id


def test_task_that_ends_well_after_the_stop_is_a_success(tmp_path: Path) -> None:
    end = "cp {input:raw} {output:calexp}; exit 0"
    patient = f"trap '{end}' TERM; touch pid; while :; do sleep .01; done"
    sandbox = make_sandbox(tmp_path, "sh", "-c", patient)
    process = start(sandbox)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert sandbox.delta().status is AttemptStatus.SUCCESSFUL


def test_function_task_is_stopped_as_well(tmp_path: Path) -> None:
    body = "    pathlib.Path('pid').touch()\n    time.sleep(600)"
    source = f"import pathlib, time\ndef main(repo):\n{body}"
    sandbox = make_function_sandbox(tmp_path, source)
    process = start(sandbox)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert sandbox.delta().status is AttemptStatus.ABORTED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_wrapper_leaves_nothing_to_upload_and_no_task(tmp_path: Path, number: int) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", LONG)
    process = start(sandbox)
    pid = sandbox.directory / "pid"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number
    assert sandbox.stage_out_list() == staging.StageOutList(RUN)
    wait_until(lambda: has_ended(int(pid.read_text())), "the task has ended")
    sandbox.stage_out()
    assert not list(sandbox.store.list_objects(names.control_prefix(RUN)))


def test_killed_wrapper_is_no_hindrance(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", LONG)
    process = start(sandbox)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not processes_in(sandbox.directory), "nothing runs in the sandbox")
    again = make_sandbox(tmp_path)
    assert again.run()[0] == ExitCode.SUCCESS
    assert again.delta().status is AttemptStatus.SUCCESSFUL


def test_stop_before_the_task_begins_starts_none(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "touch", "ran")
    # Nobody can be faster than the wrapper from outside, so its first step is made to wait.
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import pathlib, time\n"
        "from executor import private_registry\n"
        "create = private_registry.create\n"
        "def waiting(*arguments):\n"
        "    pathlib.Path('waiting').touch()\n"
        "    while not pathlib.Path('go').exists():\n"
        "        time.sleep(0.01)\n"
        "    return create(*arguments)\n"
        "private_registry.create = waiting\n"
    )
    sandbox.environment["PYTHONPATH"] = str(hook)
    process = sandbox.start()
    wait_until((sandbox.directory / "waiting").exists, "the wrapper waits")
    process.terminate()
    (sandbox.directory / "go").touch()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert sandbox.delta().status is AttemptStatus.ABORTED
    assert not (sandbox.directory / "ran").exists()
