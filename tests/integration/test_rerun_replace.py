# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec rerun --replace``: new attempts in the place of successful ones."""

import signal
import subprocess

from executor.exit_codes import ExitCode
from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from merger.verification import verify_run
from registry import names
from tests import dumps
from tests.local_graphs import RUN, GraphRun
from tests.processes import processes_in, wait_until
from tests.rerun_process import append_to_task, call, command, quantum_of, rerun


def replace_isr(survey: GraphRun, *options: str) -> tuple[str, ...]:
    """Mend the isr; returns the options that replace the one of exposure 0 with it."""
    append_to_task(survey, "isr", "echo mended >> $1")
    isr = quantum_of(survey, "isr", exposure=0)
    return ("--quantum", isr, "--graph", "graph.yaml", "--replace", *options)


def test_new_attempt_counts_and_consumers_are_named(survey: GraphRun) -> None:
    options = replace_isr(survey)
    before = survey.counting()
    found = rerun(survey, *options)
    assert found.code == 0, found.stderr
    isr = quantum_of(survey, "isr", exposure=0)
    assert found.report["replaces"] == before[isr].attempt_id
    assert found.report["attempt_id"] > before[isr].attempt_id
    assert survey.counting()[isr].attempt_id == found.report["attempt_id"]
    assert [(q["task_label"], q["data_id"]) for q in found.report["consumers"]] == [
        ("fit", {"exposure": 0})
    ]
    assert b"raw 0\nisr\nmended\n" in survey.content("isr")


def test_dry_run_names_the_consumers_and_writes_nothing(local_survey: GraphRun) -> None:
    options = replace_isr(local_survey, "--dry-run")
    before = {key: local_survey.store.get(key) for key in local_survey.keys()}
    done = call(local_survey, *options)
    lines = done.stdout.splitlines()
    fit = quantum_of(local_survey, "fit", exposure=0)
    assert lines[0] == "1 quanta would be run:"
    assert lines[2:] == [
        "1 quanta read outputs of replaced attempts:",
        f"  fit (exposure=0), quantum {fit}",
    ]
    assert {key: local_survey.store.get(key) for key in local_survey.keys()} == before


def test_downstream_is_replaced_in_order(local_survey: GraphRun) -> None:
    options = replace_isr(local_survey, "--downstream", "-j", "2")
    before = local_survey.counting()
    found = rerun(local_survey, *options)
    assert found.code == 0, found.stderr
    assert sorted(found.labels) == ["coadd", "fit", "isr"]
    assert found.report["consumers"] == []
    assert local_survey.content("coadd") == [b"raw 0\nisr\nmended\nfit\nraw 1\nisr\nfit\n"]
    after = local_survey.counting()
    changed = {d.task_label for q, d in after.items() if d.attempt_id != before[q].attempt_id}
    assert (changed, len(after)) == ({"isr", "fit", "coadd"}, 5)


def test_nothing_is_run_again_afterwards(local_survey: GraphRun) -> None:
    options = replace_isr(local_survey, "--downstream")
    assert rerun(local_survey, *options).code == 0
    attempts = sorted(d.attempt_id for d in local_survey.deltas())
    assert len(attempts) == 5 + 3
    assert local_survey.run("-j", "2").code == 0
    assert sorted(d.attempt_id for d in local_survey.deltas()) == attempts
    assert not [key for key in local_survey.keys() if "/replacements/" in key]


def test_replacing_again_makes_yet_another_attempt(local_survey: GraphRun) -> None:
    options = replace_isr(local_survey)
    first, second = rerun(local_survey, *options), rerun(local_survey, *options)
    assert (first.code, second.code) == (0, 0)
    assert second.report["replaces"] == first.report["attempt_id"]


