# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec rerun --into`` and ``--compare``: successful quanta beside what they made."""

import subprocess
from pathlib import Path

from executor.exit_codes import ExitCode
from executor.submit.standings import counting_deltas
from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from merger.verification import verify_run
from registry import names
from registry.job import read_job
from registry.model import derived_id
from tests import dumps
from tests.local_graphs import RUN, GraphRun, make_survey
from tests.processes import processes_in, wait_until
from tests.rerun_process import append_to_task, call, command, deltas_of, quantum_of, rerun

INTO = "u/tester/again"


def test_repetition_is_the_same_and_touches_nothing_of_the_run(survey: GraphRun) -> None:
    before = {key: survey.store.get(key) for key in survey.keys()}
    found = rerun(survey, "--task", "fit", "--into", INTO, "--compare")
    assert found.code == 0, found.stderr
    assert [(c["dataset_type"], c["verdict"]) for c in found.report["compared"]] == [
        ("fit", "same")
    ] * 2
    assert {key: survey.store.get(key) for key in survey.keys()} == before
    for new in deltas_of(survey.store, INTO):
        (row,) = new.rows.dataset
        assert row.dataset_id == derived_id("dataset", INTO, "fit", row.data_id)
        assert new.rows.datastore_record[0].object_key.startswith(f"{INTO}/fit/")


def test_inputs_are_those_that_the_attempt_read(local_survey: GraphRun) -> None:
    """The isr before is replaced meanwhile; the fit is repeated with what it had read."""
    old = local_survey.counting()[quantum_of(local_survey, "fit", exposure=0)]
    append_to_task(local_survey, "isr", "echo changed >> $1")
    options = ("--quantum", quantum_of(local_survey, "isr", exposure=0), "--graph", "graph.yaml")
    assert rerun(local_survey, *options, "--replace").code == 0
    found = rerun(local_survey, "--quantum", old.quantum_id, "--into", INTO, "--compare")
    assert found.code == 0, found.report
    (new,) = deltas_of(local_survey.store, INTO)
    assert [(i.key, i.size_bytes, i.checksum) for i in new.inputs] == [
        (i.key, i.size_bytes, i.checksum) for i in old.inputs
    ]


def test_quanta_that_feed_each_other_read_what_they_read_before(local_survey: GraphRun) -> None:
    append_to_task(local_survey, "isr", "echo changed >> $1")
    options = ("--data-id", "exposure=1", "--graph", "graph.yaml", "--into", INTO, "--compare")
    found = rerun(local_survey, *options)
    assert found.code == ExitCode.OUTPUTS_DIFFER
    verdicts = {c["dataset_type"]: c["verdict"] for c in found.report["compared"]}
    assert verdicts == {"isr": "different", "fit": "same"}


def test_difference_is_told_and_ends_with_40(local_survey: GraphRun) -> None:
    append_to_task(local_survey, "fit", "echo mended >> $1")
    done = call(local_survey, "--task", "fit", "--graph", "graph.yaml", "--compare", "-j", "2")
    assert done.returncode == ExitCode.OUTPUTS_DIFFER, done.stderr
    assert done.stdout.startswith(f"scratch RUN {RUN}-rerun/")
    told = "fit exposure=0 different first difference at byte 14 (14 bytes, now 21)"
    assert told in " ".join(done.stdout.split())


def test_missing_and_extra_outputs_are_told(local_survey: GraphRun) -> None:
    append_to_task(local_survey, "fit", "rm $1; exit 79")
    found = rerun(
        local_survey, "--task", "fit", "--graph", "graph.yaml", "--into", INTO, "--compare"
    )
    assert found.code == ExitCode.OUTPUTS_DIFFER
    assert [c["verdict"] for c in found.report["compared"]] == ["missing"] * 2
    extra = rerun_without_original(local_survey)
    assert [c["verdict"] for c in extra] == ["extra"]


def rerun_without_original(local_survey: GraphRun) -> list[dict[str, str]]:
    """Repeat a quantum that has never been successful in its RUN; returns what was compared."""
    quantum_id = quantum_of(local_survey, "fit", exposure=0)
    for delta in deltas_of(local_survey.store, RUN):
        if delta.quantum_id == quantum_id:
            local_survey.store.delete(names.delta_key(RUN, quantum_id, delta.attempt_id))
    found = rerun(local_survey, "--quantum", quantum_id, "--into", f"{INTO}2", "--compare")
    compared: list[dict[str, str]] = found.report["compared"]
    return compared


def test_second_call_finds_it_done(local_survey: GraphRun) -> None:
    options = ("--task", "fit", "--into", INTO, "--compare")
    assert rerun(local_survey, *options).code == 0
    keys = [stored.key for stored in local_survey.store.list_objects(f"{INTO}/")]
    again = rerun(local_survey, *options)
    assert (again.code, len(again.report["compared"])) == (0, 2)
    assert [stored.key for stored in local_survey.store.list_objects(f"{INTO}/")] == keys


