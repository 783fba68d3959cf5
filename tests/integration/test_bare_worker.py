# SPDX-License-Identifier: BSD-3-Clause
"""A worker on which nothing but this project is installed: no driver, no pyarrow, no typer."""

import fnmatch
import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from executor.exit_codes import ExitCode
from registry import names
from registry.attempt import AttemptStatus
from registry.job import DataMode, write_job
from tests.samples import QUANTUM_ID, RAW_CONTENT, RAW_KEY, RUN, make_job
from tests.wrapper_process import Sandbox, make_function_sandbox, make_sandbox
from transfer_plugins.deltas import standing_of
from transfer_plugins.object_store import ObjectStore, open_store

ROOT = Path(__file__).parents[2]
# The merger is for access points; everything else is on a worker as the wheel has it.
PACKAGES = ("registry", "transfer_plugins", "executor")
NOT_INSTALLED = (
    *("pyarrow", "sqlalchemy", "alembic", "psycopg", "htcondor", "htcondor2", "msgspec", "typer"),
    *("rich", "yaml", "numpy", "astropy", "boto3", "pip"),
)
BOTO3 = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")


def make_python(directory: Path, *also: str) -> Path:
    """Make a Python with the project's packages and, of all others, only those named."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (site,) = directory.glob("lib/python3*/site-packages")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in PACKAGES:
        wanted = ("*.py", *settings["package-data"].get(package, []))
        shutil.copytree(ROOT / package, site / package, ignore=all_but(*wanted))
    for name in also:
        found = Path(str(importlib.import_module(name).__file__))
        found = found.parent if found.stem == "__init__" else found
        (site / found.name).symlink_to(found)
    return directory / "bin" / "python"


def all_but(*patterns: str) -> Any:
    """What `shutil.copytree` is to leave out: files that a wheel does not have."""

    def left_out(directory: str, found: list[str]) -> set[str]:
        return {
            name
            for name in found
            if name == "__pycache__"
            or not (
                Path(directory, name).is_dir()
                or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
            )
        }

    return left_out


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with this project and nothing else."""
    return make_python(tmp_path_factory.mktemp("worker") / "bare")


@pytest.fixture(scope="module")
def s3_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with boto3."""
    return make_python(tmp_path_factory.mktemp("worker") / "s3", *BOTO3)


def call(python: Path, cwd: Path, *words: str, **environment: str) -> Any:
    """Run a command of this Python."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, *words],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def run(python: Path, sandbox: Sandbox) -> None:
    """Run the quantum of a sandbox to success."""
    done = call(python, sandbox.directory, "-m", "executor", "run", **sandbox.environment)
    assert done.returncode == 0, done.stderr
    assert sandbox.delta().status is AttemptStatus.SUCCESSFUL
    assert len(sandbox.delta().rows.dataset) == 1


def test_nothing_else_is_installed(bare_python: Path, tmp_path: Path) -> None:
    code = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    done = call(bare_python, tmp_path, "-c", code, *NOT_INSTALLED, "executor", "merger")
    assert done.stdout == "['executor']\n", done.stderr


def test_command_runs(bare_python: Path, tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    run(bare_python, sandbox)
    assert sandbox.output.read_bytes() == RAW_CONTENT
    sandbox.stage_out()


def test_function_runs(bare_python: Path, tmp_path: Path) -> None:
    source = "def main(repo):\n    repo.put(repo.get('raw'), 'calexp')\n    repo.metric('n', 2)\n"
    sandbox = make_function_sandbox(tmp_path, source)
    run(bare_python, sandbox)
    assert [(row.name, row.value) for row in sandbox.delta().rows.metric] == [("n", 2.0)]


def publish(store: ObjectStore, mode: DataMode = DataMode.STAGED) -> str:
    """Put a job and its input into a datastore; returns the URI of the job."""
    key = names.job_key(RUN, QUANTUM_ID)
    store.put(RAW_KEY, RAW_CONTENT)
    store.put(key, write_job(make_job(data_mode=mode)))
    return f"{store.uri}/{key}"


@pytest.mark.parametrize("mode", DataMode)
def test_runs_by_uri_of_a_directory(bare_python: Path, tmp_path: Path, mode: DataMode) -> None:
    store = open_store((tmp_path / "store").as_uri())
    done = call(bare_python, tmp_path, "-m", "executor", "run", publish(store, mode))
    assert done.returncode == 0, done.stderr
    assert standing_of(store, RUN, QUANTUM_ID).counting is not None


def test_runs_by_uri_of_s3_with_boto3(s3_python: Path, tmp_path: Path, datastore: str) -> None:
    store = open_store(datastore)
    done = call(s3_python, tmp_path, "-m", "executor", "run", publish(store))
    assert done.returncode == 0, done.stderr
    assert standing_of(store, RUN, QUANTUM_ID).counting is not None


def test_s3_without_boto3_says_so(bare_python: Path, tmp_path: Path) -> None:
    uri = "s3://bucket/r/quantum-exec/jobs/x.json"
    done = call(bare_python, tmp_path, "-m", "executor", "run", uri)
    assert done.returncode == ExitCode.STAGE_IN_FAILED
    assert done.stderr.startswith("quantum-exec: expected the Python package 'boto3', found none")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run-local", "submit", "shell", "--help"])
def test_other_commands_say_what_is_missing(
    bare_python: Path, tmp_path: Path, command: str
) -> None:
    done = call(bare_python, tmp_path, "-m", "executor", command)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.startswith("quantum-exec: expected the Python package 'typer', found none")
    assert done.stderr.count("\n") == 1


def test_plugin_tells_what_it_can(bare_python: Path, tmp_path: Path) -> None:
    """HTCondor asks when it starts, and takes a plugin that fails then out for good."""
    done = call(bare_python, tmp_path, "-m", "transfer_plugins.htcondor_plugin", "-classad")
    assert done.returncode == 0, done.stderr
    assert "SupportedMethods" in done.stdout


def test_help_of_run_is_there(bare_python: Path, tmp_path: Path) -> None:
    done = call(bare_python, tmp_path, "-m", "executor", "run", "--help")
    assert done.returncode == 0
    assert "s3://bucket/repo" in done.stdout
    assert "exit codes" in done.stdout
