# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec rerun --replace``: new attempts in the place of successful ones."""

import signal
import subprocess
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from merger.verification import verify_run
from registry import names
from tests import dumps
from tests.local_graphs import RUN, GraphRun, make_survey
from tests.processes import processes_in, wait_until
from tests.rerun_process import append_to_task, call, command, quantum_of, rerun


@pytest.fixture(params=["directory", "s3"])
def graph_run(request: pytest.FixtureRequest, tmp_path: Path) -> GraphRun:
    """A graph of two exposures that was run, on each kind of datastore."""
    is_s3 = request.param == "s3"
    uri = request.getfixturevalue("datastore") if is_s3 else (tmp_path / "store").as_uri()
    return completed(tmp_path, uri)


@pytest.fixture
def local(tmp_path: Path) -> GraphRun:
    """The same on a directory only."""
    return completed(tmp_path, (tmp_path / "store").as_uri())


def completed(directory: Path, uri: str) -> GraphRun:
    """Run the graph, and look that all is well."""
    found = GraphRun(directory, uri, make_survey(2))
    report = found.run("-j", "2")
    assert report.code == 0, report
    return found


def replace_isr(graph_run: GraphRun, *options: str) -> tuple[str, ...]:
    """Mend the isr; returns the options that replace the one of exposure 0 with it."""
    append_to_task(graph_run, "isr", "echo mended >> $1")
    isr = quantum_of(graph_run, "isr", exposure=0)
    return ("--quantum", isr, "--graph", "graph.yaml", "--replace", *options)


def test_new_attempt_counts_and_consumers_are_named(graph_run: GraphRun) -> None:
    options = replace_isr(graph_run)
    before = graph_run.counting()
    found = rerun(graph_run, *options)
    assert found.code == 0, found.stderr
    isr = quantum_of(graph_run, "isr", exposure=0)
    assert found.report["replaces"] == before[isr].attempt_id
    assert found.report["attempt_id"] > before[isr].attempt_id
    assert graph_run.counting()[isr].attempt_id == found.report["attempt_id"]
    assert [(q["task_label"], q["data_id"]) for q in found.report["consumers"]] == [
        ("fit", {"exposure": 0})
    ]
    assert b"raw 0\nisr\nmended\n" in graph_run.content("isr")


def test_dry_run_names_the_consumers_and_writes_nothing(local: GraphRun) -> None:
    options = replace_isr(local, "--dry-run")
    before = {key: local.store.get(key) for key in local.keys()}
    done = call(local, *options)
    lines = done.stdout.splitlines()
    fit = quantum_of(local, "fit", exposure=0)
    assert lines[0] == "1 quanta would be run:"
    assert lines[2:] == [
        "1 quanta read outputs of replaced attempts:",
        f"  fit (exposure=0), quantum {fit}",
    ]
    assert {key: local.store.get(key) for key in local.keys()} == before


def test_downstream_is_replaced_in_order(local: GraphRun) -> None:
    options = replace_isr(local, "--downstream", "-j", "2")
    before = local.counting()
    found = rerun(local, *options)
    assert found.code == 0, found.stderr
    assert sorted(found.labels) == ["coadd", "fit", "isr"]
    assert found.report["consumers"] == []
    assert local.content("coadd") == [b"raw 0\nisr\nmended\nfit\nraw 1\nisr\nfit\n"]
    after = local.counting()
    changed = {d.task_label for q, d in after.items() if d.attempt_id != before[q].attempt_id}
    assert (changed, len(after)) == ({"isr", "fit", "coadd"}, 5)


def test_nothing_is_run_again_afterwards(local: GraphRun) -> None:
    options = replace_isr(local, "--downstream")
    assert rerun(local, *options).code == 0
    attempts = sorted(d.attempt_id for d in local.deltas())
    assert len(attempts) == 5 + 3
    assert local.run("-j", "2").code == 0
    assert sorted(d.attempt_id for d in local.deltas()) == attempts
    assert not [key for key in local.keys() if "/replacements/" in key]


def test_replacing_again_makes_yet_another_attempt(local: GraphRun) -> None:
    options = replace_isr(local)
    first, second = rerun(local, *options), rerun(local, *options)
    assert (first.code, second.code) == (0, 0)
    assert second.report["replaces"] == first.report["attempt_id"]


