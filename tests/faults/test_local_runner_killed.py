# SPDX-License-Identifier: BSD-3-Clause
"""A local runner and its wrappers, stopped or killed in mid-flight, and run again."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from executor.exit_codes import ExitCode
from registry.attempt import AttemptStatus
from tests.local_graphs import GraphRun, make_survey
from tests.processes import processes_in, wait_until

Result = set[tuple[str, str, str]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the graph makes when it is left alone: type, data ID and checksum."""
    directory = tmp_path_factory.mktemp("undisturbed")
    alone = GraphRun(directory, (directory / "store").as_uri(), make_survey(4))
    assert alone.run("-j", "2").code == 0
    return alone.result()


@pytest.fixture
def graph_run(tmp_path: Path) -> Iterator[GraphRun]:
    """A graph whose fits wait for a file; nothing of it runs after the test."""
    document = make_survey(4)
    waiting = 'touch "$1/begun.$2"; until [ -e "$1/go" ]; do sleep 0.01; done; shift 2; exec "$@"'
    document["tasks"]["fit"]["command"] = [
        *("sh", "-c", waiting, "sh", str(tmp_path), "{data_id:exposure}"),
        *document["tasks"]["fit"]["command"],
    ]
    found = GraphRun(tmp_path, (tmp_path / "store").as_uri(), document)
    yield found
    for process in processes_in(tmp_path):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def begin(graph_run: GraphRun) -> "subprocess.Popen[str]":
    """Start the runner, and wait until two fits are under way."""
    runner = graph_run.start("-j", "2", "--json")
    begun = graph_run.directory.glob
    wait_until(
        lambda: len(list(begun("begun.*"))) == 2 or runner.poll() is not None, "two fits have begun"
    )
    assert runner.poll() is None, runner.communicate()
    return runner


def wrappers_of(runner: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The processes of ``quantum-exec run`` below a runner."""
    return [p for p in psutil.Process(runner.pid).children() if "run" in p.cmdline()]


def finish(graph_run: GraphRun, undisturbed: Result) -> None:
    """Let the fits go on, run the graph again, and compare with a run that was left alone."""
    wait_until(lambda: not processes_in(graph_run.directory), "nothing of the first run is left")
    (graph_run.directory / "go").touch()
    report = graph_run.run("-j", "2")
    assert report.code == 0, report
    assert list(graph_run.scratch.iterdir()) == []
    assert graph_run.result() == undisturbed
    assert len(graph_run.counting()) == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_ends_in_aborted_attempts(
    graph_run: GraphRun, number: int, undisturbed: Result
) -> None:
    runner = begin(graph_run)
    runner.send_signal(number)
    stdout, stderr = runner.communicate(timeout=60)
    assert runner.returncode == 128 + number, stderr
    report = graph_run.report_of(runner.returncode, stdout, stderr)
    n_fits, n_successful, n_failed, n_blocked = report.counts["fit"]
    assert (n_fits, n_successful, n_failed) == (4, 0, 2), "the two that had begun"
    assert n_blocked == 2
    aborted = [d for d in graph_run.deltas() if d.status is AttemptStatus.ABORTED]
    assert [delta.task_label for delta in aborted] == ["fit", "fit"]
    assert list(graph_run.scratch.iterdir()) == []
    finish(graph_run, undisturbed)


def test_killed_runner_leaves_no_process_and_can_be_repeated(
    graph_run: GraphRun, undisturbed: Result
) -> None:
    runner = begin(graph_run)
    runner.kill()
    runner.communicate(timeout=60)
    wait_until(lambda: not processes_in(graph_run.directory), "wrappers and tasks have ended")
    assert not [d for d in graph_run.deltas() if d.task_label == "fit"]
    assert len(list(graph_run.scratch.iterdir())) == 1, "its sandboxes are left"
    finish(graph_run, undisturbed)


def test_killed_wrapper_fails_its_quantum_only(graph_run: GraphRun, undisturbed: Result) -> None:
    runner = begin(graph_run)
    victim = wrappers_of(runner)[0]
    (task,) = (p for p in victim.children() if "sh" in p.cmdline())
    victim.kill()
    wait_until(lambda: not task.is_running() or task.status() == "zombie", "its task has ended")
    (graph_run.directory / "go").touch()
    stdout, stderr = runner.communicate(timeout=60)
    assert runner.returncode == ExitCode.FAILED
    report = graph_run.report_of(runner.returncode, stdout, stderr)
    assert report.counts["fit"] == (4, 3, 1, 0)
    assert "quantum-exec run ended with SIGKILL and left no delta" in report.failures[0]
    finish(graph_run, undisturbed)


def test_runner_and_wrapper_killed_together(graph_run: GraphRun, undisturbed: Result) -> None:
    runner = begin(graph_run)
    victim = wrappers_of(runner)[0]
    runner.kill()
    victim.kill()
    runner.communicate(timeout=60)
    finish(graph_run, undisturbed)


def kill_after(graph_run: GraphRun, n_quanta: int) -> None:
    """Start the runner, and kill it when some quanta are done."""
    runner = graph_run.start("-j", "2")
    wait_until(
        lambda: len(graph_run.counting()) >= n_quanta or runner.poll() is not None,
        f"{n_quanta} quanta are done",
    )
    runner.kill()
    runner.communicate(timeout=60)


def test_runner_killed_again_and_again(graph_run: GraphRun, undisturbed: Result) -> None:
    (graph_run.directory / "go").touch()
    for n_deltas in (1, 3, 5, 7):
        kill_after(graph_run, n_deltas)
    finish(graph_run, undisturbed)
    assert graph_run.attempts().count(("coadd", AttemptStatus.SUCCESSFUL)) >= 1
