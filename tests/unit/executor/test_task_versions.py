# SPDX-License-Identifier: BSD-3-Clause
"""The versions that a task reports, and those of the modules it imported."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from executor.task_versions import report, report_modules
from executor.versions import reported_versions
from registry import names


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a task reports, in a process that has imported these modules only."""
    modules = {name: ModuleType(name) for name in ("numpy", "numpy.lib", "_hidden", "json")}
    for module in modules.values():
        module.__dict__["__version__"] = "1.2.3"
    monkeypatch.setattr(sys, "modules", modules)
    return tmp_path / names.VERSIONS_FILE


def test_packages_of_others_are_reported(path: Path, tmp_path: Path) -> None:
    report_modules(path)
    assert reported_versions(tmp_path) == {"numpy": "1.2.3"}


def test_what_the_task_reported_is_kept(path: Path, tmp_path: Path) -> None:
    report(path, "numpy", "of my own")
    report(path, "tool", "7")
    report_modules(path)
    assert reported_versions(tmp_path) == {"numpy": "of my own", "tool": "7"}


@pytest.mark.parametrize("version", [None, 1, "", "x" * 201, "a\0b"])
def test_what_is_no_version_is_left_out(path: Path, tmp_path: Path, version: object) -> None:
    sys.modules["numpy"].__dict__["__version__"] = version
    report_modules(path)
    assert reported_versions(tmp_path) == {}


def test_version_that_is_computed_is_not_asked_for(path: Path) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> NoReturn:
            raise AssertionError(f"{name} was asked for")

    sys.modules["numpy"] = Lazy("numpy")
    report_modules(path)
    assert not path.exists()


@pytest.mark.parametrize(("n_reported", "n_modules"), [(0, 50), (120, 30), (150, 0)])
def test_there_are_never_too_many(
    path: Path, tmp_path: Path, n_reported: int, n_modules: int
) -> None:
    path.write_text(json.dumps({f"mine {number}": "1" for number in range(n_reported)}))
    for number in range(200):
        sys.modules[f"module{number}"] = sys.modules["numpy"]
    report_modules(path)
    assert len(reported_versions(tmp_path)) == n_reported + n_modules


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_damaged_file_is_begun_anew(path: Path, tmp_path: Path, content: str) -> None:
    path.write_text(content)
    report(path, "tool", "7")
    assert reported_versions(tmp_path) == {"tool": "7"}
