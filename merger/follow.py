# SPDX-License-Identifier: BSD-3-Clause
"""Merging while the graph runs: pass after pass, until no quantum can bring a delta any more.

Each pass is the full listing of the RUN's deltas minus the ledger. There is no mark up to which
all is merged: a worker's clock may be hours slow, and its delta would sort before it. Deltas that
are known to be bad are left out of most passes. Some minutes later, when there are more graphs, and
before it ends, a follower looks at them again: somebody may have mended one.

The status of the DAG is read before the deltas are listed. So a node that was done has its delta
in the listing, or it is lost; and a pass that saw the DAG ended is complete, and the last one.
`quantum_states` has the rule of ending.
"""

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import psycopg

from merger.central_registry import CentralRegistry, CentralRegistryError
from merger.conflict_records import Refusal
from merger.dag_status import NOTHING_KNOWN, DagStatus, DagStatusError, DagStatusFile
from merger.delta_checks import BadDelta
from merger.exit_codes import ExitCode, lowest
from merger.failures import exit_code_of
from merger.merge import MergeReport, RunMerge
from merger.packed_ids import PackedIds, pack_ids
from merger.predicted_ids import PredictedIds, read_predicted_ids
from merger.predictions import GraphNotFoundError
from merger.progress import Progress
from merger.quantum_states import Known, QuantumState, States, settle
from merger.quarantine import Quarantined, list_quarantine
from merger.standings import learn, learn_bad, learn_pending, learn_waiting, read_forgotten
from merger.stopping import StopRequest
from merger.unfinished import Unfinished, UnfinishedReason, describe_unfinished
from registry import names
from registry.errors import QuantumExecError
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore, TransferError

DEFAULT_POLL_S = 10.0
"""Longest wait between two passes: short enough for people, long enough for a bucket."""

_SHORTEST_PAUSE_S = 1.0
_AGAIN_S = 300.0
"""How long bad deltas are left alone."""
_PATIENCE_S = 600.0
"""How long a datastore may be away before a follower gives up."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What decides that a quantum will bring no delta any more.

    Attributes
    ----------
    dag
        Node status file of the DAG that runs the graph, if there is one.
    n_retries
        Attempts without success that another one may follow; counts only without a DAG.
    """

    dag: DagStatusFile | None = None
    n_retries: int = 0