def test_failed_replacement_leaves_the_old_attempt(local: GraphRun) -> None:
    isr = quantum_of(local, "isr", exposure=0)
    old = local.counting()[isr].attempt_id
    append_to_task(local, "isr", "exit 7")
    done = call(local, "--quantum", isr, "--graph", "graph.yaml", "--replace", "--downstream")
    assert done.returncode == ExitCode.FAILED
    assert f"quantum {isr}: not replaced, attempt {old} still counts" in done.stderr
    assert local.counting()[isr].attempt_id == old
    assert len(local.counting()) == 5
    local.mend()
    assert local.run().code == 0
    assert local.counting()[isr].attempt_id == old


def test_exit_code_is_that_of_the_only_quantum(local: GraphRun) -> None:
    append_to_task(local, "isr", "exit 7")
    isr = quantum_of(local, "isr", exposure=0)
    found = rerun(local, "--quantum", isr, "--graph", "graph.yaml", "--replace")
    assert (found.code, found.report["exit_code"], found.report["status"]) == (7, 7, "failed")
    assert list(found.report["not_replaced"]) == [isr]


def test_killed_half_way_it_goes_on_where_it_was(local: GraphRun) -> None:
    go = local.directory / "go"
    append_to_task(local, "fit", f"until [ -e {go} ]; do sleep 0.01; done")
    options = replace_isr(local, "--downstream")
    before = local.counting()
    isr, fit = (quantum_of(local, label, exposure=0) for label in ("isr", "fit"))
    runner = subprocess.Popen(command(local, *options), cwd=local.directory)
    wait_until(lambda: local.counting()[isr] != before[isr], "the isr is replaced")
    runner.send_signal(signal.SIGKILL)
    runner.wait(timeout=60)
    replaced = local.counting()[isr].attempt_id
    wait_until(lambda: not processes_in(local.directory), "nothing of the first call is left")
    go.touch()
    assert local.counting()[fit] == before[fit]
    again = rerun(local, *options)
    assert again.code == 0, again.stderr
    assert local.counting()[isr].attempt_id == replaced, "done by the first call"
    assert local.counting()[fit].attempt_id > before[fit].attempt_id
    assert local.content("coadd") == [b"raw 0\nisr\nmended\nfit\nraw 1\nisr\nfit\n"]


def test_merged_the_new_attempt_counts_and_the_old_is_superseded(
    local: GraphRun, database: str
) -> None:
    isr = quantum_of(local, "isr", exposure=0)
    old = local.counting()[isr]
    with CentralRegistry(database) as registry:
        assert merge_run(registry, local.store, RUN).exit_code == 0
        found = rerun(local, *replace_isr(local, "--downstream"))
        assert found.code == 0, found.stderr
        assert merge_run(registry, local.store, RUN).exit_code == 0
        findings = verify_run(registry, local.store, RUN).findings
    assert not [f for f in findings if f.is_difference]
    assert {f.key for f in findings} >= {r.object_key for r in old.rows.datastore_record}
    select = "SELECT attempt_id::text, superseded FROM attempt WHERE quantum_id = %s ORDER BY 1"
    new = local.counting()[isr]
    assert dumps.rows(database, select, isr) == [(old.attempt_id, True), (new.attempt_id, False)]
    select = (
        "SELECT d.attempt_id::text, r.object_key FROM dataset d"
        " JOIN datastore_record r USING (dataset_id) WHERE d.quantum_id = %s"
    )
    (record,) = new.rows.datastore_record
    assert dumps.rows(database, select, isr) == [(new.attempt_id, record.object_key)]
    counted = dumps.rows(database, "SELECT count(*) FROM dataset WHERE run = %s", RUN)
    assert counted == [(5,)]


def test_job_tells_what_it_replaces(local: GraphRun) -> None:
    options = replace_isr(local)
    old = local.counting()[quantum_of(local, "isr", exposure=0)].attempt_id
    assert rerun(local, *options).code == 0
    key = names.job_key(RUN, quantum_of(local, "isr", exposure=0))
    assert f'"replaces":"{old}"' in local.store.get(key).decode()
