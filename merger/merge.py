# SPDX-License-Identifier: BSD-3-Clause
"""The whole act of merging a RUN: discover, read ahead, insert, quarantine."""

import time
from dataclasses import dataclass, field

from psycopg import Cursor

from merger import statements
from merger.central_registry import CentralRegistry
from merger.collation import dimension_table
from merger.collection_chains import ensure_run
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.conflict_records import ConflictCounts, NeedsCareError, Refusal
from merger.copy_format import CopyRows
from merger.dataset_types import ensure_dataset_type
from merger.delta_checks import BadDelta, Reason
from merger.delta_reading import ReadDeltas, list_deltas, one_ahead, read_batches
from merger.dimension_conflicts import insert_dimensions
from merger.exit_codes import ExitCode
from merger.insertion import Batch, Insertion, MergeCounts, RowsRefusedError, make_batch
from merger.predictions import PredictedGraph, read_predictions
from merger.progress import Progress
from merger.quarantine import read_quarantine, renew_quarantine
from merger.settings import DEFAULT_BATCH_SIZE
from transfer_plugins.object_store import ObjectStore


@dataclass(slots=True)
class MergeReport:
    """What a merge found and did."""

    run: str
    n_listed: int = 0
    n_merged_before: int = 0
    counts: MergeCounts = field(default_factory=MergeCounts)
    quarantined: list[BadDelta] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    """Attempts left unmerged by policy ``fail``."""
    wall_s: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """The lowest code that applies."""
        if self.counts.n_conflicts:
            return ExitCode.CONFLICTS
        if self.quarantined:
            return ExitCode.QUARANTINED
        if self.newer:
            return ExitCode.NEWER_FORMAT
        return ExitCode.CONFLICTS_REFUSED if self.refused else ExitCode.OK


def merge_run(
    registry: CentralRegistry,
    store: ObjectStore,
    run: str,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    policies: ConflictPolicies | None = None,
    progress: Progress | None = None,
) -> MergeReport:
    """Merge every delta of a RUN that the ledger lacks.

    May be repeated, killed, or run several times at once: the registry ends up the same.

    Parameters
    ----------
    batch_size
        Deltas in one transaction.
    threads
        Deltas read at once; chosen by the kind of datastore if not given.
    policies
        What to do about conflicts; a person is asked about all if not given.

    Raises
    ------
    registry.errors.QuantumExecError
        If the RUN has no graph record, the datastore or the registry cannot be used, or a
        dataset type is defined otherwise. What was merged before stays merged.
    """
    progress = progress or Progress()
    began = time.monotonic()
    predictions = read_predictions(store, run)
    policies = policies or DEFER_ALL
    conflicts = ConflictCounts()
    for graph in predictions.graphs.values():
        conflicts.add(_ensure_graph(registry, graph, policies.without_fail()))
    before = read_quarantine(registry, run)
    by_attempt, strangers = list_deltas(store, run)
    unmerged = _read_unmerged(registry, by_attempt)
    report = MergeReport(run, len(by_attempt) + len(strangers), len(by_attempt) - len(unmerged))
    report.counts.n_conflicts, report.counts.n_settled = conflicts.n_open, conflicts.n_settled
    report.quarantined += map(_stranger, strangers)
    progress.start(len(unmerged))
    insertion = Insertion(registry, predictions, policies)
    keys = [by_attempt[attempt_id] for attempt_id in unmerged]
    batches = read_batches(store, keys, predictions, batch_size=batch_size, threads=threads)
    for prepared in one_ahead(map(_Prepared.make, batches)):
        inserted = insertion.insert(prepared.read.good, prepared.batch)
        report.counts.add(inserted.counts)
        report.quarantined += prepared.read.bad + inserted.bad
        report.newer += prepared.read.newer
        report.refused += inserted.refused
        progress.advance(prepared.read.n_keys)
    renew_quarantine(registry, run, before, report.quarantined)
    report.wall_s = time.monotonic() - began
    return report


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A batch as the reading thread leaves it: checked, collated, encoded."""

    read: ReadDeltas
    batch: Batch | None

    @classmethod
    def make(cls, read: ReadDeltas) -> "_Prepared":
        try:
            return cls(read, make_batch(read.good))
        except RowsRefusedError:
            # The insertion finds out which delta it is.
            return cls(read, None)


def _ensure_graph(
    registry: CentralRegistry, graph: PredictedGraph, policies: ConflictPolicies
) -> ConflictCounts:
    """Ensure what the rows of deltas refer to, and the graph's own dimension records.

    Returns
    -------
    ConflictCounts
        Conflicts that were not recorded before.
    """

    def ensure(cursor: Cursor, *, careful: bool) -> ConflictCounts:
        ensure_run(cursor, graph.record.run)
        for dataset_type in sorted(graph.record.dataset_types, key=lambda t: t.name):
            ensure_dataset_type(cursor, dataset_type, f"graph {graph.record.graph_id!r}")
        # The graph's id tells that these records stay when attempts are forgotten.
        graph_id = graph.record.graph_id
        brought = [(record, graph_id) for record in graph.record.dimension_records]
        rows = CopyRows.encode(dimension_table(brought))
        return insert_dimensions(cursor, rows, careful=careful, policies=policies)

    try:
        return registry.transact(lambda cursor: ensure(cursor, careful=False))
    except NeedsCareError:
        return registry.transact(lambda cursor: ensure(cursor, careful=True), alone=True)


def _read_unmerged(registry: CentralRegistry, by_attempt: dict[str, str]) -> list[str]:
    """Return the attempts of a listing that the ledger lacks, ordered by id and so by time."""

    def read(cursor: Cursor) -> list[str]:
        cursor.execute(statements.STAGE_LISTED)
        with cursor.copy(statements.COPY_LISTED) as copy:
            copy.write("".join(f"{attempt_id}\n" for attempt_id in by_attempt))
        cursor.execute(statements.ANALYZE_LISTED)
        return sorted(a for (a,) in cursor.execute(statements.READ_UNMERGED).fetchall())

    return registry.transact(read)


def _stranger(key: str) -> BadDelta:
    return BadDelta(
        key,
        Reason.WRONG_KEY,
        f"delta {key!r}: expected a key <quantum id>.<attempt id>.json with an attempt id of its "
        "own, found another name or an attempt that another delta has",
    )
