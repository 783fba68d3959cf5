# SPDX-License-Identifier: BSD-3-Clause
"""Publishing a graph, and which RUN belongs to whom."""

from pathlib import Path

import pytest

from executor.graph.quantum_graph import Graph
from executor.submit.publish import OtherGraphError, graphs_of_run, publish_graph
from executor.submit.standings import counting_deltas
from registry import names
from registry.graph_record import read_graph_record, read_predicted_quanta
from registry.job import read_job
from tests import factories
from tests.samples import ATTEMPTS, QUANTUM_ID, RUN, make_delta, make_failed_delta
from tests.unit.executor.graph_documents import document_with, make_document, read
from transfer_plugins.object_store import DirectoryObjectStore, StoredObject


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """The graph of the sample document."""
    return read(tmp_path, make_document())


@pytest.fixture
def other(tmp_path: Path, graph: Graph) -> Graph:
    """Another graph of the same RUN."""
    found = read(tmp_path, document_with("quanta", 2, "inputs", value={}))
    assert found.run == graph.run and found.graph_id != graph.graph_id
    return found


@pytest.fixture
def store(tmp_path: Path) -> DirectoryObjectStore:
    """An empty datastore."""
    return DirectoryObjectStore(tmp_path / "store")


def content_of(store: DirectoryObjectStore) -> dict[str, bytes]:
    """All objects."""
    return {stored.key: store.get(stored.key) for stored in store.list_objects("")}


def test_bucket_then_holds_all_that_workers_and_merger_need(
    graph: Graph, store: DirectoryObjectStore
) -> None:
    told: list[None] = []
    publish_graph(graph, store, on_job=lambda: told.append(None))
    record_key = names.graph_record_key(graph.run, graph.graph_id)
    quanta_key = names.predicted_quanta_key(graph.run, graph.graph_id)
    assert read_graph_record(store.get(record_key), "record") == graph.record()
    quanta = list(read_predicted_quanta(store.get(quanta_key), "quanta"))
    assert quanta == list(graph.predicted_quanta())
    for quantum in graph.quanta:
        key = names.job_key(graph.run, quantum.quantum_id)
        assert read_job(store.get(key), "job") == graph.job_of(quantum)
    assert len(content_of(store)) == 2 + len(graph.quanta)
    assert len(told) == len(graph.quanta)
    assert graphs_of_run(store, graph.run) == [graph.graph_id]


def test_publishing_again_changes_nothing(graph: Graph, store: DirectoryObjectStore) -> None:
    publish_graph(graph, store)
    before = content_of(store)
    publish_graph(graph, store)
    assert content_of(store) == before


def test_other_graph_is_refused_and_leaves_nothing(
    graph: Graph, other: Graph, store: DirectoryObjectStore
) -> None:
    publish_graph(graph, store)
    before = content_of(store)
    with pytest.raises(OtherGraphError) as caught:
        publish_graph(other, store)
    assert str(caught.value) == (
        f"RUN {RUN!r} in {store.uri}: expected graph {other.graph_id} (two exposures), found it "
        f"belongs to graph {graph.graph_id}; choose another RUN, or --extend it"
    )
    assert content_of(store) == before


def test_run_can_be_extended(graph: Graph, other: Graph, store: DirectoryObjectStore) -> None:
    publish_graph(graph, store)
    publish_graph(other, store, extend=True)
    assert sorted(graphs_of_run(store, RUN)) == sorted([graph.graph_id, other.graph_id])
    for again in (graph, other):
        with pytest.raises(OtherGraphError):
            publish_graph(again, store)
        publish_graph(again, store, extend=True)


def test_graph_of_another_run_is_no_hindrance(
    tmp_path: Path, graph: Graph, store: DirectoryObjectStore
) -> None:
    publish_graph(graph, store)
    for run in ("u/tester/night1/more", "u/tester/night", "u/tester"):
        publish_graph(read(tmp_path, make_document(), run=run), store)
    assert graphs_of_run(store, graph.run) == [graph.graph_id]


def test_of_two_at_once_one_steps_back(
    graph: Graph, other: Graph, store: DirectoryObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = DirectoryObjectStore.put

    def put_while_another_does(self: DirectoryObjectStore, key: str, content: bytes) -> None:
        """The other one looks and writes between our look and our writing."""
        monkeypatch.setattr(DirectoryObjectStore, "put", put)
        publish_graph(other, store)
        put(self, key, content)

    monkeypatch.setattr(DirectoryObjectStore, "put", put_while_another_does)
    with pytest.raises(OtherGraphError):
        publish_graph(graph, store)
    assert graphs_of_run(store, RUN) == [other.graph_id]
    # Nothing of the one that stepped back is left, and its jobs were never written.
    alone = DirectoryObjectStore(store.root.with_name("alone"))
    publish_graph(other, alone)
    assert content_of(store) == content_of(alone)


def test_done_is_what_has_a_valid_successful_delta(store: DirectoryObjectStore) -> None:
    graph = factories.make_graph(5)
    successes = [factories.make_delta(graph, 0, 1), factories.make_delta(graph, 0, 2)]
    successes.append(factories.make_delta(graph, 1, 1))
    for delta in successes:
        factories.put_delta(store, delta)
    for number in (1, 2):
        quantum_id = graph.quanta[number].quantum_id
        failed = make_failed_delta(quantum_id=quantum_id, attempt_id=ATTEMPTS[1])
        factories.put_delta(store, failed)
    factories.put_delta(store, factories.make_delta(graph, 3, 1), b"damaged")
    counting = counting_deltas(store, RUN)
    found = {quantum_id: delta.attempt_id for quantum_id, delta in counting.items()}
    assert found == {d.quantum_id: d.attempt_id for d in (successes[1], successes[2])}


def test_newest_valid_success_counts_whatever_follows_it(store: DirectoryObjectStore) -> None:
    factories.put_delta(store, make_delta(attempt_id=ATTEMPTS[0]))
    factories.put_delta(store, make_failed_delta(attempt_id=ATTEMPTS[1]))
    factories.put_delta(store, make_delta(attempt_id=ATTEMPTS[2]), b"damaged")
    counting = counting_deltas(store, RUN)
    assert {key: delta.attempt_id for key, delta in counting.items()} == {QUANTUM_ID: ATTEMPTS[0]}


def test_nothing_is_done_in_an_empty_run(store: DirectoryObjectStore) -> None:
    assert counting_deltas(store, RUN) == {}
    assert list(store.list_objects("")) == list[StoredObject]()
