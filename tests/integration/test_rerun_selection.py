# SPDX-License-Identifier: BSD-3-Clause
"""Which quanta ``quantum-exec rerun`` takes: criteria, dependents, and what is left out."""

import gzip
import re
from dataclasses import replace
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from registry import names
from tests import factories
from tests.local_graphs import RUN, GraphRun, make_survey
from tests.rerun_process import call, deltas_of, quantum_of, rerun


def run_once(directory: Path) -> GraphRun:
    """Run a graph of three exposures; one fit fails, so that the coadd is not run."""
    found = GraphRun(directory, (directory / "store").as_uri(), make_survey(3))
    found.fail("fit", exposure=1)
    assert found.run("-j", "2").code == ExitCode.FAILED
    return found


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> GraphRun:
    """A graph that was run, for tests that write nothing."""
    return run_once(tmp_path_factory.mktemp("unchanged"))


@pytest.fixture
def graph_run(tmp_path: Path) -> GraphRun:
    """A graph that was run, of this test alone."""
    return run_once(tmp_path)


def planned(graph_run: GraphRun, *options: str) -> set[tuple[str, str]]:
    """Task label and data ID of what would be run."""
    found = rerun(graph_run, "--dry-run", *options)
    assert found.code == 0, found.stderr
    return {(q["task_label"], str(q["data_id"].get("exposure"))) for q in found.report["quanta"]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--failed"], {("fit", "1")}),
        (["--failed", "--downstream"], {("fit", "1"), ("coadd", "None")}),
        (["--task", "coadd"], {("coadd", "None")}),
        (["--task", "fit", "--task", "coadd"], {("fit", "1"), ("coadd", "None")}),
        (["--task", "fit", "--data-id", "exposure=1"], {("fit", "1")}),
        (["--data-id", "exposure=1", "--data-id", "exposure=2"], {("fit", "1")}),
        (["--task", "isr", "--downstream"], {("fit", "1"), ("coadd", "None")}),
        (["--replace", "--task", "isr", "--data-id", "exposure=2"], {("isr", "2")}),
        (["--into", "scratch", "--data-id", "exposure=2"], {("isr", "2"), ("fit", "2")}),
    ],
)
def test_criteria_narrow_and_their_values_widen(
    unchanged: GraphRun, options: list[str], expected: set[tuple[str, str]]
) -> None:
    before = {key: unchanged.store.get(key) for key in unchanged.keys()}
    assert planned(unchanged, *options) == expected
    assert {key: unchanged.store.get(key) for key in unchanged.keys()} == before


def test_dry_run_is_told_to_people(unchanged: GraphRun) -> None:
    done = call(unchanged, "--dry-run", "--data-id", "exposure=1")
    quantum_id = quantum_of(unchanged, "fit", exposure=1)
    assert done.stdout.splitlines() == [
        "1 quanta are left out, they were successful already",
        "1 quanta would be run:",
        f"  fit (exposure=1), quantum {quantum_id}",
    ]


def test_failed_and_what_waits_for_it_is_run_in_order(graph_run: GraphRun) -> None:
    graph_run.mend()
    graph_run.prepare()
    found = rerun(graph_run, "--failed", "--downstream", "--graph", "graph.yaml", "-j", "2")
    assert found.code == 0, found.stderr
    assert sorted(found.labels) == ["coadd", "fit"]
    deltas = {d.task_label: d for d in deltas_of(graph_run.store, RUN)[-2:]}
    assert deltas["coadd"].started > deltas["fit"].finished
    assert len(graph_run.counting()) == 7


def test_one_of_several_that_fails_ends_with_1(graph_run: GraphRun) -> None:
    found = rerun(graph_run, "--failed", "--downstream")
    assert found.code == ExitCode.FAILED
    states = {q["task_label"]: (q["status"], q["exit_code"]) for q in found.report["quanta"]}
    assert states == {"fit": ("failed", 3), "coadd": (None, None)}


def test_several_that_are_all_successful_are_left_out(unchanged: GraphRun) -> None:
    found = rerun(unchanged, "--task", "isr")
    assert (found.code, found.report["n_left_out"], found.report["quanta"]) == (0, 3, [])


def test_nothing_selected_is_an_error(unchanged: GraphRun) -> None:
    found = rerun(unchanged, "--data-id", "exposure=7")
    assert found.code == ExitCode.USAGE
    assert "expected quanta of this selection, found none among 7 quanta" in found.stderr


