# SPDX-License-Identifier: BSD-3-Clause
"""The reading process is started ahead where many deltas lie, and is not left behind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from merger import reading_start
from merger.frames import read_frame, write_frame
from registry import names
from transfer_plugins.object_store import DirectoryObjectStore

RUN = "u/me/night1"


def store_of(root: Path, n_deltas: int) -> DirectoryObjectStore:
    directory = root / names.delta_prefix(RUN)
    directory.mkdir(parents=True)
    for number in range(n_deltas):
        (directory / f"{number}.json").touch()
    return DirectoryObjectStore(root)


@pytest.mark.parametrize("n_deltas", [0, reading_start.FEW_DELTAS])
def test_few_deltas_need_none(tmp_path: Path, n_deltas: int) -> None:
    reading_start.start_ahead(store_of(tmp_path, n_deltas), RUN)
    assert reading_start.take() is None


def test_many_deltas_have_one_that_is_taken_once(tmp_path: Path) -> None:
    store = store_of(tmp_path, reading_start.FEW_DELTAS + 1)
    reading_start.start_ahead(store, RUN)
    child = reading_start.take()
    assert child is not None
    assert reading_start.take() is None
    request: dict[str, Any] = {
        "uri": store.uri,
        "endpoint_url": None,
        "run": RUN,
        "graphs": [],
        "threads": 1,
    }
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        for frame in (request, {"keys": list[str]()}):
            write_frame(child.stdin, frame)
        answer = read_frame(child.stdout)
    assert answer is not None
    assert answer[0]["error"][0] == "graph_not_found"


def test_who_asked_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "merger.reading_process"]
    request: dict[str, Any] = {"uri": f"file://{tmp_path}", "endpoint_url": None, "run": RUN}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        for frame in (request | {"graphs": [], "threads": 1}, {"keys": list[str]()}):
            write_frame(child.stdin, frame)
        assert child.wait(timeout=60) == 0
        assert child.stderr.read() == b""


def test_nobody_took_it(tmp_path: Path) -> None:
    reading_start.start_ahead(store_of(tmp_path, reading_start.FEW_DELTAS + 1), RUN)
    (child,) = reading_start._ahead
    reading_start.end_untaken()
    assert child.returncode == -9


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    reading_start.start_ahead(DirectoryObjectStore(tmp_path / "none"), RUN)
    assert reading_start.take() is None
