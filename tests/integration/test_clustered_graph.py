# SPDX-License-Identifier: BSD-3-Clause
"""A graph run in clusters, and then quanta of it by themselves: what was not kept is made again."""

import graphlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from executor.exit_codes import ExitCode
from executor.graph.graph_file import read_graph
from executor.graph.quantum_graph import Graph
from executor.submit.arrangement import Arrangement, arrange, publish_arrangement
from executor.submit.cluster_configuration import ClusterAlgorithm, ClusterRequest
from executor.submit.configuration import SubmitConfiguration
from executor.submit.plan import plan_of_graph
from executor.submit.publish import publish_graph
from registry import names
from registry.job import read_job
from tests.local_graphs import RUN, GraphRun, make_survey

N_EXPOSURES = 3
CLUSTERS = {
    "single": ClusterRequest(
        pipetasks="isr,fit", dimensions="exposure", max_size=2, keep_intermediates=False
    )
}


@pytest.fixture
def clustered(tmp_path: Path) -> GraphRun:
    """A graph that was run in jobs of two quanta, and a coadd of its own."""
    graph_run = GraphRun(tmp_path, f"file://{tmp_path}/repo", make_survey(N_EXPOSURES))
    graph_run.scratch.mkdir()
    graph_run.prepare()
    publish_graph(graph_of(graph_run), graph_run.store)
    arranged = arranged_again(graph_run)
    publish_arrangement(arranged, graph_run.store)
    nodes = {node.name: node for node in arranged.nodes}
    assert len(nodes) == N_EXPOSURES + 1
    parents = {node.name: node.parents for node in arranged.nodes}
    for name in graphlib.TopologicalSorter(parents).static_order():
        run_job(graph_run, nodes[name].job_file)
    return graph_run


def graph_of(graph_run: GraphRun) -> Graph:
    """The graph as its file has it."""
    return read_graph(graph_run.graph_file)


def arranged_again(
    graph_run: GraphRun, algorithm: ClusterAlgorithm = ClusterAlgorithm.DIMENSION
) -> Arrangement:
    """The jobs that a submission would make of what is left."""
    plan = plan_of_graph(graph_of(graph_run), graph_run.store)
    configuration = SubmitConfiguration(cluster=CLUSTERS, cluster_algorithm=algorithm)
    return arrange(plan, graph_run.counting(), configuration)


