# SPDX-License-Identifier: BSD-3-Clause
"""The status of a RUN from recorded event logs, in the words of the field."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from executor.cli import app
from executor.submit.dag_states import states_of_dag
from executor.submit.run_status import TaskStatus
from executor.submit.state_series import JobState, StateSeries
from executor.submit.status_reading import estimate
from executor.submit.submissions import NODES_LOG, Submission
from tests.recorded_logs import submission_of

RUN = "u/me/night1"


def status(place: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """``quantum-exec status --json``."""
    done = CliRunner().invoke(app, ["status", RUN, "--directory", str(place), "--json", *options])
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def present(counts: Mapping[str, int]) -> dict[str, int]:
    """The states that something is in."""
    return {state: number for state, number in counts.items() if number}


def test_failures_are_told_with_retries_evictions_and_holds(tmp_path: Path) -> None:
    submission_of("failures", tmp_path, RUN)
    found = status(tmp_path, code=1)
    assert present(found["quanta"]) == {"SUCCEEDED": 7, "FAILED": 2, "PRUNED": 1}
    assert found["dag"]["state"] == "ENDED"
    assert found["dag"]["exit_code"] == 1
    # isr_2 was tried three times, isr_7 twice; one job was vacated, one starter killed.
    assert (found["retries"], found["evictions"]) == (3, 2)
    assert {g["cause"]: g["holds"] for g in found["holds"]} == {"memory": 1, "user": 1}
    errors = {g["error"] for g in found["failures"]}
    assert errors == {"the job ended with exit code 1", "the job was killed by signal 9"}
    assert found["dag"]["other_jobs"] == {"merge": "FAILED"}
    isr = next(task for task in found["tasks"] if task["label"] == "isr")
    assert isr["requested_mib"] == 64
    assert isr["used_mib"] > 40


def test_done_nodes_of_a_rescue_file_are_done(tmp_path: Path) -> None:
    submission_of("rescue", tmp_path, RUN)
    found = status(tmp_path, code=1)
    assert present(found["quanta"]) == {"SUCCEEDED": 10}


def test_earlier_submissions_count_for_retries(tmp_path: Path) -> None:
    submission_of("failures", tmp_path, RUN)
    submission_of("rescue", tmp_path, RUN, stamp="20261122T200000")
    found = status(tmp_path, code=1)
    assert found["dag"]["submissions"] == 2
    assert found["retries"] == 5


def test_removed_dag(tmp_path: Path) -> None:
    submission_of("removed", tmp_path, RUN)
    found = status(tmp_path, code=1)
    assert found["dag"]["state"] == "REMOVED"
    assert present(found["quanta"]) == {"DELETED": 1, "UNREADY": 1}


def test_every_moment_of_a_log_has_a_state_for_every_node(tmp_path: Path) -> None:
    directory = submission_of("failures", tmp_path, RUN)
    content = (directory / NODES_LOG).read_bytes()
    (directory / "run.dag.rescue001").unlink()
    (directory / "run.dag.dagman.log").unlink()
    submission, seen = Submission(directory), set()
    for end in range(0, len(content), 97):
        (directory / NODES_LOG).write_bytes(content[:end])
        submission.read_on()
        states = states_of_dag(submission)
        assert len(states) == 11
        seen |= set(states.values())
        counts = submission.log.series.counts
        assert all(number >= 0 for number in counts.values())
    assert seen == set(JobState) - {JobState.DELETED}


def test_page_has_plots_and_tables(tmp_path: Path) -> None:
    submission_of("failures", tmp_path, RUN)
    page = tmp_path / "page.html"
    status(tmp_path, "--html", str(page), code=1)
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "the job was killed by signal 9" in text


def test_tables_are_for_people(tmp_path: Path) -> None:
    submission_of("failures", tmp_path, RUN)
    words = ["status", RUN, "--directory", str(tmp_path), "--failed", "--held", "--watch"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "7 of 10 quanta are done; DAG 1.0 ENDED with exit code 1" in done.stdout
    assert "failed: isr, quantum isr_9: the job was killed by signal 9" in done.stdout


def test_without_a_submission_it_says_where_it_looked(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["status", RUN, "--directory", str(tmp_path)])
    assert "expected a submission below" in str(done.exception)


@pytest.mark.parametrize(
    ("left", "running", "median_s", "rate", "expected"),
    [
        (10, 2, 60.0, None, (330.0, "run times")),
        (10, 2, None, 0.1, (120.0, "rate")),
        (10, 0, 60.0, 0.1, (100.0, "rate")),
        (10, 2, None, None, (None, None)),
        (0, 0, 60.0, 0.1, (None, None)),
    ],
)
def test_what_is_left_is_estimated_or_not_known(
    left: int, running: int, median_s: float | None, rate: float | None, expected: object
) -> None:
    task = TaskStatus("isr", median_run_s=median_s)
    task.jobs.update({JobState.PENDING: left, JobState.RUNNING: running})
    assert estimate([task], rate) == expected


def test_series_stays_small() -> None:
    series = StateSeries()
    for second in range(50_000):
        series.change(None, JobState.SUCCEEDED, float(second))
    assert len(series.samples) <= 2000
    assert series.samples[-1].counts[JobState.SUCCEEDED] > 49_000
    assert series.rate(50_000.0) == pytest.approx(1.0, rel=0.01)
