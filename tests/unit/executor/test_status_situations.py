# SPDX-License-Identifier: BSD-3-Clause
"""``status`` of what is not as it should be: logs that miss or are cut, and jobs half done."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from executor.cli import app
from executor.exit_codes import ExitCode
from executor.submit.dag import DAG_FILE, DAGMAN_LOG
from executor.submit.node_table import NODE_TABLE, write_node_table
from executor.submit.nodes import Node
from executor.submit.submissions import NODES_LOG
from registry.attempt import AttemptStatus
from tests import factories
from tests.recorded_logs import submission_of
from transfer_plugins.object_store import open_store

RUN = factories.RUN
WHEN = "2026-11-22 19:59"
SUBMITTED = (
    f"000 (007.000.000) {WHEN}:10 Job submitted from host: <x>\n    DAG Node: chain_1\n...\n"
)
STARTED = f"001 (007.000.000) {WHEN}:12 Job executing on host: <x>\n\tSlotName: slot1@w\n...\n"
EVICTED = f"004 (007.000.000) {WHEN}:30 Job was evicted.\n\t(0) CPU times\n...\n"
ENDED = f"005 (007.000.000) {WHEN}:40 Job terminated.\n\t%s\n...\n"
WITH_CODE_1 = ENDED % "(1) Normal termination (return value 1)"
KILLED = ENDED % "(0) Abnormal termination (signal 9)"


def invoke(place: Path, *options: str | Path) -> Result:
    """``quantum-exec status`` in this process."""
    words = ["status", RUN, "--directory", str(place), *(str(option) for option in options)]
    return CliRunner().invoke(app, words)


def status(place: Path, *options: str | Path, code: int = 0) -> dict[str, Any]:
    """What it tells with ``--json``."""
    done = invoke(place, "--json", *options)
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def present(found: dict[str, Any], what: str = "quanta") -> dict[str, int]:
    """The states that something is in."""
    return {state: number for state, number in found[what].items() if number}


def test_dag_that_has_no_logs_yet_is_queued(tmp_path: Path) -> None:
    directory = submission_of("failures", tmp_path, RUN)
    for name in (NODES_LOG, DAGMAN_LOG, f"{DAG_FILE}.rescue001", "node-status.txt"):
        (directory / name).unlink()
    found = status(tmp_path)
    assert (found["dag"]["state"], found["dag"]["job"]) == ("QUEUED", None)
    assert present(found) == {"READY": 9, "UNREADY": 1}
    assert "DAG (not in the queue yet) QUEUED" in invoke(tmp_path).stdout


def test_event_that_is_cut_off_waits_for_its_rest(tmp_path: Path) -> None:
    directory = submission_of("failures", tmp_path, RUN)
    log = directory / DAGMAN_LOG
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.index(b"(return value 1)")])
    found = status(tmp_path)
    assert (found["dag"]["state"], found["unreadable_events"]) == ("RUNNING", 0)
    log.write_bytes(whole)
    assert status(tmp_path, code=1)["dag"]["state"] == "ENDED"


def test_unreadable_pieces_are_told(tmp_path: Path) -> None:
    directory = submission_of("failures", tmp_path, RUN)
    log = directory / NODES_LOG
    log.write_bytes(b"\0" * 100 + b"\n...\n" + log.read_bytes())
    assert status(tmp_path, code=1)["unreadable_events"] == 1
    assert "1 pieces of the event logs could not be read" in invoke(tmp_path).stdout


def refused(*words: str | Path) -> str:
    """What the program says in its one line, when it ends with 2."""
    program = Path(sys.executable).with_name("quantum-exec")
    command = [program, "status", RUN, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("content", [None, b"", b"\x1f\x8b cut"])
def test_directory_without_what_submit_wrote_is_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    directory = submission_of("failures", tmp_path, RUN)
    (directory / NODE_TABLE).unlink()
    if content is not None:
        (directory / NODE_TABLE).write_bytes(content)
    told = refused("--directory", tmp_path)
    assert f"node table {directory / NODE_TABLE}: expected gzip of JSON lines" in told
    assert "or --datastore" in told
    (directory / DAG_FILE).unlink()
    assert "expected a submission below" in refused("--directory", tmp_path)


def test_log_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    directory = submission_of("failures", tmp_path, RUN)
    (directory / NODES_LOG).unlink()
    (directory / NODES_LOG).mkdir()
    assert f"{directory / NODES_LOG}: Is a directory" in refused("--directory", tmp_path)


def test_page_that_cannot_be_written_is_told_before_anything_is_read(tmp_path: Path) -> None:
    submission_of("failures", tmp_path, RUN)
    words: list[str | Path] = ["--directory", tmp_path]
    words += ["--html", tmp_path / "nowhere" / "page.html"]
    assert "that exists and can be written" in " ".join(refused(*words).split())


def test_submission_that_is_named_hides_the_later_ones(tmp_path: Path) -> None:
    first = submission_of("failures", tmp_path, RUN)
    submission_of("rescue", tmp_path, RUN, stamp="20261122T200000")
    assert status(tmp_path, code=1)["dag"]["submissions"] == 2
    found = status(first, code=1)
    assert (found["dag"]["submissions"], found["retries"]) == (1, 3)
    assert present(found) == {"SUCCEEDED": 7, "FAILED": 2, "PRUNED": 1}


def chain(tmp_path: Path, events: str, *statuses: AttemptStatus | None) -> tuple[Path, str]:
    """A DAG of one job with as many quanta, each with a delta or none; and its datastore."""
    graph = factories.make_graph(len(statuses))
    store = open_store((tmp_path / "store").as_uri())
    for number, one in enumerate(statuses):
        if one is not None:
            factories.put_delta(store, factories.make_delta(graph, number, status=one))
    directory = tmp_path / "submissions" / RUN / "quantum-exec" / "20261122T195911"
    directory.mkdir(parents=True)
    (directory / DAG_FILE).write_text("JOB chain_1 quantum.chain.sub\n")
    (directory / NODES_LOG).write_text(events)
    quantum_ids = tuple(quantum.quantum_id for quantum in graph.quanta)
    labels = ("isr", "fit", "isr")[: len(statuses)]
    node = Node("chain_1", "chain", "clusters/1.json", quantum_ids, task_labels=labels)
    write_node_table(directory, [node])
    return tmp_path / "submissions", store.uri


GOOD, BAD, STOPPED = AttemptStatus.SUCCESSFUL, AttemptStatus.FAILED, AttemptStatus.ABORTED


@pytest.mark.parametrize(
    ("events", "deltas", "expected"),
    [
        (SUBMITTED, (None, None, None), {"PENDING": 3}),
        (STARTED, (GOOD, None, None), {"RUNNING": 2, "SUCCEEDED": 1}),
        (STARTED + EVICTED, (GOOD, STOPPED, None), {"PENDING": 2, "SUCCEEDED": 1}),
        (STARTED + WITH_CODE_1, (GOOD, BAD, None), {"SUCCEEDED": 1, "FAILED": 1, "PRUNED": 1}),
        (STARTED + WITH_CODE_1, (GOOD, BAD, GOOD), {"SUCCEEDED": 2, "FAILED": 1}),
        (STARTED + WITH_CODE_1, (GOOD, None, None), {"SUCCEEDED": 1, "FAILED": 2}),
        (STARTED + KILLED, (GOOD, BAD, None), {"SUCCEEDED": 1, "FAILED": 2}),
    ],
)
def test_quanta_of_a_job_half_done_stand_by_their_deltas(
    tmp_path: Path,
    events: str,
    deltas: tuple[AttemptStatus | None, ...],
    expected: dict[str, int],
) -> None:
    events = events if events == SUBMITTED else SUBMITTED + events
    place, datastore = chain(tmp_path, events, *deltas)
    found = status(place, "--datastore", datastore)
    assert present(found) == expected
    assert sum(found["jobs"].values()) == 1
    # Nobody asked the deltas: the job alone tells.
    assert list(present(status(place))) == list(present(found, "jobs"))


def test_quanta_of_a_cluster_stand_at_their_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    place, datastore = chain(tmp_path, SUBMITTED + STARTED + WITH_CODE_1, GOOD, BAD, None)
    found = {task["label"]: task for task in status(place, "--datastore", datastore)["tasks"]}
    assert {label: present(task) for label, task in found.items()} == {
        "chain": {},
        "isr": {"SUCCEEDED": 1, "PRUNED": 1},
        "fit": {"FAILED": 1},
    }
    assert {label: present(task, "jobs") for label, task in found.items()} == {
        "chain": {"FAILED": 1},
        "isr": {},
        "fit": {},
    }
    shown = invoke(place, "--datastore", datastore).stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in shown if line.startswith((*found,))}
    assert (len(rows["fit"]), len(rows["chain"])) == (4, 6)


def test_watch_ends_with_the_dag(tmp_path: Path) -> None:
    """Into a pipe each look is printed, the last one with the end of the DAG."""
    directory = submission_of("failures", tmp_path, RUN)
    log = directory / DAGMAN_LOG
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.index(b"005 (")])
    program = Path(sys.executable).with_name("quantum-exec")
    options = ["--directory", str(tmp_path), "--watch", "--interval", "0.1"]
    with subprocess.Popen([program, "status", RUN, *options], stdout=subprocess.PIPE) as watching:
        assert watching.stdout
        assert b"DAG 1.0 RUNNING" in watching.stdout.readline()
        log.write_bytes(whole)
        rest = watching.stdout.read().decode()
    assert watching.returncode == 1
    assert rest.count("DAG 1.0 ENDED with exit code 1") == 1


@pytest.mark.parametrize("width", [40, 60, 80])
def test_numbers_are_whole_in_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    directory = submission_of("failures", tmp_path, RUN)
    many = tuple(f"q{number}" for number in range(123_456))
    write_node_table(directory, [Node("isr_1", "isr", "jobs/isr_1.json", many)])
    monkeypatch.setenv("COLUMNS", str(width))
    shown = invoke(tmp_path, "--held", "--failed").stdout
    assert "123456" in shown
    assert "…" not in shown
    assert width < 60 or max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("columns", [None, ""])
def test_lines_are_not_broken_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    submission_of("failures", tmp_path, RUN)
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    [line] = [line for line in invoke(tmp_path).stdout.splitlines() if line.startswith("memory")]
    assert line.split()[1:3] == ["0", "1"]
    assert line.rstrip().endswith("the task needed more memory")
