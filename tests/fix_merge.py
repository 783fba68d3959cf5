# SPDX-License-Identifier: BSD-3-Clause
"""A place to merge at: an empty central registry, a datastore in a directory, one graph."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from merger.central_registry import CentralRegistry
from merger.findings import Finding, VerifyReport
from merger.merge import MergeReport, merge_run
from merger.verification import verify_run
from registry.delta import Delta
from tests import dumps, factories
from transfer_plugins.object_store import DirectoryObjectStore


@dataclass
class MergeSite:
    """What a test of the merge needs, in few words."""

    address: str
    store: DirectoryObjectStore
    registry: CentralRegistry
    graph: factories.Graph = field(default_factory=factories.make_graph)

    @property
    def uri(self) -> str:
        """URI of the datastore."""
        return self.store.uri

    def put(self, *deltas: Delta) -> list[str]:
        """Write deltas and the objects that they name; returns the keys of the deltas."""
        for delta in deltas:
            factories.put_objects(self.store, delta)
        return [factories.put_delta(self.store, delta) for delta in deltas]

    def delta(self, quantum: int = 0, number: int = 1, **overrides: Any) -> Delta:
        """Make a delta of the graph."""
        return factories.make_delta(self.graph, quantum, number, **overrides)

    def merge(self, **options: Any) -> MergeReport:
        """Merge the RUN."""
        return merge_run(self.registry, self.store, self.graph.run, **options)

    def verify(self, **options: Any) -> VerifyReport:
        """Verify the RUN."""
        return verify_run(self.registry, self.store, self.graph.run, **options)

    def differences(self) -> list[Finding]:
        """Verify, and leave the notes out."""
        return [finding for finding in self.verify().findings if finding.is_difference]

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the central registry."""
        return dumps.rows(self.address, statement, *values)

    def dump(self) -> dumps.Dump:
        """Dump the central registry."""
        return dumps.dump(self.address)


@pytest.fixture
def site(database: str, tmp_path: Path) -> Iterator[MergeSite]:
    """A place to merge at, its graph published: three quanta with two outputs each."""
    store = DirectoryObjectStore(tmp_path / "datastore")
    with CentralRegistry(database) as registry:
        site = MergeSite(database, store, registry)
        factories.publish(store, site.graph)
        yield site
