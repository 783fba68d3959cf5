# SPDX-License-Identifier: BSD-3-Clause
"""The local runner in a bad place: killed wrappers, other people's children, no room to write."""

import subprocess
import sys
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from executor.graph.yaml_graph import read_graph_file
from executor.parent_death import is_subreaper
from executor.submit.bucket_run import read_bucket_run
from executor.submit.local_attempt import Children, attempt_locally
from executor.submit.local_runner import LocalRun, run_locally
from executor.submit.plan import plan_of_graph
from executor.submit.publish import publish_graph
from executor.submit.rerun import plan_of_bucket
from registry import names
from tests.local_graphs import GraphRun, make_survey
from tests.processes import has_ended, processes_in, wait_until
from transfer_plugins.object_store import DirectoryObjectStore

# The shell is killed with the wrapper, by Linux; what it started is not.
KILL_THE_WRAPPER = {
    "first of two commands": "sleep 1000; echo never",
    "background": "sleep 1000 & wait",
    "without environment": "env -i sleep 1000 & wait",
    "daemon": "setsid sleep 1000 & wait",
    "daemon without environment": "env -i setsid sh -c 'sleep 1000; :' & wait",
}


@pytest.fixture
def local(tmp_path: Path) -> GraphRun:
    """A graph of two exposures, not yet run."""
    return GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))


def run_here(local: GraphRun, jobs: int = 1) -> LocalRun:
    """Run the graph in this process, as a library."""
    local.prepare()
    graph, store = read_graph_file(local.graph_file), local.store
    publish_graph(graph, store)
    return run_locally(plan_of_graph(graph, store), store, jobs=jobs, scratch=local.scratch)


@pytest.mark.parametrize("left", KILL_THE_WRAPPER.values(), ids=KILL_THE_WRAPPER)
def test_killed_wrapper_leaves_no_process(local: GraphRun, left: str) -> None:
    script = f"(kill -KILL $PPID) & {left}"
    local.document["tasks"]["isr"]["command"] = ["sh", "-c", script]
    run = run_here(local)
    assert not processes_in(local.directory)
    assert len(run.failed()) == 2
    for end in run.ended.values():
        assert end.error and "quantum-exec run ended with SIGKILL and left no delta" in end.error
    assert not is_subreaper()


def test_children_of_others_are_left_alone(local: GraphRun) -> None:
    """A program that runs a graph keeps its own children, and their exit codes."""
    local.document["tasks"]["isr"]["command"] = ["sh", "-c", "kill -KILL $PPID; sleep 1000"]
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    ours = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    try:
        wait_until(lambda: has_ended(ended.pid), "one of them has ended, and was not asked")
        assert len(run_here(local).failed()) == 2
        assert [child.poll() for child in ours] == [None, None]
        assert ended.wait(timeout=30) == 7
    finally:
        for child in ours:
            child.kill()
            child.wait(timeout=30)


def test_sandbox_that_cannot_be_made_ends_the_quantum(local: GraphRun) -> None:
    local.prepare()
    graph = read_graph_file(local.graph_file)
    store = DirectoryObjectStore(local.directory / "store")
    (local.directory / "file").write_text("no directory")
    job = graph.job_of(graph.quanta[-1])
    end = attempt_locally(job, store, local.directory / "file" / "below", Children())
    assert (end.delta, end.exit_code) == (None, ExitCode.SANDBOX_UNUSABLE)
    assert end.error and "expected a directory to write in" in end.error
    assert str(local.directory / "file") in end.error


def test_quantum_without_room_fails_and_the_rest_goes_on(local: GraphRun) -> None:
    """No file may be larger than 1 MiB, and one of the inputs is."""
    local.prepare()
    local.store.put("raw/1.txt", b"x" * 3 * 1024 * 1024)
    words = " ".join(f"'{word}'" for word in local.command("--json", "-j", "2"))
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 2048; exec {words}"], capture_output=True, text=True, timeout=120
    )
    report = local.report_of(done.returncode, done.stdout, done.stderr)
    assert report.code == ExitCode.FAILED, report.stderr
    assert report.counts == {"isr": (2, 1, 1, 0), "fit": (2, 1, 0, 1), "coadd": (1, 0, 0, 1)}
    (failure,) = report.failures
    assert "raw/1.txt: File too large" in failure
    assert "Traceback" not in done.stderr


def test_job_that_cannot_be_read_fails_alone(local: GraphRun) -> None:
    """A plan made of the bucket reads each job when it is wanted."""
    local.prepare()
    graph, store = read_graph_file(local.graph_file), local.store
    publish_graph(graph, store)
    bucket = read_bucket_run(store, graph.run)
    plan = plan_of_bucket(bucket, list(bucket.quanta), bucket.job_of)
    lost = next(q for q, found in plan.quanta.items() if found.task_label == "isr")
    store.delete(names.job_key(graph.run, lost))
    run = run_locally(plan, store, jobs=2, scratch=local.scratch)
    assert run.failed() == [lost]
    assert f"{lost}.json: not found" in str(run.ended[lost].error)
    assert sum(run.is_successful(q) for q in plan.quanta) == 2
