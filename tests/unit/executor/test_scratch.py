# SPDX-License-Identifier: BSD-3-Clause
"""Directories of local runners: made, locked, and removed when their runner is gone."""

import fcntl
import os
from pathlib import Path

import pytest

from executor.sandbox_files import SandboxError
from executor.submit.scratch import scratch_directory


def names_in(directory: Path) -> list[str]:
    """What lies in a directory."""
    return sorted(os.listdir(directory))


def test_it_is_there_while_it_is_used(tmp_path: Path) -> None:
    with scratch_directory(tmp_path / "scratch") as directory:
        assert directory.parent == tmp_path / "scratch"
        (directory / "sandbox").mkdir()
        with scratch_directory(tmp_path / "scratch") as other:
            assert names_in(tmp_path / "scratch") == sorted([directory.name, other.name])
        assert names_in(directory) == ["lock", "sandbox"]
    assert names_in(tmp_path / "scratch") == []


@pytest.mark.parametrize("prefix", ["quantum-exec-", ".quantum-exec-"])
def test_what_a_killed_runner_left_is_removed(tmp_path: Path, prefix: str) -> None:
    (tmp_path / f"{prefix}abcdefgh").mkdir()
    (tmp_path / f"{prefix}abcdefgh" / "lock").touch()
    with scratch_directory(tmp_path) as directory:
        assert names_in(tmp_path) == [directory.name]


def test_one_that_was_killed_before_it_had_a_lock(tmp_path: Path) -> None:
    (tmp_path / ".quantum-exec-abcdefgh").mkdir()
    with scratch_directory(tmp_path) as directory:
        assert names_in(tmp_path) == [directory.name]


@pytest.mark.parametrize("name", ["quantum-exec-notes", ".quantum-exec-notes"])
def test_what_is_no_runners_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").touch()
    with scratch_directory(tmp_path):
        pass
    assert names_in(tmp_path / name) == ["thesis.tex"]


@pytest.mark.parametrize("name", ["quantum-exec-abcdefgh", ".quantum-exec-abcdefgh"])
def test_one_in_use_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with (tmp_path / name / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with scratch_directory(tmp_path):
            assert names_in(tmp_path / name) == ["lock"]


def test_place_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SandboxError, match=r"scratch .*file: expected a directory to write in"),
        scratch_directory(tmp_path / "file"),
    ):
        pass
