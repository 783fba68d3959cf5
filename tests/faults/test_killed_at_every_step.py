# SPDX-License-Identifier: BSD-3-Clause
"""Wrapper, task or runner ended at each step of an attempt; a second run makes up for it.

Three quanta in a row; the one in the middle reads two datasets and makes two. It is attempted
from a datastore where the first has run, is ended, and the graph is run again.
"""

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from registry import names
from registry.attempt import AttemptStatus
from tests.chain_graph import make_run, quantum_id
from tests.fix_postgres import PostgresServer
from tests.halted_processes import Halt, go_on, marked_processes, wait_halted, wait_pending
from tests.local_graphs import RUN, GraphRun
from tests.processes import has_ended, wait_until
from tests.run_outcome import (
    Content,
    named_by_verify,
    other_attempts,
    registry_content,
    registry_merge,
    unnamed_datasets,
)
from tests.s3_proxy import HANG, S3Proxy
from tests.wrapper_process import COMMAND
from transfer_plugins.object_store import DirectoryObjectStore

# Whoever stages is the runner, or the wrapper that was given a URI.
STAGING = "run-local"
STEPS = {
    "sandbox made": Halt(STAGING, "open", r"/stage-out\.json w"),
    "half of the inputs there": Halt(STAGING, "os.rename", r"/repo/.*/\.part-", 2),
    "registry seeded": Halt("run", "subprocess.Popen", "^sh "),
    "task running": None,
    "outputs written": None,
    "outputs recorded": Halt("run", "open", r"/stage-out\.json\.part w"),
    "half uploaded": Halt(STAGING, "os.rename", rf"/\.part-.*/store/{RUN}/(sum|difference)/", 2),
    "delta uploading": Halt(STAGING, "os.rename", r"/deltas/\.part-"),
    "delta uploaded": Halt(STAGING, "os.remove", r"/deltas/\.part-"),
}
"""Where a process stops itself; None: where the task tells that it has come so far."""

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


@dataclass(frozen=True, slots=True)
class Reference:
    """What an undisturbed run made, and a datastore in which only the first quantum has run."""

    begun: Path
    result: set[tuple[str, str, str]]
    content: Content


@pytest.fixture(scope="module")
def reference(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Reference]:
    """The undisturbed run."""
    directory = tmp_path_factory.mktemp("undisturbed")
    alone = make_run(directory)
    assert alone.run("-j", "1").code == 0
    postgres_server.execute("CREATE DATABASE {} TEMPLATE {}", "undisturbed", "registry_template")
    address = postgres_server.address("undisturbed")
    registry_merge("merge", address, alone.store, RUN)
    content = registry_content(address)
    assert all(content[table] for table in ("metric", "dimension_source", "quantum_input"))
    assert named_by_verify(address, alone.store, RUN) == {}
    begun = directory / "begun"
    shutil.copytree(directory / "store", begun)
    for kind in ("sum", "difference", "plot"):
        shutil.rmtree(begun / RUN / kind)
    first = quantum_id("split")
    for path in (begun / names.control_prefix(RUN)).glob("[dl]*s/*"):
        if not path.name.startswith(first):
            path.unlink()
    yield Reference(begun, alone.result(), content)
    postgres_server.execute("DROP DATABASE {} WITH (FORCE)", "undisturbed")


@pytest.fixture
def graph_run(tmp_path: Path, reference: Reference) -> Iterator[GraphRun]:
    """The graph where its first quantum has run; nothing of it is left after the test."""
    shutil.copytree(reference.begun, tmp_path / "store")
    made = make_run(tmp_path)
    yield made
    for process in marked_processes(tmp_path):
        process.kill()


