# SPDX-License-Identifier: BSD-3-Clause
"""Random graphs in random clusters, with failures and kills, end as the graph alone would."""

import graphlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from executor.graph.graph_file import read_graph
from executor.submit.arrangement import Arrangement, arrange, publish_arrangement
from executor.submit.cluster_configuration import ClusterRequest
from executor.submit.clustering import ClusterCycleError
from executor.submit.configuration import SubmitConfiguration
from executor.submit.nodes import Node as JobNode
from executor.submit.plan import plan_of_graph
from executor.submit.publish import publish_graph
from registry import names
from registry.attempt import AttemptStatus
from tests import dumps
from tests.faults.test_random_graphs import (
    Node,
    check_registry,
    graphs,
    make_document,
    predict,
    registry,
)
from tests.halted_processes import Halt, mark, marked_processes
from tests.local_graphs import RUN, GraphRun
from tests.processes import wait_until
from tests.run_outcome import registry_merge

__all__ = ["registry"]


@dataclass(frozen=True, slots=True)
class Round:
    """A submission: how its quanta are clustered, which fail once, and where wrappers are killed.

    ``kills`` has for the n-th job the number of the file that is opened when it dies.
    """

    labels: tuple[str, ...]
    max_size: int | None
    is_keeping: bool
    failing: frozenset[int]
    kills: tuple[int, ...]
    signal: int


ROUNDS = st.lists(
    st.builds(
        Round,
        st.lists(st.sampled_from("aaaab-"), min_size=6, max_size=6).map(tuple),
        st.none() | st.integers(2, 4),
        st.sampled_from([False] * 5 + [True]),
        st.frozensets(st.integers(0, 5), max_size=2),
        st.lists(st.sampled_from([0, 4, 9, 14, 20, 28, 40, 60]), min_size=1, max_size=3).map(tuple),
        st.sampled_from([signal.SIGKILL, signal.SIGTERM]),
    ),
    min_size=1,
    max_size=3,
)


def configuration_of(plan: Round, nodes: list[Node]) -> SubmitConfiguration:
    """The clusters of a round; ``-`` is for quanta alone."""
    tasks: dict[str, list[str]] = {}
    for node, label in zip(nodes, plan.labels, strict=False):
        if label != "-":
            tasks.setdefault(label, []).append(node.label)
    return SubmitConfiguration(
        cluster={
            label: ClusterRequest(
                pipetasks=found, max_size=plan.max_size, keep_intermediates=plan.is_keeping
            )
            for label, found in tasks.items()
        }
    )


def with_failures(document: dict[str, object], directory: Path) -> dict[str, object]:
    """Let a task fail while there is a file of its name."""
    for label, task in document["tasks"].items():  # type: ignore[attr-defined]
        script = f'[ ! -e {directory}/fail-{label} ] || exit 5; exec "$@"'
        task["command"] = ["sh", "-c", script, "sh", *task["command"]]
    return document


def arranged(graph_run: GraphRun, plan: Round, nodes: list[Node]) -> Arrangement:
    """The jobs of a round, written; quanta alone if the clusters wait for each other."""
    graph = read_graph(graph_run.graph_file)
    publish_graph(graph, graph_run.store)
    configuration = configuration_of(plan, nodes)
    quanta = plan_of_graph(graph, graph_run.store)
    try:
        found = arrange(quanta, graph_run.counting(), configuration)
    except ClusterCycleError:
        event("cycle")
        found = arrange(quanta, graph_run.counting(), SubmitConfiguration())
    publish_arrangement(found, graph_run.store)
    members = [q for node in found.nodes for q in node.quantum_ids]
    assert sorted(members) == sorted(quanta.quanta)
    return found


def run_dag(graph_run: GraphRun, jobs: Arrangement, kills: tuple[int, ...], number: int) -> None:
    """Run the jobs in order as DAGMan would, without those behind one that failed."""
    nodes = {node.name: node for node in jobs.nodes}
    failed: set[str] = set()
    left = list(kills)
    for name in graphlib.TopologicalSorter({n.name: n.parents for n in jobs.nodes}).static_order():
        node = nodes[name]
        if node.is_done:
            continue
        if node.parents & failed or run_job(graph_run, node, left.pop() if left else 0, number):
            failed.add(name)


