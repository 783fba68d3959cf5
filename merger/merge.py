# SPDX-License-Identifier: BSD-3-Clause
"""The whole act of merging a RUN: discover, lease, read ahead, insert, quarantine."""

import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

from merger.archived_deltas import with_archives
from merger.central_registry import CentralRegistry
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.conflict_records import Refusal
from merger.delta_checks import BadDelta, Reason
from merger.delta_listing import DeltaListing, list_deltas
from merger.exit_codes import ExitCode, lowest
from merger.forgetting import let_back
from merger.graph_rows import GraphRows
from merger.insertion import Insertion
from merger.leases import DEFAULT_LEASE_S, Leases, read_unmerged
from merger.merge_counts import MergeCounts
from merger.predictions import Predictions, read_predictions
from merger.prepared import DeltaReader
from merger.progress import Progress
from merger.quarantine import attempts_of, list_quarantine, renew_quarantine
from merger.settings import DEFAULT_BATCH_SIZE
from merger.settling import Selection, count_conflicts
from merger.writers import SILENT_S, Shared, Writer, Written
from registry import names
from transfer_plugins.object_store import ObjectStore
from transfer_plugins.s3_bulk_reading import for_bulk_reading


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge.

    Attributes
    ----------
    batch_size
        Deltas in one transaction.
    threads
        Deltas read at once; chosen by the kind of datastore if not given.
    connections
        Connections to the database that insert at the same time.
    lease_s
        Seconds for which a merger keeps deltas to itself; renewed while it works on them.
    policies
        What to do about conflicts.
    silent_s
        Seconds for which reading may make no progress.
    """

    batch_size: int = DEFAULT_BATCH_SIZE
    threads: int | None = None
    connections: int = 1
    lease_s: float = DEFAULT_LEASE_S
    policies: ConflictPolicies = DEFER_ALL
    silent_s: float = SILENT_S


@dataclass(slots=True)
class MergeReport:
    """What a merge found and did."""

    run: str
    n_listed: int = 0
    n_merged_before: int = 0
    n_merged_by_others: int = 0
    """Deltas that another merger merged while this one ran."""
    n_leases_taken_over: int = 0
    """Leases that other mergers had let expire."""
    counts: MergeCounts = field(default_factory=MergeCounts)
    quarantined: list[BadDelta] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    """Attempts left unmerged by policy ``fail``."""
    n_gone: int = 0
    """Deltas that were listed, and gone when they were to be read."""
    n_open_conflicts: int = 0
    """Conflicts of the RUN that nobody has settled, whoever recorded them."""
    is_complete: bool = True
    """Not stopped before all that was listed had been taken up."""
    wall_s: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """The lowest code that applies."""
        return lowest(
            {
                ExitCode.CONFLICTS: self.counts.n_conflicts or self.n_open_conflicts,
                ExitCode.QUARANTINED: self.quarantined,
                ExitCode.NEWER_FORMAT: self.newer,
                ExitCode.CONFLICTS_REFUSED: self.refused,
            }
        )


def merge_run(
    registry: CentralRegistry,
    store: ObjectStore,
    run: str,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    connections: int = 1,
    lease_s: float = DEFAULT_LEASE_S,
    policies: ConflictPolicies | None = None,
    remerge: bool = False,
    progress: Progress | None = None,
) -> MergeReport:
    """Merge every delta of a RUN that the ledger lacks.

    May be repeated, killed, or run several times at once: the registry ends up the same. Deltas
    that another merger has leased are waited for, and taken over if it is gone.

    Parameters
    ----------
    batch_size, threads, connections, lease_s, policies
        As in `MergeOptions`.
    remerge
        Merge attempts again that were forgotten.

    Raises
    ------
    registry.errors.QuantumExecError
        If the RUN has no graph record, the datastore or the registry cannot be used, or a
        dataset type is defined otherwise. What was merged before stays merged.
    """
    options = MergeOptions(batch_size, threads, connections, lease_s, policies or DEFER_ALL)
    with RunMerge(registry, store, run, options, progress) as merge:
        if remerge:
            let_back(registry, run)
        return merge.merge_pass()


class RunMerge:
    """A merge of one RUN, in one pass or in several while its graph runs.

    Each pass is the whole listing minus the ledger: no time and no id of a delta tells that all
    those before it are there.

    Parameters
    ----------
    registry
        Its connection is one of ``options.connections``; the others are closed at the end.
    """

    def __init__(
        self,
        registry: CentralRegistry,
        store: ObjectStore,
        run: str,
        options: MergeOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        names.check_run(run)
        self.run = run
        self._options = options or MergeOptions()
        self._progress = progress or Progress()
        self._store = with_archives(for_bulk_reading(store), run)
        self._registries = [registry]
        self._open = ExitStack()
        self._stop = threading.Event()
        self._is_told_to_stop = False
        self._predictions: Predictions | None = None
        self._reader: DeltaReader | None = None
        self.listing: DeltaListing | None = None
        """What the last pass listed."""

    def __enter__(self) -> "RunMerge":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()
        for sibling in self._registries[1:]:
            sibling.close()

    @property
    def predictions(self) -> Predictions:
        """What the RUN's graphs announce, as the last pass found it."""
        if self._predictions is None:
            self._predictions = read_predictions(self._store, self.run)
        return self._predictions

    def stop(self) -> None:
        """Let a pass end after the batches that it has begun; may be called from anywhere."""
        self._is_told_to_stop = True
        self._stop.set()
        self._registries[0].stop()

    def merge_pass(
        self, skip: Collection[str] = frozenset(), *, only: Collection[str] | None = None
    ) -> MergeReport:
        """List, and merge what is listed and the ledger lacks.

        Parameters
        ----------
        skip
            Keys of bad deltas that were looked at before, and are not to be read again; they stay
            in the quarantine and are not in the report. Dropped ones are never read.
        only
            Keys of the deltas to look at, if not all.

        Raises
        ------
        registry.errors.QuantumExecError
            As `merge_run`.
        """
        began = time.monotonic()
        registry, report = self._registries[0], MergeReport(self.run)
        reader = self._renew_reader()
        on_record = list_quarantine(registry, self.run)
        skipped = frozenset(skip).union(found.key for found in on_record if found.dropped)
        before = {found.key for found in on_record} - skipped
        before = before if only is None else before.intersection(only)
        with report.counts.timed("list"):
            listing = self.listing = list_deltas(self._store, self.run)
        with report.counts.timed("ledger"):
            unmerged = read_unmerged(registry, listing)
        report.n_listed = len(listing) + len(listing.strangers)
        report.n_merged_before = len(listing) - len(unmerged)
        strangers = set(listing.strangers) if only is None else set(only) & {*listing.strangers}
        report.quarantined += [stranger(key) for key in sorted(strangers - skipped)]
        if only is not None:
            unmerged = unmerged.only(attempts_of(self.run, only))
        for bad in self._store.bad_archives():
            if only is not None and bad.key not in only:
                continue
            if bad.is_newer:
                report.newer.append(bad.key)
            elif bad.key not in skipped:
                report.quarantined.append(BadDelta(bad.key, Reason.BAD_ARCHIVE, bad.message))
        if skipped:
            unmerged = unmerged.without(attempts_of(self.run, skipped))
        self._insert_all(unmerged, reader, report)
        # A pass that was stopped has not looked at all of them again.
        looked_at = before if report.is_complete else set()
        report.counts.rows["quarantine"] += renew_quarantine(
            registry, self.run, looked_at, report.quarantined
        )
        report.n_open_conflicts = count_conflicts(registry, Selection(self.run))
        report.wall_s = time.monotonic() - began
        return report

    def _renew_reader(self) -> DeltaReader:
        """Return a reader that knows all graphs of the RUN, of which there may be more now."""
        if self._reader is not None:
            prefix = names.graph_prefix(self.run)
            keys = {stored.key for stored in self._store.list_objects(prefix)}
            known = {names.graph_record_key(self.run, g) for g in self.predictions.graphs}
            if known == {key for key in keys if key.endswith(".json")}:
                return self._reader
            self._predictions = None
            self._open.close()
        self._reader = self._open.enter_context(
            DeltaReader(self._store, self.predictions, threads=self._options.threads)
        )
        return self._reader

    def _insert_all(self, unmerged: DeltaListing, reader: DeltaReader, report: MergeReport) -> None:
        options, leases = self._options, Leases(unmerged, lease_s=self._options.lease_s)
        self._progress.start(len(unmerged))
        # Another one for each pass: a connection that fails sets it, too.
        stop = self._stop = threading.Event()
        if self._is_told_to_stop:
            stop.set()
        shared = Shared(reader, leases, self._progress, stop, options.batch_size, options.silent_s)
        graph_rows = GraphRows(self.predictions, options.policies)
        writers = [
            Writer(
                registry,
                Insertion(registry, reader, self.predictions, graph_rows, options.policies),
                shared,
            )
            for registry in self._connections(len(unmerged))
        ]
        try:
            written = _work(writers)
        except BaseException:
            leases.give_back(self._registries[0])
            # What is still being read is of no use to another pass.
            self._reader = None
            self._open.close()
            raise
        leases.give_back(self._registries[0])
        for each in written:
            report.counts.add(each.counts)
            report.quarantined += each.bad
            report.newer += each.newer
            report.refused += each.refused
            report.n_gone += each.n_gone
        report.counts.n_conflicts += graph_rows.conflicts.n_open
        report.counts.n_settled += graph_rows.conflicts.n_settled
        report.counts.rows.update(graph_rows.conflicts.rows)
        report.n_merged_by_others = leases.n_by_others
        report.n_leases_taken_over = leases.n_taken_over
        report.is_complete = not leases.n_left

    def _connections(self, n_unmerged: int) -> list[CentralRegistry]:
        """Return as many as were asked for, or as there are batches."""
        n_batches = -(-n_unmerged // self._options.batch_size)
        wanted = max(1, min(self._options.connections, n_batches))
        while len(self._registries) < wanted:
            sibling = self._registries[0].sibling()
            self._registries.append(sibling)
        return self._registries[:wanted]


def _work(writers: list[Writer]) -> list[Written]:
    """Let all work at once, the first in this thread."""
    with ThreadPoolExecutor(max(1, len(writers) - 1), "write") as pool:
        others = [pool.submit(writer.work) for writer in writers[1:]]
        first = writers[0].work()
        return [first, *(other.result() for other in others)]


def stranger(key: str) -> BadDelta:
    """Return what is bad about a key below the prefix of deltas that is not that of a delta."""
    return BadDelta(
        key,
        Reason.WRONG_KEY,
        f"delta {key!r}: expected a key <quantum id>.<attempt id>.json with an attempt id of its "
        "own, found another name or an attempt that another delta has",
    )