@dataclass(slots=True)
class Merged:
    """All that the end of a merge tells.

    Attributes
    ----------
    unfinished
        Only known to a merge that follows, or was given the status of a DAG.
    stopped_by
        Number of the signal that ended it before all was done.
    error
        What went wrong besides, while all was merged that could be.
    words
        What has to stand behind other commands, so that they find the same registry.
    """

    report: MergeReport
    unfinished: Unfinished | None = None
    stopped_by: int | None = None
    n_passes: int = 1
    n_dropped: int = 0
    error: QuantumExecError | psycopg.Error | None = None
    datastore: str = ""
    words: Sequence[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of the signal if it stopped the merge, else the lowest that applies."""
        if self.stopped_by is not None:
            return 128 + self.stopped_by
        missing = UnfinishedReason.SUCCESSFUL_WITHOUT_DELTA
        n_missing = self.unfinished.counts[missing] if self.unfinished else 0
        failed = ExitCode.OK if self.error is None else exit_code_of(self.error)
        return lowest(
            {ExitCode.DELTAS_MISSING: n_missing, failed: True, self.report.exit_code: True}
        )


class Follower:
    """Merges a RUN pass after pass, and knows how its quanta stand.

    Parameters
    ----------
    merge
        Merges in passes; is told to stop by whoever makes the stop request.
    stop
        Once it is set, no pass begins.
    """

    def __init__(
        self,
        registry: CentralRegistry,
        store: ObjectStore,
        merge: RunMerge,
        *,
        ending: Ending,
        stop: StopRequest,
        progress: Progress,
    ) -> None:
        self._registry, self._store, self._merge = registry, store, merge
        self._ending, self._stop, self._progress = ending, stop, progress
        self._poll_s = self._pause_s = DEFAULT_POLL_S
        self._graphs: frozenset[str] = frozenset()
        self._predicted = PredictedIds.none()
        self._known = Known.nothing(0)
        self._states: States = np.zeros(0, np.uint8)
        self._dag: DagStatus | None = None
        self._left_alone: set[str] = set()
        self._quarantine: list[Quarantined] = []
        self._forgotten: PackedIds = pack_ids([])
        self._looked_again = -math.inf
        self._refused: dict[Refusal, str | None] = {}
        self._seen: tuple[object, ...] | None = None
        self.report = MergeReport(merge.run)
        """Of all passes together."""
        self.n_passes = 0
        self._began = time.monotonic()

    def follow(self, poll_s: float = DEFAULT_POLL_S) -> Merged:
        """Merge until no quantum is open, the DAG has ended, or a signal came.

        Parameters
        ----------
        poll_s
            Longest wait between two passes, in seconds; after something was merged it is shorter.

        Raises
        ------
        registry.errors.QuantumExecError
            As `merge.merge_run`, but a RUN without a graph is waited for, and so is a datastore
            that is away for some minutes.
        """
        self._poll_s = self._pause_s = poll_s
        last_good = time.monotonic()
        is_last = False
        while not (is_last or self._stop):
            try:
                is_last = self._look()
                last_good = time.monotonic()
            except CentralRegistryError as error:
                if not self._stop:
                    raise
                return self._cut_short(error)
            except TransferError as error:
                if self._stop:
                    return self._cut_short(error)
                # A submit that found another graph in its RUN takes its own away again.
                may_pass = error.is_retryable or isinstance(error, ObjectNotFoundError)
                if not may_pass or time.monotonic() - last_good > _PATIENCE_S:
                    raise
                self._progress.wait(f"waits for the datastore: {error}")
            if not is_last and self._stop.wait(self._pause_s):
                break
            self._pause_s = min(max(2 * self._pause_s, _SHORTEST_PAUSE_S), self._poll_s)
        try:
            return self._merged(self._unfinished(), is_stopped=not is_last)
        except (CentralRegistryError, TransferError) as error:
            if is_last:
                raise
            return self._cut_short(error)

    def merge_once(self) -> Merged:
        """Merge in one pass; how quanta stand is only looked at if there is the status of a DAG.

        Without a node status file that says something all is merged, too; then that is the error
        of what is returned.

        Raises
        ------
        registry.errors.QuantumExecError
            As `merge.merge_run`.
        """
        error: DagStatusError | None = None
        if (file := self._ending.dag) is not None:
            try:
                self._dag = file.read_now()
            except DagStatusError as found:
                error = found
        try:
            unfinished = self._merge_once()
        except (CentralRegistryError, TransferError) as trouble:
            if not self._stop:
                raise
            return self._cut_short(trouble)
        merged = self._merged(unfinished, is_stopped=not self.report.is_complete)
        merged.error = error
        return merged

    def _merge_once(self) -> Unfinished | None:
        if self._dag is not None:
            self._pass()
            return self._unfinished()
        self._add(self._merge.merge_pass())
        self._quarantine = list_quarantine(self._registry, self._merge.run)
        return None

    def so_far(self) -> Merged:
        """Return what the passes did that came to their end; no registry is asked."""
        return self._merged(None, is_stopped=True)

    def _cut_short(self, error: Exception) -> Merged:
        """End at once where something is away that a pass waits for: it is told to stop."""
        self._progress.wait(f"stops without waiting any longer: {error}")
        return self.so_far()

    def _look(self) -> bool:
        """Make one pass, and see how the quanta stand; tells whether nothing can come any more."""
        self._dag = self._read_dag()
        try:
            has_seen_all = self._pass()
        except GraphNotFoundError:
            if self._has_ended:
                raise
            self._progress.wait("waits for a graph of the RUN")
            return False
        is_over = self.report.is_complete and (self._has_ended or not self.is_open)
        if is_over and not has_seen_all:
            self._looked_again, self._pause_s = -math.inf, 0
        return is_over and has_seen_all

    def _pass(self) -> bool:
        """Make one pass; tells whether nothing was left out that may be good by now."""
        began, skipped = time.monotonic(), self._skipped()
        report = self._merge.merge_pass(skipped)
        has_new_graphs = self._take_graphs()
        self._add(report, skipped)
        if has_new_graphs and skipped:
            return False
        if not skipped:
            self._looked_again = began
        self._look_at_quanta(report)
        return not skipped

    def _merged(self, unfinished: Unfinished | None, *, is_stopped: bool) -> Merged:
        stopped_by = self._stop.received if is_stopped else None
        self.report.wall_s = time.monotonic() - self._began
        n_dropped = sum(found.dropped for found in self._quarantine)
        return Merged(self.report, unfinished, stopped_by, self.n_passes, n_dropped)

    @property
    def is_open(self) -> bool:
        """Whether a quantum may still bring a delta, as far as the last pass could tell."""
        return not self.n_passes or bool((self._states == QuantumState.OPEN).any())

    def _unfinished(self) -> Unfinished:
        """Tell what became of the quanta that have no success in the central registry."""
        if not self.n_passes:
            return Unfinished()
        has_ended = self._has_ended or not self.is_open
        predictions, states, known = self._merge.predictions, self._states, self._known
        return describe_unfinished(
            self._registry, predictions, self._predicted, states, known, has_ended=has_ended
        )

    @property
    def _has_ended(self) -> bool:
        return self._dag is not None and self._dag.is_ended

    def _read_dag(self) -> DagStatus | None:
        if self._ending.dag is None:
            return None
        try:
            found = self._ending.dag.read()
        except DagStatusError as error:
            # It may be back for the next pass; so long, what it said last holds.
            self._progress.wait(str(error))
            return self._dag or NOTHING_KNOWN
        if found is None:
            self._progress.wait(f"waits for the node status file {str(self._ending.dag.path)!r}")
        return found or NOTHING_KNOWN

    def _skipped(self) -> frozenset[str]:
        """Return the keys of deltas that need not be read again now."""
        if time.monotonic() - self._looked_again > _AGAIN_S:
            return frozenset()
        looked_at = (found.key for found in self._quarantine if not found.dropped)
        return frozenset(self._left_alone).union(looked_at)

    def _take_graphs(self) -> bool:
        """See which graphs the pass knew; tells whether they are others than before."""
        graphs = frozenset(self._merge.predictions.graphs)
        if graphs == self._graphs:
            return False
        self._predicted = read_predicted_ids(self._store, self._merge.run, graphs)
        self._known = Known.nothing(len(self._predicted))
        self._states = np.full(len(self._predicted), QuantumState.OPEN, np.uint8)
        self._graphs, self._seen, self._looked_again = graphs, None, -math.inf
        return True

    def _add(self, report: MergeReport, skipped: Collection[str] = ()) -> None:
        """Add what a pass did to what those before it did; what it skipped is as it was."""
        total = self.report
        if not self.n_passes:
            total.n_merged_before = report.n_merged_before
            total.quarantined = report.quarantined
        total.n_listed = report.n_listed
        total.n_merged_by_others += report.n_merged_by_others
        total.n_gone += report.n_gone
        total.n_open_conflicts = report.n_open_conflicts
        total.n_leases_taken_over += report.n_leases_taken_over
        total.counts.add(report.counts)
        total.is_complete = report.is_complete
        self._leave_alone(report, skipped)
        self.n_passes += 1

    def _leave_alone(self, report: MergeReport, skipped: Collection[str]) -> None:
        """Renew what waits for a person: of newer formats, and refused."""
        listing, total = self._merge.listing, self.report
        assert listing is not None, "a pass has listed"
        keys = {r: listing.find(r.attempt_id) if r.attempt_id else None for r in report.refused}
        self._refused = {
            refusal: key
            for refusal, key in self._refused.items()
            if key in skipped or not report.is_complete
        } | keys
        before = [k for k in total.newer if k in skipped or not report.is_complete]
        total.newer = list(dict.fromkeys(before + report.newer))
        total.refused = list(self._refused)
        found = {*total.newer, *self._refused.values()}
        self._left_alone = {key for key in found if key and names.parse_delta_key(key)}

    def _look_at_quanta(self, report: MergeReport) -> None:
        """Ask how the quanta stand, if anything changed since the last time."""
        seen = (report.n_listed, report.n_merged_before, id(self._dag), len(self._left_alone))
        forgotten = read_forgotten(self._registry, self._merge.run)
        if not np.array_equal(forgotten, self._forgotten):
            # Nobody knows what of it was there before: all quanta are asked about again.
            self._forgotten, self._seen = forgotten, None
        quarantine, before = list_quarantine(self._registry, self._merge.run), self._quarantine
        self._quarantine = quarantine
        n_merged = report.counts.n_deltas + report.n_merged_by_others
        if seen != self._seen or n_merged or quarantine != before:
            self._pause_s = min(self._poll_s, _SHORTEST_PAUSE_S)
            self._learn()
        self._seen = seen
        n_failed = np.isin(self._states, (QuantumState.FAILED, QuantumState.QUARANTINED)).sum()
        n_done = self._known.is_merged.sum()
        self._progress.count_quanta(len(self._predicted), int(n_done), int(n_failed))

    def _learn(self) -> None:
        known, predicted, registry = self._known, self._predicted, self._registry
        listing = self._merge.listing
        assert listing is not None, "a pass has listed"
        learn(known, predicted, registry, None if self._seen is None else listing)
        self.report.quarantined = [
            BadDelta(found.key, found.reason, found.message)
            for found in self._quarantine
            if not found.dropped
        ]
        learn_bad(known, predicted, self._quarantine)
        learn_waiting(known, predicted, self._left_alone, self._forgotten)
        known.is_pending[:] = False
        self._states = settle(predicted, known, self._dag, self._ending.n_retries)
        missing = np.flatnonzero(self._states == QuantumState.MISSING)
        if len(missing):
            bad = [found.key for found in self._quarantine]
            learn_pending(known, predicted, registry, listing, missing, bad)
            self._states = settle(predicted, known, self._dag, self._ending.n_retries)
