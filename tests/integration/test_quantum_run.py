# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec run`` as a process: what a task does, and what the delta says of it."""

import datetime
import gzip
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import AddedRows, MetricRow
from registry.model import DimensionRecord
from tests.factories import put_delta
from tests.samples import (
    CALEXP_ID,
    DATA_ID,
    QUANTUM_ID,
    RAW_CONTENT,
    RAW_ID,
    RUN,
    make_delta,
    make_input,
    make_job,
    make_output,
)
from tests.wrapper_process import COMMAND, Sandbox, make_sandbox
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.deltas import standing_of
from transfer_plugins.stage_in import stage_in

SQLITE = """
import os, sqlite3, sys
registry = sqlite3.connect(os.environ["QUANTUM_EXEC_REGISTRY"])
attempt = os.environ["QUANTUM_EXEC_ATTEMPT_ID"]
with registry:
    for statement in sys.argv[1:]:
        registry.execute(statement.replace("ATTEMPT", attempt))
"""


def with_sqlite(*statements: str) -> list[str]:
    """A task that makes its output and runs statements with plain sqlite3."""
    task = 'python=$1; shift; cp {input:raw} {output:calexp} && exec "$python" -c "$@"'
    return ["sh", "-c", task, "sh", sys.executable, SQLITE, *statements]


def failed(sandbox: Sandbox, code: int) -> str:
    """Run a quantum that fails; returns the error in its delta."""
    assert sandbox.run()[0] == code
    delta = sandbox.delta()
    assert delta.status is AttemptStatus.FAILED
    assert delta.rows == AddedRows()
    assert [file.path for file in sandbox.stage_out_list().files] == [names.TASK_LOG]
    sandbox.stage_out()
    assert delta.error is not None
    return delta.error


