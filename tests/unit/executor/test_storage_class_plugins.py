# SPDX-License-Identifier: BSD-3-Clause
"""Storage classes of other packages, found by entry point."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor import storage_classes
from executor.storage_classes import (
    ENTRY_POINTS,
    StorageClassPluginError,
    UnknownStorageClassError,
    storage_class,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "graph-file.md"


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of installed packages, with what was found there before forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    (source,) = re.findall(r"```python\n(from [^`]*StorageClass\([^`]*)```", DOCUMENT.read_text())
    (tmp_path / "storage_of_text.py").write_text(source)
    yield tmp_path
    storage_classes._registered.cache_clear()


def install(packages: Path, package: str, *entry_points: str) -> None:
    """Install a package that consists of its entry points."""
    directory = packages / f"{package}-1.0.dist-info"
    directory.mkdir()
    (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "\n".join([f"[{ENTRY_POINTS}]", *entry_points])
    (directory / "entry_points.txt").write_text(lines)


def test_it_is_found_by_its_name(packages: Path) -> None:
    install(packages, "text-storage", "Text = storage_of_text:TEXT")
    found = storage_class("Text")
    found.write("café", packages / "x")
    assert found.read(packages / "x") == "café"
    assert found.read_bytes and found.write_bytes
    assert found.read_bytes(found.write_bytes("café")) == "café"


def test_ours_cannot_be_replaced(packages: Path) -> None:
    install(packages, "text-storage", "Json = storage_of_text:TEXT")
    storage_class("Json").write([], packages / "x")
    assert (packages / "x").read_text() == "[]\n"


def test_unknown_one_is_told_with_those_that_are_registered(packages: Path) -> None:
    install(packages, "text-storage", "Text = storage_of_text:TEXT")
    with pytest.raises(UnknownStorageClassError, match=r"'Parquet', 'Text', 'Yaml'\], found 'Txt'"):
        storage_class("Txt")


def test_two_packages_with_one_name_are_told(packages: Path) -> None:
    install(packages, "text-storage", "Text = storage_of_text:TEXT")
    install(packages, "other-storage", "Text = other:TEXT")
    with pytest.raises(StorageClassPluginError) as caught:
        storage_class("Text")
    assert str(caught.value) == (
        f"storage class 'Text': expected one entry point in {ENTRY_POINTS!r}, found other:TEXT of "
        "other-storage, storage_of_text:TEXT of text-storage"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:TEXT", "No module named 'no_such_module'"),
        ("storage_of_text:OTHER", "has no attribute 'OTHER'"),
        ("broken_storage:TEXT", "ZeroDivisionError: division by zero"),
        ("storage_of_text:__name__", r"expected an instance of .*StorageClass, found str"),
    ],
)
def test_broken_one_is_told(packages: Path, value: str, message: str) -> None:
    (packages / "broken_storage.py").write_text("1 / 0\n")
    install(packages, "text-storage", f"Text = {value}")
    with pytest.raises(StorageClassPluginError, match=message) as caught:
        storage_class("Text")
    assert str(caught.value).startswith(f"storage class 'Text': entry point '{value}'")
