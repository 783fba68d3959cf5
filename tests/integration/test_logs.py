# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec logs`` and ``status`` of a RUN that was run on this machine, over S3."""

import json
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
