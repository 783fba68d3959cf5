# SPDX-License-Identifier: BSD-3-Clause
"""Whatever the order and grouping in which deltas are merged, the registry is the same."""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from merger.central_registry import CentralRegistry
from merger.findings import FindingKind
from merger.merge import merge_run
from merger.verification import verify_run
from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.model import DimensionRecord
from tests import factories
from tests.dumps import Dump, dump, empty
from tests.factories import Graph
from transfer_plugins.object_store import DirectoryObjectStore, ObjectStore

N_QUANTA = 2


def make_graphs() -> list[Graph]:
    """Three graphs of one RUN that get into each other's way in every possible manner.

    The second claims the same types and data IDs under other ids. The third claims ids of the
    first, some for other data IDs, so that it conflicts with both.
    """
    first, second = factories.make_graph(N_QUANTA), factories.make_graph(N_QUANTA, name="second")
    third = factories.make_graph(N_QUANTA, name="third")
    stolen = {
        mine: dataclasses.replace(third.outputs[mine], dataset_id=theirs)
        for mine, theirs in zip(third.outputs, reversed(first.outputs), strict=True)
    }
    quanta = [
        dataclasses.replace(q, outputs=[stolen[o].dataset_id for o in q.outputs])
        for q in third.quanta
    ]
    outputs = {row.dataset_id: row for row in stolen.values()}
    return [first, second, dataclasses.replace(third, quanta=quanta, outputs=outputs)]


GRAPHS = make_graphs()


@dataclass(frozen=True)
class Try:
    """One attempt, as the strategy draws it."""

    graph: int
    quantum: int
    status: AttemptStatus
    n_outputs: int
    dimensions: tuple[tuple[int, float], ...]
    n_kept: int = 2

    def delta(self, number: int) -> Delta:
        graph = GRAPHS[self.graph]
        full = factories.make_delta(graph, self.quantum, number, status=self.status)
        datasets = full.rows.dataset[: self.n_outputs]
        rows = dataclasses.replace(
            full.rows,
            dataset=datasets,
            datastore_record=full.rows.datastore_record[: self.n_outputs][: self.n_kept],
            dimension_record=[
                DimensionRecord("exposure", {"exposure": key}, {"airmass": value})
                for key, value in self.dimensions
            ],
        )
        not_kept = [row.dataset_id for row in datasets[self.n_kept :]]
        return dataclasses.replace(full, rows=rows, not_kept=not_kept)


tries = st.builds(
    Try,
    graph=st.integers(0, 2),
    quantum=st.integers(0, N_QUANTA - 1),
    status=st.sampled_from([AttemptStatus.SUCCESSFUL] * 3 + [AttemptStatus.FAILED]),
    n_outputs=st.integers(0, 2),
    # 1 and 1.0 are equal JSON with different text.
    dimensions=st.dictionaries(st.integers(0, 1), st.sampled_from([1, 1.0, 1.5]), max_size=2).map(
        lambda drawn: tuple(drawn.items())
    ),
    n_kept=st.integers(0, 2),
)


@st.composite
def merges(draw: st.DrawFn) -> tuple[list[Delta], list[list[Delta]], list[int]]:
    """Deltas, the same in another order and in groups, and the batch size of each group."""
    drawn = draw(st.lists(tries, min_size=1, max_size=9))
    deltas = [one.delta(number) for number, one in enumerate(drawn, 1)]
    shuffled = draw(st.permutations(deltas))
    cuts = sorted(draw(st.sets(st.integers(1, len(deltas)), max_size=len(deltas))) | {len(deltas)})
    groups = [shuffled[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
    return deltas, groups, [draw(st.integers(1, 4)) for _ in groups]


@contextmanager
def new_store() -> Iterator[ObjectStore]:
    """A datastore with the records of the graphs."""
    # In memory, if possible: the store syncs every object to disk.
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    ) as directory:
        store = DirectoryObjectStore(Path(directory))
        for graph in GRAPHS:
            factories.publish(store, graph)
        yield store


def put(store: ObjectStore, deltas: Sequence[Delta]) -> None:
    for delta in deltas:
        factories.put_delta(store, delta)
        factories.put_objects(store, delta)


def merged_at_once(address: str, deltas: Sequence[Delta]) -> Dump:
    """The dump of one clean merge."""
    empty(address)
    with new_store() as store, CentralRegistry(address) as registry:
        put(store, deltas)
        merge_run(registry, store, factories.RUN)
        found = verify_run(registry, store, factories.RUN)
    differences = {finding.kind for finding in found.findings if finding.is_difference}
    assert differences <= {FindingKind.CONFLICT}
    return dump(address)


def merged_in_groups(
    address: str, groups: Sequence[Sequence[Delta]], batch_sizes: Sequence[int]
) -> Dump:
    """The dump after merging group after group."""
    empty(address)
    with new_store() as store, CentralRegistry(address) as registry:
        for group, batch_size in zip(groups, batch_sizes, strict=True):
            put(store, group)
            merge_run(registry, store, factories.RUN, batch_size=batch_size)
        merge_run(registry, store, factories.RUN)
    return dump(address)


@given(merges())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_order_and_grouping_do_not_matter(
    database: str, merges: tuple[list[Delta], list[list[Delta]], list[int]]
) -> None:
    deltas, groups, batch_sizes = merges
    expected = merged_at_once(database, deltas)
    found = merged_in_groups(database, groups, batch_sizes)
    for table in expected:
        note(f"{table}: {expected[table]} / {found[table]}")
    assert found == expected


@pytest.mark.parametrize("newest_first", [False, True])
def test_conflicting_graphs_are_settled_by_content(database: str, newest_first: bool) -> None:
    """The same property on one case that is known to hit everything, readable when it fails."""
    deltas = [
        Try(graph, quantum, AttemptStatus.SUCCESSFUL, 2, ((0, 1.0 + graph),)).delta(number)
        for number, (quantum, graph) in enumerate(
            ((quantum, graph) for quantum in range(N_QUANTA) for graph in (2, 0, 1, 0)), 1
        )
    ]
    expected = merged_at_once(database, deltas)
    assert len(expected["merge_conflict"]) > len(deltas)
    groups = [[delta] for delta in (reversed(deltas) if newest_first else deltas)]
    assert merged_in_groups(database, groups, [1] * len(groups)) == expected