def test_more_quanta_come_into_the_same_scratch_run(local_survey: GraphRun) -> None:
    assert rerun(local_survey, "--task", "fit", "--into", INTO).code == 0
    assert rerun(local_survey, "--data-id", "exposure=0", "--into", INTO).code == 0
    labels = [delta.task_label for delta in deltas_of(local_survey.store, INTO)]
    assert sorted(labels) == ["fit", "fit", "isr"]


def test_run_of_another_graph_is_no_scratch_run(local_survey: GraphRun) -> None:
    assert local_survey.run("--run", "u/tester/other").code == 0
    refused = rerun(local_survey, "--task", "fit", "--into", "u/tester/other")
    assert refused.code == ExitCode.OTHER_GRAPH
    assert f"expected none, or one that repeats quanta of RUN '{RUN}'" in refused.stderr


def test_failed_quantum_is_repeated_with_the_inputs_of_its_newest_attempt(tmp_path: Path) -> None:
    survey = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))
    survey.fail("fit", exposure=1)
    survey.run()
    found = rerun(survey, "--failed", "--into", INTO)
    assert found.code == 3
    assert "fit of exposure 1 does not converge" in found.report["error"]
    (new,) = deltas_of(survey.store, INTO)
    job = read_job(survey.store.get(names.job_key(INTO, new.quantum_id)), "job")
    (read,) = survey.counting()[quantum_of(survey, "isr", exposure=1)].rows.datastore_record
    assert (job.inputs[0].producer, job.inputs[0].key) == (None, read.object_key)
    assert (job.inputs[0].size_bytes, job.inputs[0].checksum) == (read.size_bytes, read.checksum)


def test_scratch_run_is_merged_like_any_other(local_survey: GraphRun, database: str) -> None:
    assert rerun(local_survey, "--task", "fit", "--task", "coadd", "--into", INTO).code == 0
    with CentralRegistry(database) as registry:
        for run in (RUN, INTO):
            merged = merge_run(registry, local_survey.store, run)
            assert merged.exit_code == 0, merged
            assert verify_run(registry, local_survey.store, run).findings == []
    counted = dict(dumps.rows(database, "SELECT run, count(*) FROM dataset GROUP BY run"))
    assert (counted[INTO], counted[RUN]) == (3, 5)
    assert len(counting_deltas(local_survey.store, INTO)) == 3


def test_run_whose_data_stay_put_is_repeated_and_replaced_the_same_way(tmp_path: Path) -> None:
    direct = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(1))
    assert direct.run("--data", "direct").code == 0
    assert rerun(direct, "--task", "fit", "--into", INTO, "--compare").code == 0
    append_to_task(direct, "isr", "echo mended >> $1")
    mended = rerun(direct, "--task", "isr", "--graph", "graph.yaml", "--replace", "--downstream")
    assert mended.code == 0, mended.stderr
    assert direct.content("coadd") == [b"raw 0\nisr\nmended\nfit\n"]
    jobs = [direct.store.get(key) for key in direct.keys() if "/jobs/" in key]
    assert [b'"data_mode":"direct"' in job for job in jobs] == [True] * 3


def test_object_that_is_gone_is_told_and_the_others_are_compared(local_survey: GraphRun) -> None:
    fit = local_survey.counting()[quantum_of(local_survey, "fit", exposure=0)]
    local_survey.store.delete(fit.rows.datastore_record[0].object_key)
    append_to_task(local_survey, "fit", "echo mended >> $1")
    found = rerun(local_survey, "--task", "fit", "--graph", "graph.yaml", "--compare")
    assert found.code == ExitCode.OUTPUTS_DIFFER, found.stderr
    gone, other = (c["differences"][0] for c in found.report["compared"])
    assert ": not found" in gone and other.startswith("first difference at byte 14")


def test_killed_half_way_it_is_finished_by_the_same_command(tmp_path: Path) -> None:
    survey = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))
    go = tmp_path / "go"
    wait = f"[ $2 = 0 ] || until [ -e {go} ]; do sleep 0.01; done"
    survey.prepare()
    survey.document["tasks"]["fit"]["command"] = [
        *("sh", "-c", f"cp $1 $3; {wait}", "sh", "{input:isr}", "{data_id:exposure}"),
        "{output:fit}",
    ]
    go.touch()
    assert survey.run("-j", "2").code == 0
    go.unlink()
    options = ("--task", "fit", "--into", INTO, "--compare", "-j", "2")
    runner = subprocess.Popen(command(survey, *options), cwd=tmp_path)
    wait_until(lambda: len(deltas_of(survey.store, INTO)) == 1, "one of the two is done")
    runner.kill()
    runner.wait(timeout=60)
    wait_until(lambda: not processes_in(tmp_path), "nothing of the first call is left")
    go.touch()
    again = rerun(survey, *options)
    assert (again.code, [c["verdict"] for c in again.report["compared"]]) == (0, ["same"] * 2)
    assert len(deltas_of(survey.store, INTO)) == 2