def run_job(graph_run: GraphRun, node: JobNode, n_opened: int, number: int) -> int:
    """Run a job, and stop it when it opens its n-th file; returns its exit code."""
    marker = graph_run.directory / f"halted.{len(list(graph_run.directory.glob('halted.*')))}"
    halt = Halt("run", "open", r"/(quanta|repo|job|store)", n_opened)
    uri = f"{graph_run.datastore}/{names.control_prefix(RUN)}{node.job_file}"
    sandbox = graph_run.directory / f"sandbox.{len(list(graph_run.directory.glob('sandbox.*')))}"
    sandbox.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "executor", "run", uri],
        cwd=sandbox,
        env={**os.environ, **mark(sandbox), **(halt.environment(marker) if n_opened else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: marker.exists() or process.poll() is not None, "it halts or ends")
    if marker.exists():
        os.kill(int(marker.read_text()), number)
        os.kill(int(marker.read_text()), signal.SIGCONT)
    process.communicate(timeout=60)
    event(f"killed: {marker.exists() and number}")
    wait_until(lambda: not marked_processes(sandbox), "nothing of it runs")
    return process.returncode


@pytest.mark.timeout(900)  # about 30 s on two cores that nobody else uses
@settings(max_examples=8, phases=(Phase.explicit, Phase.generate))  # shrinking would take minutes
@given(nodes=graphs(), rounds=ROUNDS)
def test_clusters_end_as_the_graph_alone_does(
    tmp_path_factory: pytest.TempPathFactory, registry: str, nodes: list[Node], rounds: list[Round]
) -> None:
    directory = tmp_path_factory.mktemp("random")
    document = with_failures(make_document(nodes), directory)
    graph_run = GraphRun(directory, (directory / "store").as_uri(), document)
    graph_run.scratch.mkdir()
    graph_run.prepare()
    for plan in rounds:
        for number in plan.failing:
            (directory / f"fail-t{number}").touch()
        jobs = arranged(graph_run, plan, nodes)
        run_dag(graph_run, jobs, plan.kills, plan.signal)
        for path in directory.glob("fail-*"):
            path.unlink()
        check_order(graph_run)
    # Undisturbed; a failure in a job of several keeps the jobs behind it from beginning.
    last = Round(("-",) * 6, None, True, frozenset(), (), signal.SIGKILL)
    for plan in [rounds[-1], last]:
        run_dag(graph_run, arranged(graph_run, plan, nodes), (), signal.SIGKILL)
    check_end(graph_run, nodes, registry)


def check_order(graph_run: GraphRun) -> None:
    """What counts was made from attempts that are committed."""
    attempts = {delta.attempt_id for delta in graph_run.deltas()}
    for delta in graph_run.deltas():
        assert {i.attempt_id for i in delta.inputs if i.attempt_id} <= attempts


def states_of(graph_run: GraphRun) -> dict[str, str]:
    """What became of each quantum, by the deltas in the datastore."""
    states = {label: "blocked" for label in graph_run.document["tasks"]}
    for delta in graph_run.deltas():
        if delta.status is AttemptStatus.FAILED:
            states[delta.task_label] = "failed"
    for delta in graph_run.counting().values():
        states[delta.task_label] = "no work" if delta.no_work else "successful"
    return states


def check_end(graph_run: GraphRun, nodes: list[Node], registry: str) -> None:
    """Each quantum ended as predicted, and each dataset is kept, or was read by all its readers."""
    states, contents = predict(nodes)
    assert states_of(graph_run) == states
    counting = graph_run.counting().values()
    unkept = {
        row.dataset_type
        for delta in counting
        for row in delta.rows.dataset
        if row.dataset_id in delta.not_kept
    }
    event(f"not kept: {len(unkept)}")
    found = {
        row.dataset_type: graph_run.store.get(keys[row.dataset_id]).decode()
        for delta in counting
        for keys in [{r.dataset_id: r.object_key for r in delta.rows.datastore_record}]
        for row in delta.rows.dataset
        if row.dataset_id in keys
    }
    assert found == {name: text for name, text in contents.items() if name not in unkept}
    for name in unkept:
        readers = [n for n in nodes if name in (*n.required, *n.optional)]
        assert readers and all(states[n.label] in ("successful", "no work") for n in readers)
    check_registry(registry, graph_run, states, contents)
    report = registry_merge("verify", registry, graph_run.store, RUN)
    assert report["n_not_kept"] == len(unkept), json.dumps(report)
    ((n_datasets, n_records),) = dumps.rows(
        registry, "SELECT (SELECT count(*) FROM dataset), (SELECT count(*) FROM datastore_record)"
    )
    assert n_datasets - n_records == len(unkept)
