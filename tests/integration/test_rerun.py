# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec rerun``: one quantum again, from what is in the datastore."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from executor.exit_codes import ExitCode
from registry.attempt import AttemptStatus
from registry.model import derived_id
from tests.local_graphs import GraphRun, make_survey
from tests.processes import processes_in, wait_until
from tests.rerun_process import call as rerun
from tests.rerun_process import command as rerun_command


@pytest.fixture
def graph_run(tmp_path: Path) -> GraphRun:
    """A graph that was run, and of which one quantum failed."""
    found = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))
    found.fail("fit", exposure=1)
    assert found.run().code == ExitCode.FAILED
    return found


def failed_quantum(graph_run: GraphRun) -> str:
    """The id of the quantum that failed."""
    (found,) = {d.quantum_id for d in graph_run.deltas() if d.status is AttemptStatus.FAILED}
    return found


def test_as_published_it_fails_again(graph_run: GraphRun) -> None:
    done = rerun(graph_run, "--quantum", failed_quantum(graph_run))
    assert done.returncode == 3
    assert "fit of exposure 1 does not converge" in done.stderr
    assert graph_run.attempts().count(("fit", AttemptStatus.FAILED)) == 2


def test_mended_task_succeeds_and_the_rest_follows(graph_run: GraphRun) -> None:
    quantum_id = failed_quantum(graph_run)
    graph_run.mend()
    graph_run.prepare()
    done = rerun(graph_run, "--quantum", quantum_id, "--graph", "graph.yaml", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    counting = graph_run.counting()[quantum_id]
    assert report["quantum_id"] == quantum_id
    assert (report["attempt_id"], report["status"]) == (counting.attempt_id, "successful")
    assert report["exit_code"] == 0
    assert graph_run.run().code == 0
    assert len(graph_run.counting()) == 5


def test_success_is_not_repeated(graph_run: GraphRun) -> None:
    quantum_id, delta = next(iter(graph_run.counting().items()))
    done = rerun(graph_run, "--quantum", quantum_id)
    assert done.returncode == ExitCode.FAILED
    assert f"attempt {delta.attempt_id} of {delta.finished} was successful" in done.stderr


def test_quantum_whose_input_is_missing_is_told(graph_run: GraphRun) -> None:
    (coadd,) = [
        quantum_id
        for quantum_id in job_ids(graph_run)
        if quantum_id not in {d.quantum_id for d in graph_run.deltas()}
    ]
    done = rerun(graph_run, "--quantum", coadd)
    assert done.returncode == ExitCode.STAGE_IN_FAILED
    assert "expected a successful attempt of quantum" in done.stderr


def job_ids(graph_run: GraphRun) -> list[str]:
    """The ids of all published quanta."""
    return [Path(key).stem for key in graph_run.keys() if "/jobs/" in key]


@pytest.mark.parametrize("options", [[], ["--graph", "graph.yaml"]])
def test_unknown_quantum_is_told(graph_run: GraphRun, options: list[str]) -> None:
    unknown = derived_id("unknown")
    done = rerun(graph_run, "--quantum", unknown, *options)
    assert done.returncode == ExitCode.USAGE
    assert unknown in done.stderr
    assert "Traceback" not in done.stderr


def test_stopped_rerun_ends_as_aborted(graph_run: GraphRun) -> None:
    begun = graph_run.directory / "begun"
    command = ["sh", "-c", f"touch {begun}; sleep 1000"]
    graph_run.document["tasks"]["fit"]["command"] = command
    graph_run.prepare()
    options = ("--quantum", failed_quantum(graph_run), "--graph", "graph.yaml")
    with subprocess.Popen(rerun_command(graph_run, *options), cwd=graph_run.directory) as runner:
        wait_until(begun.exists, "the fit has begun")
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(timeout=60) == 128 + signal.SIGTERM
    assert ("fit", AttemptStatus.ABORTED) in graph_run.attempts()
    assert not processes_in(graph_run.directory)


def test_scratch_is_removed(graph_run: GraphRun) -> None:
    before = set(os.listdir(graph_run.directory))
    rerun(graph_run, "--quantum", failed_quantum(graph_run))
    assert set(os.listdir(graph_run.directory)) == before
