# SPDX-License-Identifier: BSD-3-Clause
"""A bundle: its sizes and bytes, and its programs on a Python that has nothing else."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from executor.bundle.bundle_record import BundleError, read_bundle
from executor.bundle.submission import publish_worker
from executor.exit_codes import ExitCode
from registry import names
from registry.errors import InvalidNameError
from registry.job import write_job
from tests.fix_bundle import BARE_PYTHON, make_bundle
from tests.plugin_process import N_SPACES, read_ads, write_infile
from tests.samples import QUANTUM_ID, RAW_CONTENT, RAW_KEY, RUN, make_job
from tests.wrapper_process import Sandbox, make_function_sandbox, make_sandbox
from transfer_plugins.checksums import checksum_of_file
from transfer_plugins.deltas import standing_of
from transfer_plugins.object_store import open_store


def run(archive: Path, sandbox: Sandbox, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the worker archive in a sandbox, as a job does: by its name in this directory."""
    shutil.copy(archive, sandbox.directory / names.WORKER_ARCHIVE)
    return subprocess.run(
        [*BARE_PYTHON, names.WORKER_ARCHIVE, *words],
        cwd=sandbox.directory,
        env={"PATH": os.environ["PATH"], **sandbox.environment},
        capture_output=True,
        text=True,
    )


def test_sizes_and_checksums_are_as_recorded(bundle: Path) -> None:
    record = read_bundle(bundle)
    plugin, worker = bundle / "quantum_exec_plugin", bundle / "worker.pyz"
    assert plugin.stat().st_size == record.plugin.size_bytes <= 2_000_000
    assert worker.stat().st_size == record.worker.size_bytes <= 10_000_000
    assert record.worker_key == f"quantum-exec/workers/{checksum_of_file(worker)[7:]}.pyz"
    assert plugin.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(plugin, os.X_OK)


def test_same_programs_give_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    make_bundle(tmp_path / "other", env=environment)
    for name in ("quantum_exec_plugin", "worker.pyz"):
        assert checksum_of_file(tmp_path / "other" / name) == checksum_of_file(bundle / name)


def test_no_program_of_access_points_is_in_it(bundle: Path) -> None:
    for name in ("quantum_exec_plugin", "worker.pyz"):
        members = zipfile.ZipFile(bundle / name).namelist()
        assert not [m for m in members if m.startswith(("merger", "executor/submit"))]
        assert [m for m in members if "licences/botocore" in m]
        assert {m.split("/")[3] for m in members if "botocore/data/s" in m} <= {
            *("s3", "sts", "sso", "sso-oidc", "sdk-default-configuration.json")
        }


def test_no_run_can_take_the_place_of_worker_archives() -> None:
    with pytest.raises(InvalidNameError, match="quantum-exec"):
        names.check_run("quantum-exec/workers")


def test_command_runs(bundle: Path, tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    done = run(bundle / "worker.pyz", sandbox, "run")
    assert done.returncode == 0, done.stderr
    assert sandbox.output.read_bytes() == RAW_CONTENT


def test_function_runs(bundle: Path, tmp_path: Path) -> None:
    source = (
        "import sys\ndef main(repo):\n"
        "    assert 'packages' not in sys.path[1]\n"
        "    repo.put(repo.get('raw'), 'calexp')\n"
    )
    sandbox = make_function_sandbox(tmp_path, source)
    done = run(bundle / "worker.pyz", sandbox, "run")
    assert done.returncode == 0, done.stderr
    assert len(sandbox.delta().rows.dataset) == 1


def test_runs_by_uri_of_s3(
    bundle: Path, tmp_path: Path, datastore: str, s3_environment: dict[str, str]
) -> None:
    store = open_store(datastore)
    store.put(RAW_KEY, RAW_CONTENT)
    store.put(names.job_key(RUN, QUANTUM_ID), write_job(make_job()))
    command = [*BARE_PYTHON, bundle / "worker.pyz", "run"]
    done = subprocess.run(
        [*command, f"{datastore}/{names.job_key(RUN, QUANTUM_ID)}"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **s3_environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert standing_of(store, RUN, QUANTUM_ID).counting is not None


OLD_PYTHON = """
import runpy, sys
archive = sys.argv.pop(1)
sys.argv[0] = archive
sys.version_info = (3, 9, 2)
runpy.run_path(archive, run_name="__main__")
"""


def test_python_that_is_too_old_is_told_in_ads(bundle: Path, tmp_path: Path) -> None:
    write_infile(tmp_path / "in", [("qs3job://b/k", tmp_path / 'a "b"')])
    (tmp_path / "out").write_bytes(b" " * N_SPACES)
    words = ["-infile", str(tmp_path / "in"), "-outfile", str(tmp_path / "out")]
    command: list[str | Path] = [
        sys.executable,
        "-c",
        OLD_PYTHON,
        bundle / "quantum_exec_plugin",
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    (ad,) = read_ads((tmp_path / "out").read_text())
    assert ad["TransferSuccess"] is False
    assert (ad["TransferUrl"], ad["TransferFileName"]) == ("qs3job://b/k", f'{tmp_path}/a "b"')
    assert "expected Python 3.11 or later as python3" in ad["TransferError"]
    assert "found 3.9" in done.stderr


def test_worker_tells_of_python_that_is_too_old(bundle: Path) -> None:
    command: list[str | Path] = [sys.executable, "-c", OLD_PYTHON, bundle / "worker.pyz", "run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == ExitCode.SANDBOX_UNUSABLE
    assert done.stderr.startswith("quantum-exec: expected Python 3.11 or later on ")


def test_archive_is_uploaded_once(bundle: Path, tmp_path: Path, datastore: str) -> None:
    report = make_bundle(tmp_path / "b", "--datastore", datastore)
    store = open_store(datastore)
    assert report["datastores"] == [datastore]
    assert store.head(report["worker_key"]).checksum == report["worker"]["checksum"]
    store.put(report["worker_key"], b"damaged")
    publish_worker(tmp_path / "b", store)
    assert store.measure(report["worker_key"])[1] == report["worker"]["checksum"]


@pytest.mark.parametrize("name", ["quantum_exec_plugin", "worker.pyz", "bundle.json"])
def test_damaged_bundle_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    with (tmp_path / "b" / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=name):
        read_bundle(tmp_path / "b")


def test_directory_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a directory made by quantum-exec bundle"):
        read_bundle(tmp_path)


def refused(*words: Any) -> str:
    """What the command says on standard error when it ends with 2."""
    program = Path(sys.executable).with_name("quantum-exec")
    command = [program, "bundle", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == ExitCode.USAGE, done.stderr
    return done.stderr


def test_interpreter_must_be_an_absolute_path(tmp_path: Path) -> None:
    assert "expected an absolute path" in refused("--output", tmp_path, "--python", "python3")


def test_record_can_be_read_by_people(bundle: Path) -> None:
    record = json.loads((bundle / "bundle.json").read_text())
    assert record["python_needed"] == "3.11"
    assert record["compiled_for"] == f"{sys.version_info.major}.{sys.version_info.minor}"
