# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec init`` as a process: what it finds, and how it says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from registry.graph_record import GRAPH_RECORD_FORMAT, GraphRecord, write_graph_record

GRAPH_ID = "00000000-0000-4000-8000-000000000001"


def init(sandbox: Path, *options: str) -> tuple[int, str, dict[str, object]]:
    """Run it; returns exit code, standard error and the record."""
    done = subprocess.run(
        [sys.executable, "-m", "executor", "init", GRAPH_ID, *options],
        cwd=sandbox,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr, json.loads((sandbox / "init.json").read_text())


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A sandbox into which the plugin has brought the graph record."""
    record = GraphRecord(GRAPH_RECORD_FORMAT, GRAPH_ID, "g", "u/me/run", [], [], 1)
    (tmp_path / f"{GRAPH_ID}.json").write_bytes(write_graph_record(record))
    return tmp_path


def test_a_worker_that_fits_is_described(sandbox: Path) -> None:
    code, said, record = init(sandbox, "--formats", "job=1,delta=99")
    assert (code, said, record["error"]) == (0, "", None)
    assert record["graph_id"] == GRAPH_ID
    assert isinstance(record["packages"], dict) and "quantum-exec" in record["packages"]
    assert not (sandbox / "init.sqlite3").exists()


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ("job=99", "job: expected a worker that reads format 99"),
        ("delta=1", "upgrade quantum-exec on the access point"),
    ],
)
def test_releases_that_do_not_fit_are_told(sandbox: Path, formats: str, message: str) -> None:
    code, said, record = init(sandbox, "--formats", formats)
    assert code == 21
    assert message in said and message in str(record["error"])


def test_missing_record_is_told(tmp_path: Path) -> None:
    code, said, record = init(tmp_path)
    assert code == 37
    assert "expected the graph record" in said and record["error"]
