# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec run URI``: stage in, run, stage out, on a worker without the plugin."""

import gzip
import os
import signal
import subprocess
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode, code_of_signal
from registry import names
from registry.delta import Delta
from registry.job import Job, TaskCall, write_job
from registry.model import derived_id
from tests.processes import wait_until
from tests.samples import QUANTUM_ID, RAW_CONTENT, RAW_KEY, RUN, make_job, make_output
from tests.wrapper_process import COMMAND
from transfer_plugins.deltas import standing_of
from transfer_plugins.object_store import ObjectStore, open_store


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A datastore of each kind with the raw exposure."""
    is_s3 = request.param == "s3"
    uri = request.getfixturevalue("datastore") if is_s3 else (tmp_path / "store").as_uri()
    store = open_store(uri)
    store.put(RAW_KEY, RAW_CONTENT)
    return store


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty directory to run in."""
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def run(store: ObjectStore, job: Job, scratch: Path, *options: str) -> tuple[int, str]:
    """Publish a job and run it by its URI; returns exit code and standard error."""
    key = names.job_key(job.run, job.quantum_id)
    store.put(key, write_job(job))
    done = subprocess.run(
        [*COMMAND, f"{store.uri}/{key}", *options],
        cwd=scratch,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_success_is_in_the_datastore(store: ObjectStore, scratch: Path) -> None:
    code, stderr = run(store, make_job(), scratch)
    assert code == 0, stderr
    delta = standing_of(store, RUN, QUANTUM_ID).counting
    assert delta is not None
    assert store.get(delta.rows.datastore_record[0].object_key) == RAW_CONTENT
    (sandbox,) = scratch.iterdir()
    assert sandbox.name.startswith("calibrate-")


def test_second_run_does_nothing(store: ObjectStore, scratch: Path) -> None:
    run(store, make_job(), scratch)
    before = [stored.key for stored in store.list_objects(names.delta_prefix(RUN))]
    assert run(store, make_job(task=TaskCall(["false"])), scratch)[0] == 0
    assert [stored.key for stored in store.list_objects(names.delta_prefix(RUN))] == before


def test_failure_leaves_its_delta_and_its_log(store: ObjectStore, scratch: Path) -> None:
    job = make_job(task=TaskCall(["sh", "-c", "echo oh; exit 9"]))
    assert run(store, job, scratch)[0] == 9
    standing = standing_of(store, RUN, QUANTUM_ID)
    assert standing.counting is None
    assert standing.newest_attempt is not None
    log = store.get(names.log_key(RUN, QUANTUM_ID, standing.newest_attempt))
    assert gzip.decompress(log) == b"oh\n"


def test_missing_input_is_told(store: ObjectStore, scratch: Path) -> None:
    store.delete(RAW_KEY)
    code, stderr = run(store, make_job(), scratch)
    assert code == ExitCode.STAGE_IN_FAILED
    assert f"quantum-exec: {store.uri}/{RAW_KEY}: not found" in stderr
    assert "Traceback" not in stderr
    assert not list(store.list_objects(names.delta_prefix(RUN)))


def test_sandbox_may_be_named(store: ObjectStore, scratch: Path) -> None:
    assert run(store, make_job(), scratch, "--sandbox", "a/b")[0] == 0
    assert (scratch / "a" / "b" / names.DELTA_FILE).exists()


@pytest.mark.parametrize(
    ("uri", "message", "code"),
    [
        ("file:///nowhere/job.json", "expected the URI of a job, <datastore>/<run>/", 2),
        ("gs://b/r/quantum-exec/jobs/x.json", "expected s3://bucket/prefix or file:///dir", 2),
        ("file:///nowhere/r/quantum-exec/jobs/x.json", "x.json: not found", 30),
        ("x", "expected the URI of a job", 2),
    ],
)
def test_uri_of_no_job_is_told(scratch: Path, uri: str, message: str, code: int) -> None:
    done = subprocess.run([*COMMAND, uri], cwd=scratch, capture_output=True, text=True)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(scratch.iterdir()) == []


def publish(store: ObjectStore, *commands: str) -> list[str]:
    """Publish a job for each shell command; returns the command line that runs them all."""
    uris = []
    for number, command in enumerate(commands):
        job = make_job(
            quantum_id=derived_id("quantum", number),
            outputs=[make_output(dataset_id=derived_id("output", number))],
            task=TaskCall(["sh", "-c", f"cp {{input:raw}} {{output:calexp}}; {command}"]),
        )
        key = names.job_key(job.run, job.quantum_id)
        store.put(key, write_job(job))
        uris.append(f"{store.uri}/{key}")
    return [*COMMAND, *uris]


def test_several_run_in_turn_each_in_a_sandbox_of_its_own(
    store: ObjectStore, scratch: Path
) -> None:
    done = subprocess.run(
        publish(store, "true", "exit 9", "exit 8", "true"), cwd=scratch, capture_output=True
    )
    assert done.returncode == 9
    deltas = standings(store, 4)
    assert [delta is not None for delta in deltas] == [True, False, False, True]
    assert len(list(scratch.iterdir())) == 4


def standings(store: ObjectStore, number: int) -> list[Delta | None]:
    """The deltas that count of the quanta of `publish`."""
    ids = [derived_id("quantum", n) for n in range(number)]
    return [standing_of(store, RUN, quantum_id).counting for quantum_id in ids]


def test_missing_job_keeps_none_of_the_others(store: ObjectStore, scratch: Path) -> None:
    words = publish(store, "true", "true")
    store.delete(names.job_key(RUN, derived_id("quantum", 0)))
    done = subprocess.run(words, cwd=scratch, capture_output=True)
    assert done.returncode == ExitCode.STAGE_IN_FAILED
    assert standings(store, 2)[1] is not None


@pytest.mark.parametrize(
    ("script", "succeeds"),
    [
        ("touch ../begun; exec sleep 600", False),
        ("trap 'exit 0' TERM; touch ../begun; sleep 600 & wait", True),
    ],
)
def test_stop_ends_them_all(tmp_path: Path, scratch: Path, script: str, succeeds: bool) -> None:
    """Also if the quantum under way succeeds in spite of it."""
    store = open_store((tmp_path / "store").as_uri())
    store.put(RAW_KEY, RAW_CONTENT)
    words = publish(store, script, "true")
    process = subprocess.Popen(words, cwd=scratch, stderr=subprocess.PIPE)
    wait_until((scratch / "begun").exists, "the first task runs")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == code_of_signal(signal.SIGTERM)
    first, second = standings(store, 2)
    assert (first is not None) == succeeds
    assert second is None
    assert len(list(scratch.glob("calibrate-*"))) == 1


def test_several_in_one_sandbox_are_refused(store: ObjectStore, scratch: Path) -> None:
    words = [*publish(store, "true", "true"), "--sandbox", "x"]
    done = subprocess.run(words, cwd=scratch, capture_output=True, text=True)
    assert done.returncode == ExitCode.USAGE
    assert "expected one URI with --sandbox" in done.stderr
    assert list(scratch.iterdir()) == []
