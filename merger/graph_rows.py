# SPDX-License-Identifier: BSD-3-Clause
"""What the rows of deltas refer to: the RUN, its dataset types, the graph's dimension records."""

import threading

from psycopg import Cursor

from merger.central_registry import CentralRegistry
from merger.collation import dimension_table
from merger.collection_chains import ensure_run
from merger.conflict_policy import ConflictPolicies
from merger.conflict_records import ConflictCounts, NeedsCareError
from merger.copy_format import CopyRows
from merger.dataset_types import ensure_dataset_type
from merger.dimension_conflicts import insert_dimensions
from merger.predictions import PredictedGraph, Predictions


class GraphRows:
    """Ensures the rows of a RUN's graphs, once there is a delta to merge.

    Not before: a RUN that was forgotten, and whose deltas are all forgotten, stays away.
    May be used by several threads, each with its own connection.
    """

    def __init__(self, predictions: Predictions, policies: ConflictPolicies) -> None:
        self._graphs = list(predictions.graphs.values())
        self._policies = policies.without_fail()
        self._are_there = False
        self._lock = threading.Lock()
        self.conflicts = ConflictCounts()
        """Conflicts about dimension records of graphs that were not recorded before; all rows."""

    def ensure(self, registry: CentralRegistry, *, again: bool = False) -> None:
        """Ensure the rows.

        Parameters
        ----------
        again
            They are missing: somebody has forgotten the RUN since.

        Raises
        ------
        merger.dataset_types.DatasetTypeConflictError
        merger.central_registry.CentralRegistryError
        """
        with self._lock:
            if not self._are_there or again:
                for graph in self._graphs:
                    self.conflicts.add(self._ensure(registry, graph))
                self._are_there = True

    def _ensure(self, registry: CentralRegistry, graph: PredictedGraph) -> ConflictCounts:
        record = graph.record
        # The graph's id tells that these records stay when attempts are forgotten.
        brought = [(each, record.graph_id) for each in record.dimension_records]
        rows = CopyRows.encode(dimension_table(brought))

        def ensure(cursor: Cursor, *, careful: bool) -> ConflictCounts:
            n_runs = ensure_run(cursor, record.run)
            n_types = sum(
                ensure_dataset_type(cursor, dataset_type, f"graph {record.graph_id!r}")
                for dataset_type in sorted(record.dataset_types, key=lambda t: t.name)
            )
            found = insert_dimensions(cursor, rows, careful=careful, policies=self._policies)
            found.rows.update({"run": n_runs, "dataset_type": n_types})
            return found

        try:
            return registry.transact(lambda cursor: ensure(cursor, careful=False))
        except NeedsCareError:
            return registry.transact(lambda cursor: ensure(cursor, careful=True), alone=True)
