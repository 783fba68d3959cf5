# SPDX-License-Identifier: BSD-3-Clause
"""Merging while the graph runs: pass after pass, until no quantum can bring a delta any more.

Each pass is the full listing of the RUN's deltas minus the ledger. There is no mark up to which
all is merged: a worker's clock may be hours slow, and its delta would sort before it. Deltas that
are known to be bad are left out, as long as the graphs are the same; they do not change.

The status of the DAG is read before the deltas are listed. So a node that was done has its delta
in the listing, or it is lost; and a pass that saw the DAG ended is complete, and the last one.
`quantum_states` has the rule of ending.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from merger.central_registry import CentralRegistry
from merger.dag_status import NOTHING_KNOWN, DagStatus, DagStatusError, DagStatusFile
from merger.delta_checks import BadDelta, Reason
from merger.exit_codes import ExitCode, lowest
from merger.merge import MergeReport, RunMerge
from merger.predicted_ids import PredictedIds, read_predicted_ids
from merger.predictions import GraphNotFoundError
from merger.progress import Progress
from merger.quantum_states import Known, QuantumState, States, settle
from merger.quarantine import Quarantined, list_quarantine
from merger.standings import learn, learn_bad, learn_pending, learn_waiting
from merger.stopping import StopRequest
from merger.unfinished import Unfinished, UnfinishedReason, describe_unfinished
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore, TransferError

DEFAULT_POLL_S = 10.0
"""Longest wait between two passes: short enough for people, long enough for a bucket."""

_SHORTEST_PAUSE_S = 1.0
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
    words
        What has to stand behind other commands, so that they find the same registry.
    """

    report: MergeReport
    unfinished: Unfinished | None = None
    stopped_by: int | None = None
    n_passes: int = 1
    n_dropped: int = 0
    datastore: str = ""
    words: Sequence[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of the signal if it stopped the merge, else the lowest of 10 to 15 that applies."""
        if self.stopped_by is not None:
            return 128 + self.stopped_by
        missing = UnfinishedReason.SUCCESSFUL_WITHOUT_DELTA
        n_missing = self.unfinished.counts[missing] if self.unfinished else 0
        return lowest({ExitCode.DELTAS_MISSING: n_missing, self.report.exit_code: True})


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
            except TransferError as error:
                # A submit that found another graph in its RUN takes its own away again.
                may_pass = error.is_retryable or isinstance(error, ObjectNotFoundError)
                if not may_pass or time.monotonic() - last_good > _PATIENCE_S:
                    raise
                self._progress.wait(f"waits for the datastore: {error}")
            if not is_last and self._stop.wait(self._pause_s):
                break
            self._pause_s = min(2 * self._pause_s, self._poll_s)
        return self._merged(self._unfinished(), is_stopped=not is_last)

    def merge_once(self) -> Merged:
        """Merge in one pass; how quanta stand is only looked at if there is the status of a DAG.

        Raises
        ------
        registry.errors.QuantumExecError
            As `merge.merge_run`; `dag_status.DagStatusError` if the node status file says nothing.
        """
        if self._ending.dag is None:
            self._add(self._merge.merge_pass())
            self._quarantine = list_quarantine(self._registry, self._merge.run)
            return self._merged(None, is_stopped=not self.report.is_complete)
        self._dag = self._ending.dag.read()
        if self._dag is None:
            raise DagStatusError(
                f"node status file {str(self._ending.dag.path)!r}: expected what DAGMan writes, "
                "found nothing of that; --follow waits for it"
            )
        self._pass()
        return self._merged(self._unfinished(), is_stopped=not self.report.is_complete)

    def _look(self) -> bool:
        """Make one pass, and see how the quanta stand; tells whether nothing can come any more."""
        self._dag = self._read_dag()
        try:
            is_settled = self._pass()
        except GraphNotFoundError:
            if self._has_ended:
                raise
            self._progress.wait("waits for a graph of the RUN")
            return False
        return is_settled and self.report.is_complete and (self._has_ended or not self.is_open)

    def _pass(self) -> bool:
        """Make one pass; tells whether nothing was left out that may be good by now."""
        report = self._merge.merge_pass(self._skipped())
        is_settled = self._take_graphs()
        self._add(report)
        if is_settled:
            self._look_at_quanta(report)
        return is_settled

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
        found = self._ending.dag.read()
        if found is None:
            self._progress.wait(f"waits for the node status file {str(self._ending.dag.path)!r}")
        return found or NOTHING_KNOWN

    def _skipped(self) -> frozenset[str]:
        return frozenset(self._left_alone).union(found.key for found in self._quarantine)

    def _take_graphs(self) -> bool:
        """See which graphs the pass knew; tells whether it looked at all that they make good."""
        graphs = frozenset(self._merge.predictions.graphs)
        if graphs == self._graphs:
            return True
        had_skipped = bool(self._skipped())
        self._predicted = read_predicted_ids(self._store, self._merge.run, graphs)
        self._known = Known.nothing(len(self._predicted))
        self._states = np.full(len(self._predicted), QuantumState.OPEN, np.uint8)
        self._graphs, self._left_alone, self._quarantine, self._seen = graphs, set(), [], None
        self.report.newer, self.report.refused = [], []
        return not had_skipped

    def _add(self, report: MergeReport) -> None:
        """Add what a pass did to what those before it did."""
        total = self.report
        if not self.n_passes:
            total.n_merged_before = report.n_merged_before
            total.quarantined = report.quarantined
        total.n_listed = report.n_listed
        total.n_merged_by_others += report.n_merged_by_others
        total.n_leases_taken_over += report.n_leases_taken_over
        total.counts.add(report.counts)
        total.is_complete = report.is_complete
        total.newer += report.newer
        total.refused += report.refused
        listing = self._merge.listing
        assert listing is not None, "a pass has listed"
        refused = (listing.find(r.attempt_id) for r in report.refused if r.attempt_id)
        self._left_alone.update(report.newer, filter(None, refused))
        self.n_passes += 1

    def _look_at_quanta(self, report: MergeReport) -> None:
        """Ask how the quanta stand, if anything changed since the last time."""
        seen = (report.n_listed, report.n_merged_before, id(self._dag))
        if seen != self._seen or report.counts.n_deltas or report.n_merged_by_others:
            self._pause_s = min(self._poll_s, _SHORTEST_PAUSE_S)
            self._learn()
        self._seen = seen
        n_failed = np.isin(self._states, (QuantumState.FAILED, QuantumState.QUARANTINED)).sum()
        n_merged = self._known.is_merged.sum()
        self._progress.count_quanta(len(self._predicted), int(n_merged), int(n_failed))

    def _learn(self) -> None:
        known, predicted, registry = self._known, self._predicted, self._registry
        listing = self._merge.listing
        assert listing is not None, "a pass has listed"
        learn(known, predicted, registry, None if self._seen is None else listing)
        self._quarantine = list_quarantine(registry, self._merge.run)
        self.report.quarantined = [
            BadDelta(found.key, Reason(found.reason), found.message)
            for found in self._quarantine
            if not found.dropped
        ]
        bad = [found.key for found in self._quarantine]
        learn_bad(known, predicted, bad)
        learn_waiting(known, predicted, registry, listing, self._left_alone)
        known.is_pending[:] = False
        self._states = settle(predicted, known, self._dag, self._ending.n_retries)
        missing = np.flatnonzero(self._states == QuantumState.MISSING)
        if len(missing):
            learn_pending(known, predicted, registry, listing, missing, bad)
            self._states = settle(predicted, known, self._dag, self._ending.n_retries)