def start(
    graph_run: GraphRun, is_by_uri: bool, settings: dict[str, str]
) -> "subprocess.Popen[str]":
    """Start the runner, or a wrapper that stages by itself."""
    environment = {**graph_run.environment, **settings}
    graph_run.prepare()
    words = [
        *COMMAND,
        f"{graph_run.datastore}/{names.job_key(RUN, quantum_id('join'))}",
        "--sandbox",
        "by-hand",
    ]
    return subprocess.Popen(
        words if is_by_uri else graph_run.command("-j", "1"),
        cwd=graph_run.directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Attempt:
    """An attempt at the quantum in the middle that has come to a step, and stands there."""

    def __init__(self, graph_run: GraphRun, step: str, victim: str) -> None:
        self.directory, self.marker = graph_run.directory, graph_run.directory / "halted"
        halt = STEPS[step]
        self.is_by_uri = victim == "wrapper" and halt is not None and halt.command == STAGING
        if halt is None:
            settings = {"TELL_AT": step, "TELL_IN": str(self.marker)}
        else:
            settings = halt.environment(self.marker)
        if self.is_by_uri:
            settings["HALT_COMMAND"] = "run"
        self.started = start(graph_run, self.is_by_uri, settings)
        self.halted = wait_halted(self.marker) if halt else self._wait_for_task()

    def _wait_for_task(self) -> int:
        wait_until(self.marker.exists, "the task has come so far")
        return int(self.marker.read_text())

    def process_of(self, victim: str) -> int:
        """Id of the process that is to be ended."""
        if victim == "runner" or self.is_by_uri:
            return self.started.pid
        wrapper = next(
            p for p in psutil.Process(self.started.pid).children() if "run" in p.cmdline()
        )
        return wrapper.pid if victim == "wrapper" else self.halted

    def end(self, victim: str, number: signal.Signals) -> str:
        """Send the signal, let go on what stands, and wait until everything has ended."""
        pid = self.process_of(victim)
        is_stopped = psutil.Process(self.halted).status() == psutil.STATUS_STOPPED
        os.kill(pid, number)
        if is_stopped and pid != self.halted:
            if number == signal.SIGKILL:
                wait_until(lambda: has_ended(pid), f"{victim} has ended")
            # Both ways the wrapper is told to stop: by the runner, or because that is gone.
            wait_pending(self.halted, signal.SIGTERM)
        if is_stopped and (pid != self.halted or number != signal.SIGKILL):
            go_on(self.halted)
        _, stderr = self.started.communicate(timeout=60)
        wait_until(lambda: not marked_processes(self.directory), "nothing of it runs any more")
        return stderr


def statuses_after(step: str, victim: str, number: signal.Signals) -> list[list[AttemptStatus]]:
    """The deltas that the ended attempt may have left: none, or one."""
    steps = list(STEPS)
    is_before_task = steps.index(step) < steps.index("registry seeded")
    has_results = steps.index(step) >= steps.index("outputs recorded")
    if step == "delta uploaded":
        return [[AttemptStatus.SUCCESSFUL]]
    if victim == "task":
        return [[AttemptStatus.FAILED]]
    is_by_uri = victim == "wrapper" and (STEPS[step] or Halt("", "", "")).command == STAGING
    if number == signal.SIGKILL or is_by_uri:
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
    graph_run: GraphRun,
    reference: Reference,
    database: str,
    step: str,
    victim: str,
    number: signal.Signals,
) -> None:
    told = Attempt(graph_run, step, victim).end(victim, number)
    deltas = [d.status for d in graph_run.deltas() if d.task_label == "join"]
    assert deltas in statuses_after(step, victim, number), told
    check_second_run(graph_run, reference, database, deltas)


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
    left = unnamed_datasets(database, graph_run.store, RUN)
    found = named_by_verify(database, graph_run.store, RUN)
    assert found.get("orphan", set()) | found.get("superseded_object", set()) == left
    check_nothing_is_left(graph_run)


@pytest.mark.parametrize(
    ("kind", "is_by_uri", "number"),
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
    is_by_uri: bool,
    number: signal.Signals,
) -> None:
    graph_run = make_run(tmp_path, datastore)
    for stored in DirectoryObjectStore(reference.begun).list_objects(""):
        graph_run.store.put(stored.key, (reference.begun / stored.key).read_bytes())
    with S3Proxy(s3_endpoint) as proxy:
        proxy.rule = lambda method, key: HANG if method == "PUT" and f"/{kind}/" in key else None
        started = start(graph_run, is_by_uri, {"AWS_ENDPOINT_URL": proxy.endpoint})
        proxy.wait_for("PUT", f"/{kind}/")
        started.send_signal(number)
        started.communicate(timeout=60)
        assert started.returncode == -number
    wait_until(lambda: not marked_processes(tmp_path), "nothing of it runs any more")
    assert not [d for d in graph_run.deltas() if d.task_label == "join"]
    check_second_run(graph_run, reference, database, [])
