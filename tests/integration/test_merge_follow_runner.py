# SPDX-License-Identifier: BSD-3-Clause
"""A graph is run in one process and merged in another at the same time."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from merger.cli import app
from merger.exit_codes import ExitCode
from tests.local_graphs import RUN, GraphRun, make_survey
from tests.merge_process import MergeProcess
from tests.run_outcome import named_by_verify

N_EXPOSURES = 4


@pytest.fixture
def survey(tmp_path: Path) -> GraphRun:
    """Correct and fit four exposures, coadd all."""
    return GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(N_EXPOSURES))


def follow(survey: GraphRun, database: str, *options: str) -> MergeProcess:
    """Start to follow the RUN."""
    return MergeProcess(
        *("merge", survey.datastore, RUN, "--database", database),
        *("--follow", "--poll", "0.2", "--json", *options),
    )


def unfinished(report: dict[str, Any]) -> set[tuple[str, str]]:
    """Task label and reason of the quanta without success."""
    return {(quantum["task_label"], quantum["reason"]) for quantum in report["unfinished"]}


def test_both_end_and_verify_is_equal(survey: GraphRun, database: str) -> None:
    """The follower is there before the graph is."""
    with follow(survey, database) as following:
        following.wait_for_message("waits for a graph of the RUN")
        assert survey.run("-j", "2").code == 0
        report = following.report()
    assert report["exit_code"] == ExitCode.OK
    assert report["n_quanta_merged"] == report["n_quanta_predicted"] == 2 * N_EXPOSURES + 1
    assert report["n_passes"] > 1
    assert named_by_verify(database, survey.store, RUN) == {}


def test_failed_and_blocked_quanta(survey: GraphRun, database: str) -> None:
    """Both end although nothing more can come of some quanta; mended, they are merged as well."""
    survey.fail("fit", 1)
    with follow(survey, database) as following:
        assert survey.run("-j", "2").code == 1
        report = following.report()
    assert report["exit_code"] == ExitCode.OK
    assert unfinished(report) == {("fit", "failed"), ("coadd", "blocked")}
    (failed,) = [q for q in report["unfinished"] if q["reason"] == "failed"]
    assert (failed["data_id"], failed["exit_code"]) == ({"exposure": 1}, 3)
    survey.mend()
    words = ["merge", survey.datastore, RUN, "--database", database]
    with follow(survey, database, "--retries", "1") as following:
        assert survey.run("-j", "2").code == 0
        assert following.report()["n_quanta_merged"] == 2 * N_EXPOSURES + 1
    assert CliRunner().invoke(app, words).exit_code == ExitCode.OK
    assert set(named_by_verify(database, survey.store, RUN)) <= {"orphan_log"}


def test_closing_table_for_people(survey: GraphRun, database: str) -> None:
    survey.fail("isr", 0)
    assert survey.run("-j", "2").code == 1
    words = ("merge", survey.datastore, RUN, "--database", database, "--follow")
    with MergeProcess(*words) as following:
        code, shown, _ = following.end()
    assert code == ExitCode.OK
    tables = [line for line in shown.splitlines() if line[:1] in "┏┃┡│└├"]
    assert max(map(len, tables)) <= 80
    assert "1 quantum failed:" in shown
    assert "2 quanta blocked by one that failed:" in shown
    assert 'isr {"exposure":0} ' in shown
    assert "; 1 attempt, last exit code 3" in shown
