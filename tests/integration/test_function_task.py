# SPDX-License-Identifier: BSD-3-Clause
"""Tasks that are Python functions, through ``quantum-exec run``."""

from pathlib import Path

import pytest
import yaml

from executor.exit_codes import ExitCode
from registry.attempt import AttemptStatus
from registry.delta import MetricRow
from registry.job import TaskCall
from registry.model import DimensionRecord
from tests.samples import RAW_CONTENT
from tests.wrapper_process import Sandbox, make_function_sandbox

CALIBRATE = """
def main(repo):
    raw = repo.get("raw")
    repo.log.info("%d bytes for %s", len(raw), repo.config["who"])
    airmass = repo.dimension_record("exposure")["airmass"]
    repo.metric("airmass", airmass)
    repo.add_dimension_record("calibration", repo.data_id, {"zero_point": 27})
    repo.put(raw.upper(), "calexp")
"""


def outcome(sandbox: Sandbox) -> tuple[int, AttemptStatus, bool]:
    """Run the wrapper; returns its exit code, and what the delta says."""
    code, _ = sandbox.run()
    return code, sandbox.delta().status, sandbox.delta().no_work


def test_function_reads_and_writes_its_repo(tmp_path: Path) -> None:
    sandbox = make_function_sandbox(tmp_path, CALIBRATE, config={"who": "tests"})
    assert outcome(sandbox) == (0, AttemptStatus.SUCCESSFUL, False), sandbox.log()
    assert sandbox.output.read_bytes() == RAW_CONTENT.upper()
    rows = sandbox.delta().rows
    assert rows.metric == [MetricRow("airmass", 1.25)]
    data_id = sandbox.job.data_id
    assert rows.dimension_record == [DimensionRecord("calibration", data_id, {"zero_point": 27})]
    assert f"calibrate: {len(RAW_CONTENT)} bytes for tests" in sandbox.log()


def test_no_work_is_a_success(tmp_path: Path) -> None:
    source = """
from executor.repo import NoWorkFoundError
def main(repo):
    raise NoWorkFoundError("no star is bright enough")
"""
    sandbox = make_function_sandbox(tmp_path, source)
    assert outcome(sandbox) == (0, AttemptStatus.SUCCESSFUL, True)
    assert sandbox.log() == "no work: no star is bright enough\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("RepeatableQuantumError", ExitCode.REPEATABLE),
        ("InvalidQuantumError", ExitCode.INVALID_QUANTUM),
    ],
)
def test_exceptions_that_tell_the_pool_what_to_do(
    tmp_path: Path, error: str, code: ExitCode
) -> None:
    source = f"""
from executor.repo import {error}
def main(repo):
    raise {error}("no guide star")
"""
    sandbox = make_function_sandbox(tmp_path, source)
    assert outcome(sandbox) == (code, AttemptStatus.FAILED, False)
    assert 'tasks.py", line 4, in main' in sandbox.log()
    assert sandbox.log().endswith(f"executor.repo.{error}: no guide star\n")


@pytest.mark.parametrize("end", ["", "; raise RuntimeError"])
def test_versions_are_in_the_delta_of_a_failure_too(tmp_path: Path, end: str) -> None:
    source = f"""
import yaml
def main(repo):
    repo.put(b"", "calexp"); repo.version("catalog", "DR4"){end}
"""
    sandbox = make_function_sandbox(tmp_path, source)
    assert outcome(sandbox)[0] == (1 if end else 0)
    versions = sandbox.delta().versions
    assert (versions["catalog"], versions["yaml"]) == ("DR4", yaml.__version__)


def test_exception_is_in_the_error(tmp_path: Path) -> None:
    source = "def main(repo):\n    raise RuntimeError('seeing of 9 arcsec')\n"
    sandbox = make_function_sandbox(tmp_path, source)
    assert outcome(sandbox) == (1, AttemptStatus.FAILED, False)
    error = sandbox.delta().error or ""
    assert "the task ended with exit code 1" in error
    assert 'tasks.py", line 2, in main' in error
    assert error.endswith("RuntimeError: seeing of 9 arcsec\n")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("tasks:missing", "has no attribute 'missing'"),
        ("no_such_module:main", "No module named 'no_such_module'"),
        ("tasks", "has no attribute ''"),
        ("broken:main", "No module named 'not_installed_here'"),
    ],
)
def test_function_that_cannot_be_imported_needs_no_retry(
    tmp_path: Path, function: str, message: str
) -> None:
    task = TaskCall(function=function)
    sandbox = make_function_sandbox(tmp_path, "", task=task)
    (tmp_path / "modules" / "broken.py").write_text("import not_installed_here\n")
    assert outcome(sandbox) == (ExitCode.INVALID_QUANTUM, AttemptStatus.FAILED, False)
    error = sandbox.delta().error or ""
    assert f"function '{function}': expected module:function that this machine can import" in error
    assert message in error


def test_exit_code_of_the_function_is_passed_through(tmp_path: Path) -> None:
    sandbox = make_function_sandbox(tmp_path, "def main(repo):\n    raise SystemExit(42)\n")
    assert outcome(sandbox) == (42, AttemptStatus.FAILED, False)


def test_module_may_lie_in_the_sandbox(tmp_path: Path) -> None:
    sandbox = make_function_sandbox(tmp_path, "")
    (sandbox.directory / "tasks.py").write_text(CALIBRATE.replace('repo.config["who"]', "'x'"))
    sandbox.environment.clear()
    assert outcome(sandbox) == (0, AttemptStatus.SUCCESSFUL, False), sandbox.log()


def test_function_has_no_memory_of_the_wrapper(tmp_path: Path) -> None:
    source = """
import os
def main(repo):
    repo.put(f"{os.getpid()} {os.getppid()} {os.getcwd()}".encode(), "calexp")
"""
    sandbox = make_function_sandbox(tmp_path, source)
    process = sandbox.start()
    process.communicate(timeout=60)
    pid, parent, directory = sandbox.output.read_text().split()
    assert int(parent) == process.pid != int(pid)
    assert directory == str(sandbox.directory)
