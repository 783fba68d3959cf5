# SPDX-License-Identifier: BSD-3-Clause
"""Which delta of a quantum counts: the newest that is whole, successful and predicted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from registry import names
from registry.delta import Delta
from registry.graph_record import write_graph_record
from registry.job import Job, PredictedInput, write_job
from registry.model import derived_id
from tests import factories
from tests.samples import (
    ATTEMPTS,
    CALEXP_ID,
    DATA_ID,
    GRAPH,
    OTHER_QUANTUM_ID,
    QUANTUM_ID,
    RUN,
    make_delta,
    make_failed_delta,
    make_job,
    make_output,
)
from transfer_plugins.deltas import IsTrusted, standing_of, trusting, trusting_producer
from transfer_plugins.object_store import DirectoryObjectStore, StoredObject

OTHER_GRAPH = derived_id("graph that was there before")


class Store(DirectoryObjectStore):
    """A datastore that counts how often it is asked for graph records."""

    n_graph_listings = 0

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        self.n_graph_listings += prefix.startswith(names.graph_prefix(RUN))
        return super().list_objects(prefix)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty datastore."""
    return Store(tmp_path / "store")


def put_graph(store: Store, graph_id: str) -> None:
    record = replace(GRAPH.record, graph_id=graph_id)
    store.put(names.graph_record_key(RUN, graph_id), write_graph_record(record))


def own_rule(store: Store) -> IsTrusted:
    """The rule of stage-in for attempts at the same quantum."""
    return trusting(store, make_job(), RUN, GRAPH.record.graph_id)


def consumer() -> Job:
    """A job that reads what the quantum makes."""
    output = make_output()
    made = PredictedInput(CALEXP_ID, "calexp", DATA_ID, RUN, output.path, producer=QUANTUM_ID)
    return make_job(quantum_id=OTHER_QUANTUM_ID, inputs=[made], outputs=[])


def counting(store: Store, rule: IsTrusted | None) -> str | None:
    found = standing_of(store, RUN, QUANTUM_ID, is_trusted=rule).counting
    return found.attempt_id if found else None


def put(store: Store, *deltas: Delta) -> None:
    for delta in deltas:
        factories.put_delta(store, delta)


def rules(store: Store) -> list[IsTrusted]:
    """Those of the quantum itself, and of a consumer that finds the job of its producer."""
    store.put(names.job_key(RUN, QUANTUM_ID), write_job(make_job()))
    return [own_rule(store), trusting_producer(store, consumer(), RUN, QUANTUM_ID)]


def test_newest_success_counts(store: Store) -> None:
    put(store, *(make_delta(attempt_id=a) for a in ATTEMPTS[:2]))
    put(store, make_failed_delta(attempt_id=ATTEMPTS[2]))
    found = standing_of(store, RUN, QUANTUM_ID)
    assert found.counting == make_delta(attempt_id=ATTEMPTS[1])
    assert found.newest_attempt == ATTEMPTS[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"task_label": "other"},
        {"data_id": {"exposure": 9, "detector": 1}},
        {"graph_id": OTHER_GRAPH},
        {"graph_id": "../../raw"},
        {"graph_id": "\0"},
    ],
)
def test_unpredicted_delta_is_passed_over(store: Store, changes: dict[str, object]) -> None:
    put(store, make_delta(attempt_id=ATTEMPTS[0]))
    put(store, make_delta(attempt_id=ATTEMPTS[1], **changes))
    assert counting(store, None) == ATTEMPTS[1]
    assert [counting(store, rule) for rule in rules(store)] == [ATTEMPTS[0]] * 2


def test_consumer_sees_what_it_does_not_read(store: Store) -> None:
    """By the job of the producer: an output that was not predicted, beside a good one."""
    delta, other = make_delta(attempt_id=ATTEMPTS[1]), factories.make_delta(GRAPH, 1)
    rows = {
        name: [*getattr(delta.rows, name), *getattr(other.rows, name)]
        for name in ("dataset", "datastore_record")
    }
    put(store, make_delta(attempt_id=ATTEMPTS[0]), make_delta(attempt_id=ATTEMPTS[1], **rows))
    assert [counting(store, rule) for rule in rules(store)] == [ATTEMPTS[0]] * 2


@pytest.mark.parametrize("job", [None, b"junk", write_job(make_job()).replace(b"u/", b"../")])
@pytest.mark.parametrize("changes", [{"dataset_type": "raw"}, {"data_id": {"exposure": 9}}])
def test_consumer_sees_what_it_reads_without_the_job(
    store: Store, changes: dict[str, object], job: bytes | None
) -> None:
    if job is not None:
        store.put(names.job_key(RUN, QUANTUM_ID), job)
    rows = [replace(make_delta().rows.dataset[0], **changes)]  # type: ignore[arg-type]
    put(store, make_delta(attempt_id=ATTEMPTS[0]), make_delta(attempt_id=ATTEMPTS[1], dataset=rows))
    assert counting(store, trusting_producer(store, consumer(), RUN, QUANTUM_ID)) == ATTEMPTS[0]


def test_delta_of_another_graph_of_the_run_counts(store: Store) -> None:
    """A RUN that was extended; the datastore is asked once for each graph that is there."""
    put(store, *(make_delta(attempt_id=a, graph_id=OTHER_GRAPH) for a in ATTEMPTS))
    assert counting(store, own_rule(store)) is None
    assert store.n_graph_listings == len(ATTEMPTS)
    put_graph(store, OTHER_GRAPH)
    assert [counting(store, own_rule(store)) for _ in range(3)] == [ATTEMPTS[2]] * 3
    assert store.n_graph_listings == len(ATTEMPTS) + 1


def test_graph_of_the_job_needs_no_look(store: Store) -> None:
    put(store, make_delta(attempt_id=ATTEMPTS[0]))
    assert [counting(store, rule) for rule in rules(store)] == [ATTEMPTS[0]] * 2
    assert store.n_graph_listings == 0
