# SPDX-License-Identifier: BSD-3-Clause
"""Wrapper, task or runner ended at each step of an attempt; a second run makes up for it.

Three quanta in a row; the one in the middle reads two datasets and makes two. It is attempted
from a datastore where the first has run, is ended, and the graph is run again.
"""

import itertools
import signal
from pathlib import Path

import psutil
import pytest

from registry.attempt import AttemptStatus
from tests.chain_attempt import STAGING, STEPS, HaltedAttempt, start_attempt
from tests.chain_graph import make_run
from tests.fix_chain import Reference
from tests.halted_processes import marked_processes
from tests.local_graphs import RUN, GraphRun
from tests.processes import wait_until
from tests.run_outcome import (
    named_by_verify,
    other_attempts,
    registry_content,
    registry_merge,
    unnamed_objects,
)
from tests.s3_proxy import HANG, S3Proxy
from transfer_plugins.object_store import DirectoryObjectStore

VICTIMS = ("wrapper", "task", "runner")
CANNOT_BE = {
    ("task", step): "there is no task before it is started, nor after it has ended"
    for step in STEPS.keys() - {"task running", "outputs written"}
}
CASES = [
    pytest.param(step, victim, number, id=f"{step}-{victim}-{number.name}")
    for step, victim, number in itertools.product(STEPS, VICTIMS, (signal.SIGKILL, signal.SIGTERM))
    if (victim, step) not in CANNOT_BE
]


def is_by_uri(step: str, victim: str) -> bool:
    """Whether the wrapper must do the staging itself, so that it can be ended in it."""
    halt = STEPS[step]
    return victim == "wrapper" and halt is not None and halt.command == STAGING


def statuses_after(step: str, victim: str, number: signal.Signals) -> list[list[AttemptStatus]]:
    """The deltas that the ended attempt may have left: none, or one."""
    steps = list(STEPS)
    is_before_task = steps.index(step) < steps.index("registry seeded")
    has_results = steps.index(step) >= steps.index("outputs recorded")
    if step == "delta uploaded":
        return [[AttemptStatus.SUCCESSFUL]]
    if victim == "task":
        return [[AttemptStatus.FAILED]]
    if number == signal.SIGKILL or is_by_uri(step, victim):
        return [[]]
    if is_before_task:
        # The wrapper may be told before it can take note. The runner may take note late, because
        # a process that was stopped may get its signal in any of its threads.
        return [[], [AttemptStatus.ABORTED], [AttemptStatus.SUCCESSFUL]]
    return [[AttemptStatus.SUCCESSFUL if has_results else AttemptStatus.ABORTED]]


def check_nothing_is_left(graph_run: GraphRun) -> None:
    """No process, no sandbox of the runner, nothing beside what the test made."""
    assert marked_processes(graph_run.directory) == []
    assert list(graph_run.scratch.iterdir()) == []
    assert list((graph_run.directory / "tmp").iterdir()) == []
    made = {path.name for path in graph_run.directory.iterdir()}
    assert made - {"by-hand"} <= {"graph.yaml", "halted", "scratch", "store", "tmp"}


@pytest.mark.parametrize(("step", "victim", "number"), CASES)
def test_second_run_makes_up_for_an_end_at_any_step(
    chain_run: GraphRun,
    reference: Reference,
    database: str,
    step: str,
    victim: str,
    number: signal.Signals,
) -> None:
    told = HaltedAttempt(chain_run, step, is_by_uri=is_by_uri(step, victim)).end(victim, number)
    deltas = [d.status for d in chain_run.deltas() if d.task_label == "join"]
    assert deltas in statuses_after(step, victim, number), told
    check_second_run(chain_run, reference, database, deltas)


def check_second_run(
    graph_run: GraphRun, reference: Reference, database: str, before: list[AttemptStatus]
) -> None:
    """Merge, run the graph again, merge again: all is as if nothing had happened."""
    registry_merge("merge", database, graph_run.store, RUN)
    report = graph_run.run("-j", "1")
    assert report.code == 0, report
    assert graph_run.result() == reference.result
    registry_merge("merge", database, graph_run.store, RUN)
    assert registry_content(database) == reference.content
    assert other_attempts(database) == [
        (status.value, False) for status in before if status is not AttemptStatus.SUCCESSFUL
    ]
    left = unnamed_objects(database, graph_run.store, RUN)
    assert named_by_verify(database, graph_run.store, RUN) == ({"orphaned": left} if left else {})
    check_nothing_is_left(graph_run)


@pytest.mark.parametrize(
    ("kind", "by_uri", "number"),
    [
        pytest.param("difference", False, signal.SIGKILL, id="half uploaded-runner-SIGKILL"),
        pytest.param("difference", True, signal.SIGTERM, id="half uploaded-wrapper-SIGTERM"),
        pytest.param("deltas", False, signal.SIGKILL, id="delta uploading-runner-SIGKILL"),
        pytest.param("deltas", True, signal.SIGKILL, id="delta uploading-wrapper-SIGKILL"),
    ],
)
def test_second_run_makes_up_for_an_upload_to_s3_that_ended(
    tmp_path: Path,
    reference: Reference,
    database: str,
    datastore: str,
    s3_endpoint: str,
    kind: str,
    by_uri: bool,
    number: signal.Signals,
) -> None:
    graph_run = make_run(tmp_path, datastore)
    for stored in DirectoryObjectStore(reference.begun).list_objects(""):
        graph_run.store.put(stored.key, (reference.begun / stored.key).read_bytes())
    with S3Proxy(s3_endpoint) as proxy:
        proxy.rule = lambda method, key: HANG if method == "PUT" and f"/{kind}/" in key else None
        started = start_attempt(graph_run, {"AWS_ENDPOINT_URL": proxy.endpoint}, is_by_uri=by_uri)
        proxy.wait_for("PUT", f"/{kind}/")
        started.send_signal(number)
        started.communicate(timeout=60)
        assert started.returncode == -number
    wait_until(lambda: not marked_processes(tmp_path), "nothing of it runs any more")
    assert not [d for d in graph_run.deltas() if d.task_label == "join"]
    check_second_run(graph_run, reference, database, [])


def test_runner_that_was_stopped_takes_note_of_sigterm(chain_run: GraphRun) -> None:
    attempt = HaltedAttempt(chain_run, "task running", is_by_uri=False)
    runner = attempt.started
    runner.send_signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(runner.pid).status() == psutil.STATUS_STOPPED, "it stands")
    # Any of its threads may get what comes while it stands.
    runner.terminate()
    code, _ = attempt.go_on()
    assert code == 128 + signal.SIGTERM
    assert [d.status for d in chain_run.deltas() if d.task_label == "join"] == [
        AttemptStatus.ABORTED
    ]