def test_failed_replacement_leaves_the_old_attempt(local_survey: GraphRun) -> None:
    isr = quantum_of(local_survey, "isr", exposure=0)
    old = local_survey.counting()[isr].attempt_id
    append_to_task(local_survey, "isr", "exit 7")
    done = call(
        local_survey, "--quantum", isr, "--graph", "graph.yaml", "--replace", "--downstream"
    )
    assert done.returncode == ExitCode.FAILED
    assert f"quantum {isr}: not replaced, attempt {old} still counts" in done.stderr
    assert local_survey.counting()[isr].attempt_id == old
    assert len(local_survey.counting()) == 5
    local_survey.mend()
    assert local_survey.run().code == 0
    assert local_survey.counting()[isr].attempt_id == old


def test_exit_code_is_that_of_the_only_quantum(local_survey: GraphRun) -> None:
    append_to_task(local_survey, "isr", "exit 7")
    isr = quantum_of(local_survey, "isr", exposure=0)
    found = rerun(local_survey, "--quantum", isr, "--graph", "graph.yaml", "--replace")
    assert (found.code, found.report["exit_code"], found.report["status"]) == (7, 7, "failed")
    assert list(found.report["not_replaced"]) == [isr]


def test_killed_half_way_it_goes_on_where_it_was(local_survey: GraphRun) -> None:
    go = local_survey.directory / "go"
    append_to_task(local_survey, "fit", f"until [ -e {go} ]; do sleep 0.01; done")
    options = replace_isr(local_survey, "--downstream")
    before = local_survey.counting()
    isr, fit = (quantum_of(local_survey, label, exposure=0) for label in ("isr", "fit"))
    runner = subprocess.Popen(command(local_survey, *options), cwd=local_survey.directory)
    wait_until(lambda: local_survey.counting()[isr] != before[isr], "the isr is replaced")
    runner.send_signal(signal.SIGKILL)
    runner.wait(timeout=60)
    replaced = local_survey.counting()[isr].attempt_id
    wait_until(
        lambda: not processes_in(local_survey.directory), "nothing of the first call is left"
    )
    go.touch()
    assert local_survey.counting()[fit] == before[fit]
    again = rerun(local_survey, *options)
    assert again.code == 0, again.stderr
    assert local_survey.counting()[isr].attempt_id == replaced, "done by the first call"
    assert local_survey.counting()[fit].attempt_id > before[fit].attempt_id
    assert local_survey.content("coadd") == [b"raw 0\nisr\nmended\nfit\nraw 1\nisr\nfit\n"]


def test_merged_the_new_attempt_counts_and_the_old_is_superseded(
    local_survey: GraphRun, database: str
) -> None:
    isr = quantum_of(local_survey, "isr", exposure=0)
    old = local_survey.counting()[isr]
    with CentralRegistry(database) as registry:
        assert merge_run(registry, local_survey.store, RUN).exit_code == 0
        found = rerun(local_survey, *replace_isr(local_survey, "--downstream"))
        assert found.code == 0, found.stderr
        assert merge_run(registry, local_survey.store, RUN).exit_code == 0
        findings = verify_run(registry, local_survey.store, RUN).findings
    assert not [f for f in findings if f.is_difference]
    assert {f.key for f in findings} >= {r.object_key for r in old.rows.datastore_record}
    select = "SELECT attempt_id::text, superseded FROM attempt WHERE quantum_id = %s ORDER BY 1"
    new = local_survey.counting()[isr]
    assert dumps.rows(database, select, isr) == [(old.attempt_id, True), (new.attempt_id, False)]
    select = (
        "SELECT d.attempt_id::text, r.object_key FROM dataset d"
        " JOIN datastore_record r USING (dataset_id) WHERE d.quantum_id = %s"
    )
    (record,) = new.rows.datastore_record
    assert dumps.rows(database, select, isr) == [(new.attempt_id, record.object_key)]
    counted = dumps.rows(database, "SELECT count(*) FROM dataset WHERE run = %s", RUN)
    assert counted == [(5,)]


def test_job_tells_what_it_replaces(local_survey: GraphRun) -> None:
    options = replace_isr(local_survey)
    old = local_survey.counting()[quantum_of(local_survey, "isr", exposure=0)].attempt_id
    assert rerun(local_survey, *options).code == 0
    key = names.job_key(RUN, quantum_of(local_survey, "isr", exposure=0))
    assert f'"replaces":"{old}"' in local_survey.store.get(key).decode()
