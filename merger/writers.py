# SPDX-License-Identifier: BSD-3-Clause
"""What one connection does in a pass: lease deltas, have them read ahead, insert them."""

import random
import threading
from collections import deque
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from merger.central_registry import CentralRegistry
from merger.delta_checks import BadDelta, Reason
from merger.insertion import Inserted, Insertion
from merger.leases import Claim, Leases
from merger.prepared import DeltaReader
from merger.prepared_batch import PreparedBatch
from merger.progress import Progress
from transfer_plugins.object_store import TransferError, TransferRefusedError

_BATCHES_AHEAD = 2
"""Being read or waiting in memory, for each connection."""

_LONGEST_PAUSE_S = 2.0

SILENT_S = 600.0
"""Longer than a client of S3 tries one request."""

_REFUSED_IN_ROW = 3
"""So many deltas are refused, and none is read between them: the bucket refuses everything."""

_SILENT_STOPPED_S = 5.0
_STEP_S = 1.0


class ReadingSilentError(TransferError):
    """Reading deltas makes no progress."""

    error_type = "reading_silent"


@dataclass(slots=True)
class Written(Inserted):
    """What came of the deltas that one connection took.

    Attributes
    ----------
    newer
        Keys of deltas that a newer release wrote.
    n_gone
        Deltas that somebody removed before they could be read.
    """

    newer: list[str] = field(default_factory=list)
    n_gone: int = 0


class Refusals:
    """Whether the datastore refuses single deltas, or whatever it is asked for.

    Used by several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: BadDelta | None = None
        self._n_in_row = 0

    def note(self, batch: PreparedBatch) -> None:
        """Take note of what came of a batch.

        Raises
        ------
        transfer_plugins.object_store.TransferRefusedError
            If it is as good as all.
        """
        refused = [bad for bad in batch.bad if bad.reason is Reason.REFUSED_BY_DATASTORE]
        with self._lock:
            self._last = refused[-1] if refused else self._last
            has_read = batch.n_keys > len(refused)
            self._n_in_row = len(refused) + (0 if has_read else self._n_in_row)
            if not has_read and self._n_in_row >= _REFUSED_IN_ROW and self._last:
                raise TransferRefusedError(self._last.message)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the connections of a pass have in common."""

    reader: DeltaReader
    leases: Leases
    progress: Progress
    stop: threading.Event
    """Set to let every connection end after what it has begun."""
    batch_size: int
    silent_s: float = SILENT_S
    refusals: Refusals = field(default_factory=Refusals)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Writer:
    """One connection of a merge."""

    def __init__(self, registry: CentralRegistry, insertion: Insertion, shared: Shared) -> None:
        self._registry = registry
        self._insertion = insertion
        self._shared = shared
        self._ahead: deque[tuple[Claim, Future[PreparedBatch]]] = deque()
        self._n_taken = 0
        self._written = Written()

    def work(self) -> Written:
        """Insert batches until no delta is left that nobody merges.

        Raises
        ------
        registry.errors.QuantumExecError
            If the registry or the datastore cannot be used; the other connections end, too.
        """
        n_pauses = 0
        try:
            while True:
                wait_s = self._read_ahead()
                if self._ahead:
                    self._insert_next()
                    n_pauses = 0
                elif wait_s is None:
                    return self._written
                else:
                    self._pause(wait_s, n_pauses)
                    n_pauses += 1
        except BaseException:
            self._shared.stop.set()
            raise

    def _read_ahead(self) -> float | None:
        """Take leases and begin to read.

        Returns
        -------
        float or None
            How long the leases of other mergers last on what is left; None if nothing is left.
        """
        shared = self._shared
        while len(self._ahead) < _BATCHES_AHEAD:
            if shared.stop.is_set():
                return None
            # The first is small, so that the database has something to do soon.
            size = shared.batch_size if self._n_taken else max(1, shared.batch_size // 4)
            taken = shared.leases.take(self._registry, size)
            if taken.claim is None:
                return taken.wait_s
            self._n_taken += 1
            with shared.lock:
                self._ahead.append((taken.claim, shared.reader.prepare(taken.claim.keys)))
        return 0.0

    def _insert_next(self) -> None:
        shared, written = self._shared, self._written
        claim, reading = self._ahead.popleft()
        with written.counts.timed("read"):
            self._wait_for(reading)
        batch = reading.result()
        shared.refusals.note(batch)
        shared.leases.renew(self._registry)
        inserted = self._insertion.insert(batch, claim.lease_id)
        shared.leases.returned(claim.lease_id)
        written.counts.add(inserted.counts)
        written.bad += batch.bad + inserted.bad
        written.refused += inserted.refused
        written.newer += batch.newer
        written.n_gone += len(claim.keys) - batch.n_keys
        with shared.lock:
            shared.progress.advance(batch.n_keys, inserted.counts.n_rows)

    def _wait_for(self, reading: "Future[PreparedBatch]") -> None:
        """Wait until deltas are read, and keep their leases.

        Time in which this process itself is stopped does not count.

        Raises
        ------
        ReadingSilentError
            If there is no progress for long; not so long if all is to end.
        """
        shared = self._shared
        silent_s, n_heard = 0.0, shared.reader.n_heard
        while not wait([reading], _STEP_S).done:
            shared.leases.renew(self._registry)
            n_before, n_heard = n_heard, shared.reader.n_heard
            silent_s = silent_s + _STEP_S if n_heard == n_before else 0
            if silent_s >= (_SILENT_STOPPED_S if shared.stop.is_set() else shared.silent_s):
                raise ReadingSilentError(
                    f"reading deltas of RUN {shared.leases.run!r}: no progress for {silent_s:.0f} "
                    "s; the datastore hangs, or what reads from it was stopped"
                )

    def _pause(self, wait_s: float, n_pauses: int) -> None:
        """Wait for another merger that has leased all that is left: until it is done, or gone."""
        pause_s = min(0.1 * 2 ** min(n_pauses, 10), _LONGEST_PAUSE_S, max(wait_s, 0.05))
        if n_pauses == 5:
            with self._shared.lock:
                self._shared.progress.wait("another merger has leased the remaining deltas")
        with self._written.counts.timed("wait"):
            self._shared.stop.wait(pause_s * random.uniform(0.5, 1))
