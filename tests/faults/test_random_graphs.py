# SPDX-License-Identifier: BSD-3-Clause
"""Random graphs with random outcomes and kills end in the state that a model predicts."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from registry.attempt import AttemptStatus
from tests import dumps
from tests.fix_postgres import PostgresServer
from tests.halted_processes import Halt, mark, marked_processes
from tests.local_graphs import RUN, GraphRun
from tests.processes import wait_until
from tests.run_outcome import registry_merge

OUTCOMES = {"success": 0, "leaves out": 0, "no work": 79, "failure": 3}


@dataclass(frozen=True, slots=True)
class Node:
    """A quantum, which makes ``o<number>`` and perhaps the optional ``p<number>``."""

    number: int
    required: tuple[str, ...]
    optional: tuple[str, ...]
    has_optional_output: bool
    outcome: str

    @property
    def label(self) -> str:
        """Its task, of which it is the only quantum."""
        return f"t{self.number}"

    @property
    def outputs(self) -> list[str]:
        """The dataset types that it may make."""
        return [f"o{self.number}", *([f"p{self.number}"] if self.has_optional_output else [])]


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Quanta, each of which may read whatever those before it make."""
    nodes: list[Node] = []
    outcomes = st.sampled_from(["success", "success", "success", *OUTCOMES])
    for number in range(draw(st.integers(2, 6))):
        made = [kind for node in nodes for kind in node.outputs]
        read = draw(st.lists(st.sampled_from(made), unique=True)) if made else []
        n_required = draw(st.integers(0, len(read)))
        optional_output, outcome = draw(st.booleans()), draw(outcomes)
        nodes.append(
            Node(
                *(number, tuple(read[:n_required]), tuple(read[n_required:])),
                *(optional_output, outcome),
            )
        )
    return nodes


# The runner opens some hundred files for a graph, a wrapper about ten.
KILLS = st.lists(
    st.one_of(
        st.tuples(st.just("run-local"), st.integers(1, 200)),
        st.tuples(st.just("run"), st.integers(1, 12)),
    ),
    min_size=1,
    max_size=2,
)


def predict(nodes: list[Node]) -> tuple[dict[str, str], dict[str, str]]:
    """The model: what becomes of each quantum, and the content of each dataset there is."""
    states: dict[str, str] = {}
    contents: dict[str, str] = {}
    for node in nodes:
        read = [*node.required, *node.optional]
        if any(states[f"t{kind[1:]}"] in ("failed", "blocked") for kind in read):
            states[node.label] = "blocked"
        elif any(kind not in contents for kind in node.required) or node.outcome == "no work":
            states[node.label] = "no work"
        elif node.outcome == "failure":
            states[node.label] = "failed"
        else:
            states[node.label] = "successful"
            inside = "".join(contents.get(kind, "") for kind in read)
            made = node.outputs[:1] if node.outcome == "leaves out" else node.outputs
            contents |= dict.fromkeys(made, f"{node.label}({inside})")
    return states, contents


def make_document(nodes: list[Node]) -> dict[str, Any]:
    """The graph file of the quanta."""
    kind = {"dimensions": [], "storage_class": "File", "extension": ".txt"}
    return {
        **{"quantum_graph": 1, "name": "random", "run": RUN, "dimensions": {}, "inputs": []},
        "dataset_types": {name: kind for node in nodes for name in node.outputs},
        "tasks": {
            node.label: {
                "command": command_of(node),
                "optional_inputs": list(node.optional),
                "optional_outputs": node.outputs[1:],
            }
            for node in nodes
        },
        "quanta": [
            {
                **{"task": node.label, "data_id": {}},
                "inputs": {name: {} for name in [*node.required, *node.optional]},
                "outputs": {name: {} for name in node.outputs},
            }
            for node in reversed(nodes)
        ],
    }


def command_of(node: Node) -> list[str]:
    """A command that writes what it read between brackets, or ends as it is told to."""
    write = f'made=$1; {{ shift; printf "{node.label}("; cat "$@"; printf ")"; }} > "$made"'
    if node.has_optional_output and node.outcome != "leaves out":
        write = f'other=$1; shift; {write}; cp "$made" "$other"'
    if code := OUTCOMES[node.outcome]:
        write = f"exit {code}"
    others = [f"{{output:p{node.number}}}"] if "other=" in write else []
    read = [f"{{inputs:{kind}}}" for kind in [*node.required, *node.optional]]
    return ["sh", "-c", write, "sh", *others, f"{{output:o{node.number}}}", *read]