def test_success(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    code, stderr = sandbox.run()
    assert code == 0, stderr
    delta = sandbox.delta()
    assert (delta.status, delta.no_work, delta.error) == (AttemptStatus.SUCCESSFUL, False, None)
    assert (delta.exit_code, delta.signal) == (0, None)
    assert (delta.run, delta.quantum_id, delta.task_label) == (RUN, QUANTUM_ID, "calibrate")
    assert delta.data_id == DATA_ID
    (row,) = delta.rows.dataset
    assert (row.dataset_id, row.dataset_type, row.data_id) == (CALEXP_ID, "calexp", DATA_ID)
    (record,) = delta.rows.datastore_record
    assert record.checksum == checksum_of_bytes(RAW_CONTENT)
    assert record.object_key == names.dataset_key(make_output().path, ".img", delta.attempt_id)
    (read,) = delta.inputs
    assert (read.dataset_id, read.attempt_id, read.size_bytes) == (RAW_ID, None, len(RAW_CONTENT))
    assert f"attempt {delta.attempt_id} is successful" in stderr


def test_success_can_be_uploaded_and_counts(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    sandbox.run()
    sandbox.stage_out()
    delta = sandbox.delta()
    assert standing_of(sandbox.store, RUN, QUANTUM_ID).counting == delta
    assert sandbox.store.get(delta.rows.datastore_record[0].object_key) == RAW_CONTENT
    assert gzip.decompress(sandbox.store.get(str(delta.log_key))) == b""


def test_where_and_when_and_what_it_used(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", "cp {input:raw} {output:calexp}; sleep 0.2")
    sandbox.run()
    delta = sandbox.delta()
    started, finished = (
        datetime.datetime.fromisoformat(t) for t in (delta.started, delta.finished)
    )
    assert started.utcoffset() == datetime.timedelta(0)
    assert 0.2 < delta.resources.wall_s < (finished - started).total_seconds()
    assert delta.resources.max_rss_bytes > 100_000
    assert delta.host == socket.gethostname()


def test_failing_command(tmp_path: Path) -> None:
    task = "echo stars: 0; echo no stars >&2; cp {input:raw} {output:calexp}; exit 3"
    error = failed(make_sandbox(tmp_path, "sh", "-c", task), 3)
    assert error == "the task ended with exit code 3; its log ends:\nstars: 0\nno stars\n"


def test_command_that_died(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", "echo going down; kill -SEGV $$")
    error = failed(sandbox, 128 + 11)
    assert error == "the task was killed by SIGSEGV; its log ends:\ngoing down\n"
    assert (sandbox.delta().exit_code, sandbox.delta().signal) == (None, 11)


def test_error_has_the_end_of_a_long_log_in_storable_text(tmp_path: Path) -> None:
    noise = r"import sys; sys.stdout.buffer.write(b'x' * 10**6 + b'\xff\x00end\n'); sys.exit(1)"
    error = failed(make_sandbox(tmp_path, sys.executable, "-c", noise), 1)
    assert error.endswith("x\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}end\n")
    assert 1000 < len(error) < 4000


def test_missing_output(tmp_path: Path) -> None:
    error = failed(make_sandbox(tmp_path, "true"), ExitCode.WRONG_OUTPUTS)
    assert error.startswith("output calexp (exposure=0, detector=1): expected a file at repo/")


def test_optional_output_may_be_missing(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "true", outputs=[make_output(optional=True)])
    assert sandbox.run()[0] == 0
    assert sandbox.delta().rows == AddedRows()
    assert not sandbox.delta().no_work


def test_output_of_an_earlier_try_in_the_same_sandbox_does_not_count(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", "echo first; exit 1")
    sandbox.output.parent.mkdir(parents=True)
    sandbox.output.write_bytes(b"half")
    sandbox.run()
    stage_in(make_job(task=sandbox.job.task), sandbox.store, sandbox.directory)
    assert "first\n" == failed(sandbox, 1).partition("its log ends:\n")[2]
    sandbox = make_sandbox(tmp_path, "true")
    assert "found none" in failed(sandbox, ExitCode.WRONG_OUTPUTS)


def test_no_work(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", "exit 79")
    assert sandbox.run()[0] == 0
    delta = sandbox.delta()
    assert (delta.status, delta.no_work, delta.exit_code) == (AttemptStatus.SUCCESSFUL, True, 79)
    assert delta.rows == AddedRows()


def test_no_work_may_make_some_outputs(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", "cp {input:raw} {output:calexp}; exit 79")
    assert sandbox.run()[0] == 0
    assert len(sandbox.delta().rows.dataset) == 1


@pytest.mark.parametrize(("optional", "runs"), [(True, True), (False, False)])
def test_missing_input(tmp_path: Path, optional: bool, runs: bool) -> None:
    missing = make_input(producer=QUANTUM_ID, run=RUN, key=None, optional=optional)
    task = ["sh", "-c", "touch ran; echo {inputs:raw} > {output:calexp}"]
    sandbox = make_sandbox(tmp_path, *task, inputs=[])
    put_delta(sandbox.store, make_delta(dataset=[], datastore_record=[], no_work=True))
    job = make_job(quantum_id=CALEXP_ID, task=sandbox.job.task, inputs=[missing])
    stage_in(job, sandbox.store, sandbox.directory)
    assert sandbox.run()[0] == 0
    assert (sandbox.directory / "ran").exists() == runs
    delta = sandbox.delta()
    assert (delta.no_work, delta.inputs) == (not runs, [])
    assert (delta.exit_code is None) == (not runs)


def test_rows_of_plain_sqlite_reach_the_delta(tmp_path: Path) -> None:
    sandbox = make_sandbox(
        tmp_path,
        *with_sqlite(
            "INSERT INTO dimension_record VALUES ('star', '{\"star\": 7}', '{\"mag\": 17.5}')",
            "INSERT INTO metric VALUES ('ATTEMPT', 'n_stars', 12)",
        ),
    )
    code, stderr = sandbox.run()
    assert code == 0, stderr
    assert sandbox.delta().rows.dimension_record == [
        DimensionRecord("star", {"star": 7}, {"mag": 17.5})
    ]
    assert sandbox.delta().rows.metric == [MetricRow("n_stars", 12.0)]


def test_seeded_rows_can_be_read_with_plain_sqlite(tmp_path: Path) -> None:
    look = (
        "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]), sep='\\n')"
    )
    query = "SELECT dataset_type, size_bytes FROM dataset JOIN datastore_record USING (dataset_id)"
    task = [sys.executable, "-c", look, "{registry}", query]
    sandbox = make_sandbox(tmp_path, *task, outputs=[])
    assert sandbox.run()[0] == 0
    assert sandbox.log() == f"('raw', {len(RAW_CONTENT)})\n"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE dataset SET run = 'x'", "table dataset: expected the seeded row"),
        ("INSERT INTO run VALUES ('x')", "table run: expected no rows from the task"),
        (
            "INSERT INTO dimension_record VALUES ('d', '{}', '{\"a\": \"\\ud800\"}')",
            "table dimension_record, column record: expected JSON",
        ),
        ("INSERT INTO metric VALUES ('x', 'n', 1)", "table metric: expected a name and a finite"),
        ("DROP TABLE datastore_record", "private registry registry.sqlite3: no such table: d"),
    ],
)
def test_registry_that_cannot_be_merged_fails_the_attempt(
    tmp_path: Path, statement: str, message: str
) -> None:
    error = failed(make_sandbox(tmp_path, *with_sqlite(statement)), ExitCode.WRONG_OUTPUTS)
    assert error.startswith(message)


def test_task_that_removes_everything_fails_with_a_report(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", "rm -rf * && exit 5")
    assert failed(sandbox, 5) == "the task ended with exit code 5; its log is empty"
    sandbox = make_sandbox(tmp_path, "sh", "-c", "rm -rf *")
    assert "registry.sqlite3: expected a file" in failed(sandbox, ExitCode.WRONG_OUTPUTS)


def test_task_sees_no_address_and_no_secret(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", "env; tr '\\0' '\\n' < /proc/self/environ")
    sandbox.environment.update(
        PGHOST="db.example", PGPASSWORD="pg-secret", AWS_SECRET_ACCESS_KEY="aws-secret"
    )
    sandbox.run()
    assert "QUANTUM_EXEC_RUN" in sandbox.log()
    assert not [t for t in ("db.example", "pg-secret", "aws-secret", "AWS_") if t in sandbox.log()]


def test_program_that_is_not_there(tmp_path: Path) -> None:
    error = failed(make_sandbox(tmp_path, "no-such-program"), ExitCode.INVALID_QUANTUM)
    assert error.startswith("task cannot be started: ['no-such-program']: ")


def test_placeholder_that_names_nothing(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "cp", "{input:bias}", "x")
    assert "expected one of ['raw'] in {input:bias}" in failed(sandbox, ExitCode.INVALID_QUANTUM)


def test_quantum_that_succeeded_before_is_not_run(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    sandbox.run()
    sandbox.stage_out()
    again = make_sandbox(tmp_path, "touch", "ran")
    assert again.run()[0] == 0
    assert not (again.directory / "ran").exists()
    assert again.stage_out_list().delta is None
    assert again.stage_out_list().files == []


@pytest.mark.parametrize("missing", [names.JOB_FILE, names.STAGE_IN_FILE])
def test_sandbox_that_was_not_staged_in(tmp_path: Path, missing: str) -> None:
    sandbox = make_sandbox(tmp_path)
    (sandbox.directory / missing).unlink()
    code, stderr = sandbox.run()
    assert code == ExitCode.SANDBOX_UNUSABLE
    assert stderr.startswith(f"quantum-exec: sandbox {sandbox.directory}: expected job.json and ")
    assert "Traceback" not in stderr
    assert sandbox.stage_out_list().delta is None


def test_sandbox_may_be_named(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    command = [*COMMAND, "--sandbox", sandbox.directory.name]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    assert sandbox.delta().status is AttemptStatus.SUCCESSFUL
