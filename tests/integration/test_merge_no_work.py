# SPDX-License-Identifier: BSD-3-Clause
"""No work and optional inputs, from tasks that really ran to the rows of the central registry."""

from dataclasses import replace
from pathlib import Path

import pytest

from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from merger.verification import verify_run
from registry.attempt import new_attempt_id
from registry.delta import AddedRows
from tests import dumps, factories
from tests.local_graphs import RUN, GraphRun, make_survey

Rows = list[tuple[object, ...]]


@pytest.fixture
def survey(tmp_path: Path) -> GraphRun:
    """Two exposures; there is nothing to do for exposure 1, and the coadd can be made without."""
    document = make_survey(2)
    command = document["tasks"]["isr"]["command"]
    script = 'if [ $1 = 1 ]; then exit 79; fi; shift; exec "$@"'
    document["tasks"]["isr"]["command"] = ["sh", "-c", script, "sh", "{data_id:exposure}", *command]
    document["tasks"]["coadd"]["optional_inputs"] = ["fit"]
    return GraphRun(tmp_path, (tmp_path / "store").as_uri(), document)


def check_equal(graph_run: GraphRun, address: str, n_deltas: int) -> None:
    """Merge, and find registry, deltas and bucket equal."""
    with CentralRegistry(address) as registry:
        report = merge_run(registry, graph_run.store, RUN)
        assert (report.counts.n_deltas, report.quarantined) == (n_deltas, [])
        found = verify_run(registry, graph_run.store, RUN, checksums=True)
    assert [finding for finding in found.findings if finding.is_difference] == []


def attempts(address: str) -> Rows:
    """What the registry says of each quantum."""
    return dumps.rows(
        address,
        """SELECT q.task_label, q.data_id->>'exposure', q.status, a.no_work, a.exit_code,
            (SELECT count(*) FROM quantum_input i WHERE i.attempt_id = a.attempt_id),
            (SELECT count(*) FROM dataset d WHERE d.attempt_id = a.attempt_id)
        FROM quantum q JOIN attempt a USING (attempt_id)
        WHERE NOT a.superseded ORDER BY 1, 2""",
    )


def test_no_work_and_what_follows_from_it(survey: GraphRun, database: str) -> None:
    assert survey.run().code == 0
    check_equal(survey, database, 5)
    assert attempts(database) == [
        # Without its optional input; the other one is there.
        ("coadd", None, "successful", False, 0, 1, 1),
        ("fit", "0", "successful", False, 0, 1, 1),
        # Its required input was never made, so the task was not even started.
        ("fit", "1", "successful", True, None, 0, 0),
        ("isr", "0", "successful", False, 0, 1, 1),
        # The task itself said that there is nothing to do.
        ("isr", "1", "successful", True, 79, 1, 0),
    ]
    ((read_from,),) = dumps.rows(
        database,
        """SELECT q.data_id->>'exposure' FROM quantum_input i
        JOIN quantum c ON c.attempt_id = i.attempt_id AND c.task_label = 'coadd'
        JOIN quantum q ON q.attempt_id = i.input_attempt_id""",
    )
    assert read_from == "0"
    assert b"".join(survey.content("coadd")) == b"raw 0\nisr\nfit\n"


def test_no_work_may_make_some_of_its_outputs(survey: GraphRun, database: str) -> None:
    task = survey.document["tasks"]["isr"]
    task["command"] = ["sh", "-c", 'cp "$1" "$2"; exit 79', "sh", "{input:raw}", "{output:isr}"]
    assert survey.run().code == 0
    check_equal(survey, database, 5)
    found = {(row[0], row[1]): row[3:] for row in attempts(database)}
    assert found["isr", "0"] == found["isr", "1"] == (True, 79, 1, 1)
    assert found["fit", "1"] == (False, 0, 1, 1)


def test_no_work_with_every_input_missing(survey: GraphRun, database: str) -> None:
    """All inputs are optional, and none was made: the task runs, with nothing to read."""
    survey.document["tasks"]["isr"]["command"] = ["sh", "-c", "exit 79"]
    assert survey.run().code == 0
    check_equal(survey, database, 5)
    found = {(row[0], row[1]): row[3:] for row in attempts(database)}
    assert found["coadd", None] == (False, 0, 0, 1)
    assert found["fit", "0"] == found["fit", "1"] == (True, None, 0, 0)
    assert dumps.rows(database, "SELECT dataset_type FROM dataset") == [("coadd",)]


def test_newer_attempt_with_no_work_takes_the_datasets_away(
    survey: GraphRun, database: str
) -> None:
    """What counts is the newest success, even if it made less than the one before."""
    assert survey.run().code == 0
    check_equal(survey, database, 5)
    (old,) = [d for d in survey.counting().values() if d.task_label == "coadd"]
    newer = new_attempt_id(after=old.attempt_id)
    delta = replace(old, attempt_id=newer, no_work=True, rows=AddedRows(), log_key=None)
    factories.put_delta(survey.store, delta)
    check_equal(survey, database, 1)
    assert ("coadd", None, "successful", True, 0, 1, 0) in attempts(database)
    assert dumps.rows(database, "SELECT count(*) FROM dataset WHERE dataset_type = 'coadd'") == [
        (0,)
    ]