def test_failed_ones_are_none_when_all_is_well(graph_run: GraphRun) -> None:
    graph_run.mend()
    assert graph_run.run().code == 0
    found = rerun(graph_run, "--failed")
    assert found.code == ExitCode.USAGE
    assert "expected failed quanta of this selection, found none" in found.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected --quantum, --data-id, --task or --failed"),
        (
            ["--task", "fit", "--replace", "--compare"],
            "expected --replace, or --into and --compare",
        ),
        (["--task", "fit", "--compare", "--pool"], "expected --wait with --compare and --pool"),
        (["--data-id", "exposure"], "data ID: expected dimensions and values"),
        (["--task", "fit", "--into", RUN], "expected another RUN"),
        (["--task", "fit", "--into", "a//b"], "part '' must begin with"),
        (["--task", "fit", "--graph", "none.yaml"], "none.yaml: cannot be read"),
        (["--task", "fit", "--pool"], "a pool needs s3://bucket/prefix"),
    ],
)
def test_wrong_usage_is_told_in_a_line(
    unchanged: GraphRun, options: list[str], message: str
) -> None:
    done = call(unchanged, *options)
    assert done.returncode in (ExitCode.USAGE, ExitCode.FAILED)
    # Usage errors are told in a box that breaks lines.
    told = " ".join(done.stderr.replace("│", " ").split())
    assert message in told
    assert "Traceback" not in done.stderr


def test_run_without_a_graph_is_told(graph_run: GraphRun) -> None:
    graph_run.store.delete(
        next(k for k in graph_run.keys() if k.endswith(".json") and "graphs/" in k)
    )
    done = call(graph_run, "--failed")
    assert done.returncode != 0
    assert "expected a graph record below" in done.stderr and "check the names" in done.stderr


def test_parents_of_older_predictions_come_from_the_jobs(graph_run: GraphRun) -> None:
    (key,) = (key for key in graph_run.keys() if key.endswith(".quanta.jsonl.gz"))
    text = gzip.decompress(graph_run.store.get(key))
    old = re.sub(rb',"parents":\[[^]]*\]', b"", text)
    assert old != text
    graph_run.store.put(key, gzip.compress(old))
    assert planned(graph_run, "--failed", "--downstream") == {("fit", "1"), ("coadd", "None")}


def test_success_that_was_not_predicted_does_not_count(graph_run: GraphRun) -> None:
    quantum_id = quantum_of(graph_run, "fit", exposure=1)
    other = graph_run.counting()[quantum_of(graph_run, "fit", exposure=0)]
    foreign = replace(other, quantum_id=quantum_id, data_id={"exposure": 1})
    factories.put_delta(graph_run.store, foreign)
    assert quantum_id in graph_run.counting()
    assert planned(graph_run, "--failed") == {("fit", "1")}


def test_mended_graph_of_other_quanta_is_refused(graph_run: GraphRun) -> None:
    del graph_run.document["quanta"][0]
    graph_run.prepare()
    found = rerun(graph_run, "--failed", "--graph", "graph.yaml")
    assert found.code == ExitCode.OTHER_GRAPH
    assert "only tasks can be mended" in found.stderr


def test_quanta_of_all_graphs_of_an_extended_run_are_known(tmp_path: Path) -> None:
    extended = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))
    coadd, *others = extended.document["quanta"]
    extended.document["quanta"] = others
    assert extended.run("-j", "2").code == 0
    extended.document["quanta"] = [coadd, *others]
    extended.document["tasks"]["coadd"]["command"] = ["false"]
    assert extended.run("--extend").code == ExitCode.FAILED
    assert planned(extended, "--failed") == {("coadd", "None")}
    downstream = planned(extended, "--replace", "--downstream", "--data-id", "exposure=1")
    assert downstream == {("isr", "1"), ("fit", "1"), ("coadd", "None")}


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_job_that_is_gone_or_damaged_is_written_anew_from_the_graph(
    graph_run: GraphRun, content: bytes | None
) -> None:
    key = names.job_key(RUN, quantum_of(graph_run, "fit", exposure=1))
    graph_run.store.delete(key)
    if content is not None:
        graph_run.store.put(key, content)
    code = ExitCode.STAGE_IN_FAILED if content is None else ExitCode.INVALID_QUANTUM
    assert rerun(graph_run, "--failed").code == code
    graph_run.mend()
    graph_run.prepare()
    assert rerun(graph_run, "--failed", "--graph", "graph.yaml").code == 0


def test_success_whose_key_is_not_that_of_its_path_does_not_count(graph_run: GraphRun) -> None:
    quantum_id = quantum_of(graph_run, "fit", exposure=0)
    delta = graph_run.counting()[quantum_id]
    (record,) = delta.rows.datastore_record
    elsewhere = replace(record, object_key=f"{RUN}/fit/elsewhere.txt")
    rows = replace(delta.rows, datastore_record=[elsewhere])
    factories.put_delta(graph_run.store, replace(delta, rows=rows))
    assert planned(graph_run, "--failed") == {("fit", "0"), ("fit", "1")}