def run_job(graph_run: GraphRun, job_file: str) -> None:
    """Run a job or cluster file as a worker does."""
    uri = f"{graph_run.datastore}/{names.control_prefix(RUN)}{job_file}"
    words = [sys.executable, "-m", "executor", "run", uri]
    done = subprocess.run(words, cwd=graph_run.directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def quantum_id_of(graph_run: GraphRun, label: str, exposure: int) -> str:
    """The id of a quantum."""
    [found] = [
        q.quantum_id
        for q in graph_of(graph_run).quanta
        if q.task_label == label and q.data_id.get("exposure") == exposure
    ]
    return found


def rerun(graph_run: GraphRun, *options: str) -> dict[str, Any]:
    """``quantum-exec rerun`` on this machine; returns its report."""
    where = ["--datastore", graph_run.datastore, "--scratch", str(graph_run.scratch)]
    words = [sys.executable, "-m", "executor", "rerun", RUN, *options, *where, "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def kept(graph_run: GraphRun) -> dict[str, int]:
    """How many datasets of each type have a location."""
    found: dict[str, int] = {}
    for delta in graph_run.counting().values():
        types = {row.dataset_id: row.dataset_type for row in delta.rows.dataset}
        for record in delta.rows.datastore_record:
            kind = types[record.dataset_id]
            found[kind] = found.get(kind, 0) + 1
    return found


def lose_delta(graph_run: GraphRun, quantum_id: str) -> None:
    """Remove the deltas of a quantum, as if it had never been run."""
    for stored in list(graph_run.store.list_objects(names.delta_prefix(RUN, quantum_id))):
        graph_run.store.delete(stored.key)


def test_run_local_takes_what_clusters_made(clustered: GraphRun) -> None:
    assert kept(clustered) == {"fit": N_EXPOSURES, "coadd": 1}
    report = clustered.run()
    assert report.code == 0
    assert len(clustered.deltas()) == 2 * N_EXPOSURES + 1


def test_run_local_makes_again_what_was_not_kept(clustered: GraphRun) -> None:
    """One fit is lost: its isr image is made again, and nothing else."""
    lose_delta(clustered, quantum_id_of(clustered, "fit", 1))
    assert clustered.run().code == 0
    assert kept(clustered) == {"isr": 1, "fit": N_EXPOSURES, "coadd": 1}
    assert len(clustered.deltas()) == 2 * N_EXPOSURES + 2
    arranged = arranged_again(clustered)
    assert all(node.is_done for node in arranged.nodes)


def test_submission_without_clusters_makes_again_what_was_not_kept(clustered: GraphRun) -> None:
    """The job file says which attempt is to be replaced, so that a worker does not leave it be."""
    fit, isr = (quantum_id_of(clustered, label, 1) for label in ("fit", "isr"))
    lose_delta(clustered, fit)
    inside = arranged_again(clustered)
    assert inside.again == {}
    [left] = [node for node in inside.nodes if not node.is_done]
    assert left.quantum_ids == (isr, fit)
    arranged = arranged_again(clustered, ClusterAlgorithm.NONE)
    assert {n.quantum_ids for n in arranged.nodes if not n.is_done} == {(isr,), (fit,)}
    publish_arrangement(arranged, clustered.store)
    key = names.job_key(RUN, isr)
    assert read_job(clustered.store.get(key), key).replaces == arranged.again[isr]
    run_job(clustered, f"jobs/{isr}.json")
    run_job(clustered, f"jobs/{fit}.json")
    assert all(node.is_done for node in arranged_again(clustered).nodes)


@pytest.mark.parametrize("how", [("--replace",), ("--into", "u/tester/beside", "--compare")])
def test_rerun_adds_who_made_what_was_not_kept(clustered: GraphRun, how: tuple[str, ...]) -> None:
    report = rerun(clustered, "--task", "fit", "--data-id", "exposure=2", *how)
    assert len(report["again"]) == 1
    assert sorted(q["task_label"] for q in report["quanta"]) == ["fit", "isr"]
    assert {q["status"] for q in report["quanta"]} == {"successful"}
    verdicts = {c["dataset_type"]: c["verdict"] for c in report["compared"] or []}
    assert verdicts.get("fit", "same") == "same"


def test_rerun_of_a_lost_quantum_says_what_is_run_beside_it(clustered: GraphRun) -> None:
    lose_delta(clustered, quantum_id_of(clustered, "fit", 1))
    report = rerun(clustered, "--task", "fit", "--data-id", "exposure=1")
    assert report["again"] == [quantum_id_of(clustered, "isr", 1)]
    assert kept(clustered) == {"isr": 1, "fit": N_EXPOSURES, "coadd": 1}


def open_shell(graph_run: GraphRun, quantum_id: str) -> subprocess.CompletedProcess[str]:
    """``quantum-exec shell`` on a quantum."""
    where = ["--datastore", graph_run.datastore, "--quantum", quantum_id]
    words = [sys.executable, "-m", "executor", "shell", RUN, *where, "--", "./run-task"]
    return subprocess.run(words, cwd=graph_run.scratch, capture_output=True, text=True)


def test_shell_says_who_makes_what_was_not_kept(clustered: GraphRun) -> None:
    """The command that it names is enough."""
    fit, isr = (quantum_id_of(clustered, label, 1) for label in ("fit", "isr"))
    refused = open_shell(clustered, fit)
    assert refused.returncode == ExitCode.STAGE_IN_FAILED
    assert f"of quantum {isr} (isr) made, found that it was read" in refused.stderr
    words = refused.stderr.strip().rpartition(": quantum-exec rerun ")[2].split()
    assert words == [RUN, "--quantum", fit, "--replace"]
    assert rerun(clustered, *words[1:])["again"] == [isr]
    opened = open_shell(clustered, fit)
    assert opened.returncode == 0, opened.stderr
