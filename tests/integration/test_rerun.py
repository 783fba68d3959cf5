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
from tests.local_graphs import GraphRun
from tests.processes import processes_in, wait_until
from tests.rerun_process import call as rerun
from tests.rerun_process import command as rerun_command


def failed_quantum(failed_survey: GraphRun) -> str:
    """The id of the quantum that failed."""
    (found,) = {d.quantum_id for d in failed_survey.deltas() if d.status is AttemptStatus.FAILED}
    return found


def test_as_published_it_fails_again(failed_survey: GraphRun) -> None:
    done = rerun(failed_survey, "--quantum", failed_quantum(failed_survey))
    assert done.returncode == 3
    assert "fit of exposure 1 does not converge" in done.stderr
    assert failed_survey.attempts().count(("fit", AttemptStatus.FAILED)) == 2


def test_mended_task_succeeds_and_the_rest_follows(failed_survey: GraphRun) -> None:
    quantum_id = failed_quantum(failed_survey)
    failed_survey.mend()
    failed_survey.prepare()
    done = rerun(failed_survey, "--quantum", quantum_id, "--graph", "graph.yaml", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    counting = failed_survey.counting()[quantum_id]
    assert report["quantum_id"] == quantum_id
    assert (report["attempt_id"], report["status"]) == (counting.attempt_id, "successful")
    assert report["exit_code"] == 0
    assert failed_survey.run().code == 0
    assert len(failed_survey.counting()) == 5


def test_success_is_not_repeated(failed_survey: GraphRun) -> None:
    quantum_id, delta = next(iter(failed_survey.counting().items()))
    done = rerun(failed_survey, "--quantum", quantum_id)
    assert done.returncode == ExitCode.FAILED
    assert f"attempt {delta.attempt_id} of {delta.finished} was successful" in done.stderr


def test_quantum_whose_input_is_missing_is_told(failed_survey: GraphRun) -> None:
    (coadd,) = [
        quantum_id
        for quantum_id in job_ids(failed_survey)
        if quantum_id not in {d.quantum_id for d in failed_survey.deltas()}
    ]
    done = rerun(failed_survey, "--quantum", coadd)
    assert done.returncode == ExitCode.STAGE_IN_FAILED
    assert "expected a successful attempt of quantum" in done.stderr


def job_ids(failed_survey: GraphRun) -> list[str]:
    """The ids of all published quanta."""
    return [Path(key).stem for key in failed_survey.keys() if "/jobs/" in key]


@pytest.mark.parametrize("options", [[], ["--graph", "graph.yaml"]])
def test_unknown_quantum_is_told(failed_survey: GraphRun, options: list[str]) -> None:
    unknown = derived_id("unknown")
    done = rerun(failed_survey, "--quantum", unknown, *options)
    assert done.returncode == ExitCode.USAGE
    assert unknown in done.stderr
    assert "Traceback" not in done.stderr


def test_stopped_rerun_ends_as_aborted(failed_survey: GraphRun) -> None:
    begun = failed_survey.directory / "begun"
    command = ["sh", "-c", f"touch {begun}; sleep 1000"]
    failed_survey.document["tasks"]["fit"]["command"] = command
    failed_survey.prepare()
    options = ("--quantum", failed_quantum(failed_survey), "--graph", "graph.yaml")
    with subprocess.Popen(
        rerun_command(failed_survey, *options), cwd=failed_survey.directory
    ) as runner:
        wait_until(begun.exists, "the fit has begun")
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(timeout=60) == 128 + signal.SIGTERM
    assert ("fit", AttemptStatus.ABORTED) in failed_survey.attempts()
    assert not processes_in(failed_survey.directory)


def test_scratch_is_removed(failed_survey: GraphRun) -> None:
    before = set(os.listdir(failed_survey.directory))
    rerun(failed_survey, "--quantum", failed_quantum(failed_survey))
    assert set(os.listdir(failed_survey.directory)) == before
