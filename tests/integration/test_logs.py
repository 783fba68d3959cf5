# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec logs`` and ``status`` of a RUN that was run on this machine, over S3."""

import gzip
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from executor.cli import app
from executor.submit.bucket_run import read_bucket_run
from registry import names
from tests.pool.three_tasks import write_three_tasks
from transfer_plugins.object_store import ObjectStore, open_store

RUN = "u/me/logs"


def invoke(*words: str | Path) -> Result:
    """Run a command of ours in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def logs(datastore: str, *options: str, code: int = 0) -> list[dict[str, Any]]:
    """``quantum-exec logs --json``."""
    done = invoke("logs", RUN, "--datastore", datastore, "--json", *options)
    assert done.exit_code == code, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)["logs"]
    return found


@pytest.fixture
def store(tmp_path: Path, datastore: str) -> ObjectStore:
    """A RUN in which the calibration of one exposure fails."""
    store = open_store(datastore)
    graph = write_three_tasks(tmp_path / "graph.yaml", store, RUN, failing="2")
    assert invoke("run-local", graph, "--datastore", datastore, "-j", "2").exit_code == 1
    return store


def test_logs_are_found_by_what_a_person_knows(store: ObjectStore, datastore: str) -> None:
    [log] = logs(datastore, "--failed")
    assert log["lines"] == ["calibration of exposure 2 does not converge"]
    assert (log["task_label"], log["status"]) == ("calibrate", "failed")
    assert logs(datastore, "--quantum", log["quantum_id"]) == [log]
    assert logs(datastore, "--task", "calibrate", "--data-id", "exposure=2") == [log]
    assert logs(datastore, "--attempt", log["attempt_id"]) == [log]
    assert len(logs(datastore, "--task", "detect")) == 3
    [cut] = logs(datastore, "--failed", "--grep", "nothing of the kind")
    assert cut["lines"] == []


def test_all_attempts_and_those_without_a_log(store: ObjectStore, datastore: str) -> None:
    where = ("--datastore", datastore)
    assert invoke("rerun", RUN, "--failed", *where).exit_code == 1
    first, second = logs(datastore, "--failed", "--all-attempts")
    assert first["attempt_id"] < second["attempt_id"]
    assert logs(datastore, "--failed") == [second]
    store.delete(names.log_key(RUN, second["quantum_id"], second["attempt_id"]))
    [missing] = logs(datastore, "--failed", code=1)
    assert missing["missing"].startswith("no log")


def test_logs_into_files_and_for_people(store: ObjectStore, datastore: str, tmp_path: Path) -> None:
    where = ("--datastore", datastore)
    done = invoke("logs", RUN, *where, "--task", "calibrate", "--output", tmp_path / "logs")
    assert done.stdout.startswith("3 logs written")
    assert len(list((tmp_path / "logs").iterdir())) == 3
    shown = invoke("logs", RUN, *where, "--failed", "--tail", "1")
    (tmp_path / "file").touch()
    refused = invoke("logs", RUN, *where, "--failed", "--output", tmp_path / "file")
    assert (refused.exit_code, "File exists" in refused.stderr) == (2, True)
    header, line = shown.stdout.splitlines()
    assert header.startswith("==> calibrate (exposure=2), quantum ")
    assert line == "calibration of exposure 2 does not converge"


def test_wrong_selections_are_told(store: ObjectStore, datastore: str) -> None:
    where = ("--datastore", datastore)
    assert invoke("logs", RUN, *where).exit_code == 2
    assert invoke("logs", RUN, *where, "--failed", "--grep", "(").exit_code == 2
    done = invoke("logs", RUN, *where, "--quantum", "no-such")
    assert "expected its quanta, found ['no-such']" in str(done.exception)


def test_status_by_the_datastore_alone(
    store: ObjectStore, datastore: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("status", RUN, "--datastore", datastore, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["source"] == "datastore"
    told = {state: number for state, number in found["quanta"].items() if number}
    assert told == {"SUCCEEDED": 5, "FAILED": 1, "UNREADY": 1}
    [group] = found["failures"]
    assert group["label"] == "calibrate"
    assert group["error"].endswith("its log ends: calibration of exposure 2 does not converge")
    assert len(read_bucket_run(store, RUN).quanta) == 7
    assert "5 of 7 quanta are done" in invoke("status", RUN, "--datastore", datastore).stdout


def test_damaged_log_is_told_behind_what_can_be_read(
    store: ObjectStore, datastore: str, tmp_path: Path
) -> None:
    [whole] = logs(datastore, "--failed")
    packed = gzip.compress(b"".join(b"%d %d\n" % (n, n * n) for n in range(20_000)))
    store.put(whole["log_key"], packed[: len(packed) // 2])
    [log] = logs(datastore, "--failed", code=1)
    assert f"log {whole['log_key']!r}: expected gzip, found" in log["missing"]
    assert log["lines"][:2] == ["0 0", "1 1"]
    assert log["error"] == whole["error"]
    where = ("--datastore", datastore)
    shown = invoke("logs", RUN, "--task", "calibrate", *where, "--tail", "1", "--json")
    assert shown.exit_code == 0
    written = invoke("logs", RUN, "--task", "calibrate", *where, "--output", tmp_path / "logs")
    assert (written.exit_code, written.stdout[:8]) == (0, "2 logs w")
    assert "expected gzip" in written.stderr
    store.put(whole["log_key"], b"\x1f\x8b no gzip at all")
    assert logs(datastore, "--failed", code=1)[0]["lines"] == []


def test_attempt_that_was_killed_left_a_log_or_a_delta_alone(
    store: ObjectStore, datastore: str
) -> None:
    [failed] = logs(datastore, "--failed")
    quantum_id, former = failed["quantum_id"], failed["attempt_id"]
    newer = f"f{former[1:]}"
    # Not compressed, as the first release left them; no delta tells of it.
    store.put(names.log_key(RUN, quantum_id, newer), b"one\ntwo\r\nthree")
    [log] = logs(datastore, "--failed")
    assert (log["attempt_id"], log["status"], log["error"]) == (newer, None, None)
    assert log["lines"] == ["one", "two", "three"]
    shown = invoke("logs", RUN, "--failed", "--datastore", datastore).stdout
    assert f"attempt {newer}: left no delta\none\ntwo\nthree\n" in shown
    store.delete(names.log_key(RUN, quantum_id, former))
    both = logs(datastore, "--failed", "--all-attempts")
    assert [bool(one["missing"]) for one in both] == [True, False]


MEASURED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (900 * 2**20, 900 * 2**20))
sys.argv[:] = sys.argv[1:]
from executor.__main__ import main
main()
"""


def test_huge_log_is_not_held_in_memory(
    store: ObjectStore, datastore: str, s3_environment: dict[str, str], tmp_path: Path
) -> None:
    """1 GB, of which a line each MB has an end: more than the process may have."""
    [failed] = logs(datastore, "--failed")
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    line = b"x" * 999_999 + b"\n"
    parts = [compressor.compress(line) for _ in range(1000)]
    parts.append(compressor.compress(b"the end\n") + compressor.flush())
    store.put(failed["log_key"], b"".join(parts))
    program = [sys.executable, "-c", MEASURED, "quantum-exec"]
    words = ["logs", RUN, "--failed", "--tail", "1", "--datastore", datastore]
    done = subprocess.run([*program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "the end"