@pytest.fixture(scope="module")
def registry(postgres_server: PostgresServer) -> Iterator[str]:
    """A central registry, emptied by each example."""
    postgres_server.execute("CREATE DATABASE {} TEMPLATE {}", "random_graphs", "registry_template")
    yield postgres_server.address("random_graphs")
    postgres_server.execute("DROP DATABASE {} WITH (FORCE)", "random_graphs")


def run_and_kill(graph_run: GraphRun, command: str, n_opened: int) -> None:
    """Run the graph, and kill the runner or a wrapper when it opens its n-th file of the run."""
    marker = graph_run.directory / f"halted.{len(list(graph_run.directory.glob('halted.*')))}"
    halt = Halt(command, "open", r"/(scratch|store)/", n_opened)
    before = dict(graph_run.environment)
    graph_run.environment |= halt.environment(marker)
    runner = graph_run.start("-j", "2")
    graph_run.environment = before
    wait_until(
        lambda: marker.exists() or runner.poll() is not None, "it halts or ends", timeout_s=120
    )
    if marker.exists():
        os.kill(int(marker.read_text()), signal.SIGKILL)
    event(f"{command} was killed: {marker.exists()}")
    runner.communicate(timeout=120)
    wait_until(lambda: not marked_processes(graph_run.directory), "nothing of it runs")


def states_of(graph_run: GraphRun) -> dict[str, str]:
    """What became of each quantum, by the deltas in the datastore."""
    states = {node: "blocked" for node in graph_run.document["tasks"]}
    for delta in graph_run.deltas():
        assert delta.status is not AttemptStatus.ABORTED or delta.signal is None
        if delta.status is AttemptStatus.FAILED:
            states[delta.task_label] = "failed"
    for delta in graph_run.counting().values():
        states[delta.task_label] = "no work" if delta.no_work else "successful"
    return states


@pytest.mark.timeout(900)  # about 40 s on two cores that nobody else uses
@settings(max_examples=15, phases=(Phase.explicit, Phase.generate))  # shrinking would take minutes
@given(nodes=graphs(), kills=KILLS)
def test_graph_ends_as_the_model_predicts(
    tmp_path_factory: pytest.TempPathFactory,
    registry: str,
    nodes: list[Node],
    kills: list[tuple[str, int]],
) -> None:
    directory = tmp_path_factory.mktemp("random")
    graph_run = GraphRun(directory, (directory / "store").as_uri(), make_document(nodes))
    graph_run.environment = mark(directory)
    for command, n_opened in kills:
        run_and_kill(graph_run, command, n_opened)
    report = graph_run.run("-j", "2")
    states, contents = predict(nodes)
    assert states_of(graph_run) == states, report
    assert report.code == int(not {"failed", "blocked"}.isdisjoint(states.values()))
    found = {name: graph_run.content(name) for node in nodes for name in node.outputs}
    assert found == {name: [contents[name].encode()] if name in contents else [] for name in found}
    check_registry(registry, graph_run, states, contents)
    check_left(directory)


def check_registry(
    address: str, graph_run: GraphRun, states: dict[str, str], contents: dict[str, str]
) -> None:
    """The central registry says the same, and agrees with the datastore."""
    dumps.empty(address)
    registry_merge("merge", address, graph_run.store, RUN)
    statement = (
        "SELECT q.task_label, q.status, a.no_work FROM quantum q JOIN attempt a USING (attempt_id)"
    )
    found = {
        label: "no work" if no_work else status
        for label, status, no_work in dumps.rows(address, statement)
    }
    assert found == {label: state for label, state in states.items() if state != "blocked"}
    datasets = {kind for (kind,) in dumps.rows(address, "SELECT dataset_type FROM dataset")}
    assert datasets == contents.keys()
    assert registry_merge("verify", address, graph_run.store, RUN)["n_differences"] == 0


def check_left(directory: Path) -> None:
    """No process and no sandbox is left."""
    assert marked_processes(directory) == []
    assert list((directory / "scratch").iterdir()) == []
