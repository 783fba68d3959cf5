# SPDX-License-Identifier: BSD-3-Clause
"""Sweep while attempts commit, and over random histories: nothing that is needed goes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Cursor

from merger.central_registry import CentralRegistry
from merger.findings import Finding
from merger.sweep import Sweep, SweepReport
from merger.verification import verify_run
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import DatastoreRow, Delta, write_delta
from tests import dumps, factories
from tests.fix_merge import MergeSite
from transfer_plugins.object_store import DirectoryObjectStore

T = TypeVar("T")
RUN = factories.RUN
GRAPH = factories.make_graph(4)


def nothing() -> None:
    pass


@dataclass
class Steps:
    """What happens between the steps of a sweep, once each."""

    at: dict[str, Callable[[], None]] = field(default_factory=dict)

    def reach(self, name: str) -> None:
        self.at.pop(name, nothing)()


class WatchedStore(DirectoryObjectStore):
    """A datastore that tells when the deltas are listed."""

    steps: Steps

    def list_keys(self, prefix: str) -> Iterator[str]:
        """List, and tell."""
        is_deltas = prefix == names.delta_prefix(RUN)
        if is_deltas:
            self.steps.reach("before the deltas")
        yield from super().list_keys(prefix)
        if is_deltas:
            self.steps.reach("after the deltas")


class WatchedRegistry(CentralRegistry):
    """A central registry that tells when it was read."""

    steps: Steps

    def read_snapshot(self, work: Callable[[Cursor], T]) -> T:
        """Read, and tell."""
        found = super().read_snapshot(work)
        if not isinstance(found, bool):
            self.steps.reach("after the registry")
        return found


@pytest.mark.parametrize("is_merged", [False, True])
@pytest.mark.parametrize("step", ["before the deltas", "after the deltas", "after the registry"])
def test_attempt_that_commits_meanwhile_keeps_its_objects(
    site: MergeSite, step: str, is_merged: bool
) -> None:
    """Its objects were listed; its delta comes, and maybe its merge, at the worst moment."""
    site.put(site.delta(1, 1))
    site.merge()
    late, dead = site.delta(0, 2), site.delta(2, 3)
    factories.put_objects(site.store, late)
    factories.put_objects(site.store, dead)

    def commit() -> None:
        factories.put_delta(site.store, late)
        if is_merged:
            site.merge()

    steps = Steps({step: commit})
    store, registry = WatchedStore(site.store.root), WatchedRegistry(site.address)
    store.steps = registry.steps = steps
    with registry, Sweep(registry, store, RUN, older_than_s=0, delete=True) as sweep:
        report = sweep.run()
    assert (report.n_deleted, steps.at) == (2, {})
    site.merge()
    assert site.differences() == []
    for record in late.rows.datastore_record:
        site.store.get(record.object_key)


FATES = {
    "merged": True,
    "unmerged": True,
    "dead": False,
    "damaged": True,
    "newer": True,
    "failed and merged": False,
    "failed": False,
    "given up": False,
    "merged and forgotten": True,
    "delta lost in quarantine": True,
}
"""What becomes of an attempt, and whether that protects what it uploaded."""


def happen(site: MergeSite, delta: Delta, fate: str) -> None:
    """Let an attempt have its fate; its objects are in the bucket."""
    factories.put_objects(site.store, delta)
    if "failed" in fate:
        number = int(delta.attempt_id[-12:], 16)
        quantum = [q.quantum_id for q in GRAPH.quanta].index(delta.quantum_id)
        delta = factories.make_delta(GRAPH, quantum, number, status=AttemptStatus.FAILED)
    content = write_delta(delta)
    content = {
        "damaged": content[:-5],
        "given up": b"junk",
        "delta lost in quarantine": b"junk",
        "newer": factories.framed(b'"format":99}'),
    }.get(fate, content)
    if fate != "dead":
        factories.put_delta(site.store, delta, content)


def settle(site: MergeSite, delta: Delta, fate: str) -> None:
    """What a person does after the merge."""
    key = names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)
    with psycopg.connect(site.address) as connection:
        if fate == "given up":
            connection.execute("UPDATE quarantine SET dropped = true WHERE delta_key = %s", (key,))
        if fate == "merged and forgotten":
            values = (delta.attempt_id,)
            connection.execute(
                "UPDATE merged_attempt SET forgotten = true WHERE attempt_id = %s", values
            )
            connection.execute("DELETE FROM dataset WHERE attempt_id = %s", values)
    if fate == "delta lost in quarantine":
        site.store.delete(key)


LATE = ("unmerged", "failed", "newer")


def expected_left(attempts: list[tuple[Delta, str]]) -> set[str]:
    """Keys that sweep may take: of what nothing protects, and of what a newer merged success
    displaced."""
    left = set()
    for delta, fate in attempts:
        is_newest = all(
            other.attempt_id <= delta.attempt_id
            for other, other_fate in attempts
            if other.quantum_id == delta.quantum_id
            and other_fate in ("merged", "merged and forgotten")
        )
        is_superseded = fate == "merged" and not is_newest
        if is_superseded or not FATES[fate]:
            left |= {record.object_key for record in delta.rows.datastore_record}
    return left


def run_sweep(site: MergeSite, *, delete: bool) -> tuple[SweepReport, set[str]]:
    with Sweep(site.registry, site.store, RUN, older_than_s=0, delete=delete) as sweep:
        return sweep.run(), {one.key for one in sweep.left()}


@pytest.fixture
def histories(database: str, tmp_path: Path) -> Iterator[Callable[[], MergeSite]]:
    """Makes an empty site for every example."""
    numbers = iter(range(1_000_000))

    def make() -> MergeSite:
        dumps.empty(database)
        store = DirectoryObjectStore(tmp_path / str(next(numbers)))
        factories.publish(store, GRAPH)
        return MergeSite(database, store, registry, GRAPH)

    with CentralRegistry(database) as registry:
        yield make


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(sorted(FATES))), max_size=7))
def test_who_protects_what(
    histories: Callable[[], MergeSite], history: list[tuple[int, str]]
) -> None:
    site = histories()
    attempts = [
        (factories.make_delta(GRAPH, quantum, number), fate)
        for number, (quantum, fate) in enumerate(history, start=1)
    ]
    # The registry has to know the RUN before anything is deleted.
    site.put(factories.make_delta(GRAPH, 3, 99))
    site.merge()
    for is_late in (False, True):
        for delta, fate in attempts:
            if (fate in LATE) is is_late:
                happen(site, delta, fate)
        if not is_late:
            site.merge()
            for delta, fate in attempts:
                settle(site, delta, fate)
    _, left = run_sweep(site, delete=False)
    assert left == expected_left(attempts)
    before = verify_run(site.registry, site.store, RUN, checksums=True)
    told = {one.key for one in [*before.superseded, *before.orphaned]}
    given_up = {r.object_key for d, f in attempts if f == "given up" for r in records_of(d)}
    assert left <= told | given_up
    assert run_sweep(site, delete=True)[0].n_deleted == len(left)
    after = verify_run(site.registry, site.store, RUN, checksums=True)
    assert differences(after.findings) == differences(before.findings)


def records_of(delta: Delta) -> list[DatastoreRow]:
    return delta.rows.datastore_record


def differences(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.is_difference]
