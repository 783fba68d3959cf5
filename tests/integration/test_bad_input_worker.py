# SPDX-License-Identifier: BSD-3-Clause
"""``run`` and ``run-local`` with wrong jobs, inputs, outputs, sandboxes and arguments."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from executor.exit_codes import ExitCode
from executor.worker_command import stage_in_code
from registry import names
from registry.job import JOB_FORMAT, write_job
from tests.local_graphs import GraphRun, make_survey
from tests.refusals import call, check_refused, files_below
from tests.samples import QUANTUM_ID, RAW_CONTENT, RAW_KEY, RUN, make_input, make_job
from tests.wrapper_process import Sandbox, make_sandbox
from transfer_plugins.object_store import ObjectStore, TransferError, open_store

KEY = names.job_key(RUN, QUANTUM_ID)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A datastore with the raw exposure."""
    found = open_store((tmp_path / "store").as_uri())
    found.put(RAW_KEY, RAW_CONTENT)
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty directory to run in."""
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def run(store: ObjectStore, scratch: Path, *options: str, **changes: Any) -> Any:
    """Publish a job and run it by its URI."""
    store.put(KEY, write_job(make_job(**changes)))
    return call(scratch, "run", f"{store.uri}/{KEY}", *options)


def test_missing_input(store: ObjectStore, scratch: Path) -> None:
    store.delete(RAW_KEY)
    done = run(store, scratch)
    check_refused(done, ExitCode.STAGE_IN_FAILED, f"{store.uri}/{RAW_KEY}: not found")
    assert files_below(scratch) == set()


def test_wrong_checksum(store: ObjectStore, scratch: Path) -> None:
    wrong = f"sha256:{'0' * 64}"
    done = run(store, scratch, inputs=[make_input(checksum=wrong)])
    texts = (f"{store.uri}/{RAW_KEY}: expected {wrong}, found sha256:", "21 bytes")
    check_refused(done, ExitCode.STAGE_IN_FAILED, *texts)
    assert files_below(scratch) == set()


def test_input_that_was_not_made_yet(store: ObjectStore, scratch: Path) -> None:
    producer = "6f1b1a52-0d1c-5bd4-a3bb-4f3c5c1dd000"
    done = run(store, scratch, inputs=[make_input(producer=producer, key=None)])
    text = f"quantum {QUANTUM_ID} (calibrate, exposure=0, detector=1): expected a successful"
    check_refused(done, ExitCode.STAGE_IN_FAILED, text, producer, "makes raw")
    assert files_below(scratch) == set()


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (b"", ExitCode.INVALID_QUANTUM, "job file file:///"),
        (b"{}", ExitCode.INVALID_QUANTUM, "job file file:///"),
        (b"\xff\0", ExitCode.INVALID_QUANTUM, "job file file:///"),
        (write_job(make_job())[:-9], ExitCode.INVALID_QUANTUM, "job file file:///"),
        (write_job(make_job(format=JOB_FORMAT + 1)), ExitCode.INVALID_QUANTUM, "upgrade quantum-"),
        (write_job(make_job(run="u/../x")), ExitCode.INVALID_QUANTUM, "u/../x"),
        (write_job(make_job(run="u/other")), ExitCode.INVALID_QUANTUM, "u/other"),
        (
            write_job(make_job(inputs=[make_input(path="../../x")])),
            ExitCode.INVALID_QUANTUM,
            "'../../x'",
        ),
        (None, ExitCode.STAGE_IN_FAILED, f"{KEY}: not found"),
    ],
)
def test_job_file(
    store: ObjectStore, scratch: Path, content: bytes | None, code: int, text: str
) -> None:
    if content is not None:
        store.put(KEY, content)
    check_refused(call(scratch, "run", f"{store.uri}/{KEY}"), code, text)
    assert files_below(scratch) == set()


def of_task(tmp_path: Path, script: str) -> tuple[int, str]:
    """Run a shell task in a sandbox; returns exit code and the error in the delta."""
    sandbox = make_sandbox(tmp_path, "sh", "-c", script)
    done = call(sandbox.directory, "run")
    check_refused_or_logged(done.stderr)
    return done.returncode, sandbox.delta().error or ""


def check_refused_or_logged(told: str) -> None:
    """The error of an attempt is in its delta, and logged once."""
    assert "Traceback" not in told
    assert told.count("ERROR ") == 1


def test_missing_declared_output(tmp_path: Path) -> None:
    code, error = of_task(tmp_path, "true")
    assert code == ExitCode.WRONG_OUTPUTS
    assert error.startswith("output calexp (exposure=0, detector=1): expected a file at repo/")


def test_undeclared_output(tmp_path: Path) -> None:
    code, error = of_task(tmp_path, "cp {input:raw} {output:calexp}; touch repo/new")
    assert code == ExitCode.WRONG_OUTPUTS
    assert "'repo/new'" in error


def test_program_that_is_not_there(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "no-such-program")
    assert call(sandbox.directory, "run").returncode == ExitCode.INVALID_QUANTUM
    assert "'no-such-program'" in str(sandbox.delta().error)


def empty(sandbox: Sandbox) -> None:
    """Nobody staged in."""
    for name in (names.JOB_FILE, names.STAGE_IN_FILE):
        (sandbox.directory / name).unlink()


def damaged_job(sandbox: Sandbox) -> None:
    (sandbox.directory / names.JOB_FILE).write_bytes(b"{")


def report_of_another(sandbox: Sandbox) -> None:
    path = sandbox.directory / names.STAGE_IN_FILE
    report = json.loads(path.read_text())
    path.write_text(json.dumps({**report, "quantum_id": "another"}))


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (empty, ExitCode.SANDBOX_UNUSABLE, "expected job.json and stage-in.json"),
        (damaged_job, ExitCode.INVALID_QUANTUM, "job.json"),
        (report_of_another, ExitCode.SANDBOX_UNUSABLE, "found those of another"),
    ],
)
def test_sandbox_that_is_not_staged_in(tmp_path: Path, change: Any, code: int, text: str) -> None:
    sandbox = make_sandbox(tmp_path)
    change(sandbox)
    before = files_below(sandbox.directory)
    check_refused(call(sandbox.directory, "run"), code, str(sandbox.directory), text)
    assert files_below(sandbox.directory) == before


@pytest.mark.parametrize("named", ["file", "file/below", "/proc/no-such-directory"])
def test_sandbox_that_cannot_be_written(store: ObjectStore, scratch: Path, named: str) -> None:
    """A file in the place of a directory stops root as well."""
    (scratch / "file").touch()
    done = run(store, scratch, "--sandbox", named)
    check_refused(done, ExitCode.SANDBOX_UNUSABLE, f"sandbox {named}: expected a directory")
    check_refused(call(scratch, "run", "--sandbox", named), ExitCode.SANDBOX_UNUSABLE, named)
    assert files_below(scratch) == {"file"}


def test_sandbox_whose_files_cannot_be_written(store: ObjectStore, scratch: Path) -> None:
    (scratch / "sandbox" / names.STAGE_IN_FILE).mkdir(parents=True)
    done = run(store, scratch, "--sandbox", "sandbox")
    check_refused(done, ExitCode.SANDBOX_UNUSABLE, names.STAGE_IN_FILE, "Is a directory")


@pytest.mark.parametrize("by_uri", [False, True])
def test_directory_that_was_removed(store: ObjectStore, tmp_path: Path, by_uri: bool) -> None:
    store.put(KEY, write_job(make_job()))
    uris = [f"{store.uri}/{KEY}"] if by_uri else []
    words = [sys.executable, "-m", "executor", "run", *uris]
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *words], cwd=tmp_path, capture_output=True, text=True
    )
    check_refused(done, ExitCode.SANDBOX_UNUSABLE, "No such file or directory")


@pytest.mark.parametrize("name", [names.STAGE_OUT_FILE, names.JOB_FILE, names.STAGE_IN_FILE])
def test_sandbox_on_a_full_disk(store: ObjectStore, scratch: Path, name: str) -> None:
    """Linux has a device on which every write finds no space."""
    (scratch / name).symlink_to("/dev/full")
    done = run(store, scratch, "--sandbox", ".")
    check_refused(done, ExitCode.SANDBOX_UNUSABLE, "sandbox .: ", "No space left on device")


def test_input_that_fills_the_disk(store: ObjectStore) -> None:
    """The file that it is fetched into has a name that nobody can know."""
    with pytest.raises(TransferError) as caught:
        store._fetch(RAW_KEY, Path("/dev/full"))
    assert stage_in_code(caught.value) == ExitCode.SANDBOX_UNUSABLE


@pytest.mark.parametrize(
    "words",
    [
        ["--nonsense"],
        ["--log-level", "LOUD"],
        ["a", "b", "--sandbox", "c"],
    ],
)
def test_arguments_of_run(scratch: Path, words: list[str]) -> None:
    check_refused(call(scratch, "run", *words), ExitCode.USAGE)
    assert files_below(scratch) == set()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["--log-level", "LOUD", "run-local"], "'LOUD'"),
        (["run-local", "graph.yaml"], "Missing option '--datastore'"),
        (["run-local", "graph.yaml", "extra", "--datastore", "file:///x"], "extra"),
        (["run-local", "graph.yaml", "--datastore", "file:///x", "-j", "0"], "'-j'"),
        (["submit", "graph.yaml", "extra", "--datastore", "s3://b/x"], "extra"),
        (["rerun", "u/r", "extra", "--datastore", "s3://b/x", "--failed"], "extra"),
        (["demo", "extra"], "extra"),
    ],
)
def test_arguments_of_others(scratch: Path, words: list[str], text: str) -> None:
    check_refused(call(scratch, *words), ExitCode.USAGE, text)
    assert files_below(scratch) == set()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"siteName: x\n", "siteName"),
        (b"requestMemry: 1\n", "did you mean requestMemory?"),
        (b"requestMemory: much\n", "requestMemory"),
        (b"a: [\n", "line 2"),
        (b"\xff\0", "config"),
        (None, "No such file"),
    ],
)
def test_configuration_of_submit(scratch: Path, content: bytes | None, text: str) -> None:
    GraphRun(scratch, (scratch / "store").as_uri(), make_survey(1)).prepare()
    if content is not None:
        (scratch / "config.yaml").write_bytes(content)
    words = ["submit", "graph.yaml", "--datastore", "s3://b/x", "--config", "config.yaml"]
    before = files_below(scratch)
    check_refused(call(scratch, *words), ExitCode.USAGE, "config.yaml", text)
    assert files_below(scratch) == before


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("true", "output isr (exposure=0): expected a file at repo/"),
        ("cp {input:raw} {output:isr}; touch repo/new", "'repo/new'"),
        (None, "raw/0.txt: not found"),
    ],
)
def test_quantum_of_run_local(tmp_path: Path, script: str | None, text: str) -> None:
    graph_run = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(1))
    graph_run.prepare()
    if script is None:
        graph_run.store.delete("raw/0.txt")
    else:
        graph_run.document["tasks"]["isr"]["command"] = ["sh", "-c", script]
    report = graph_run.run()
    assert report.code == ExitCode.FAILED
    (told,) = report.failures
    assert told.startswith("isr (exposure=0), quantum ")
    assert text in told
    assert report.stderr == ""
    assert list(graph_run.scratch.iterdir()) == []


def test_scratch_that_is_a_file(scratch: Path) -> None:
    graph_run = GraphRun(scratch, (scratch / "store").as_uri(), make_survey(1))
    graph_run.scratch.touch()
    done = graph_run.call()
    check_refused(done, ExitCode.SANDBOX_UNUSABLE, f"scratch {graph_run.scratch}: expected a dir")
