# SPDX-License-Identifier: BSD-3-Clause
"""Deltas made ready for insertion, ahead of it, and for many of them in a process of its own."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from merger.delta_checks import GoodDelta
from merger.delta_reading import read_whole
from merger.predictions import Predictions
from merger.prepared_batch import PreparedBatch, encode_deltas, in_order, prepare
from merger.reading_client import ReadingProcess
from merger.reading_start import FEW_DELTAS
from transfer_plugins.object_store import ObjectStore

__all__ = ["DeltaReader", "PreparedBatch", "encode_deltas"]


class DeltaReader:
    """Reads, verifies, checks and collates deltas of a RUN, ahead of their insertion.

    Few deltas are read by a thread; more by a process of its own, so that reading and the
    database have a processor each: threads of one process would share one.
    """

    def __init__(
        self,
        store: ObjectStore,
        predictions: Predictions,
        *,
        threads: int | None = None,
        few: int = FEW_DELTAS,
    ) -> None:
        self._store = store
        self._predictions = predictions
        self._threads = threads
        self._remaining_few = few
        self._ahead = ThreadPoolExecutor(1, "prepare")
        self._process: ReadingProcess | None = None
        self._n_parts = 0

    def __enter__(self) -> "DeltaReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.close()
        self._ahead.shutdown(cancel_futures=True)

    @property
    def reading_pid(self) -> int | None:
        """Process id of the reading process, if there is one."""
        return None if self._process is None else self._process.pid

    @property
    def n_heard(self) -> int:
        """Grows while what is asked for makes progress."""
        return self._n_parts + (0 if self._process is None else self._process.n_heard)

    def prepare(self, keys: Sequence[str]) -> "Future[PreparedBatch]":
        """Begin to prepare a batch; several may be under way, and are done in this order.

        The future raises `transfer_plugins.object_store.TransferError` if a delta cannot be
        read. One that is gone is left out.
        """
        self._remaining_few -= len(keys)
        if self._remaining_few < 0 and self._process is None:
            self._process = ReadingProcess.for_store(self._store, self._predictions, self._threads)
        if self._remaining_few < 0 and self._process is not None:
            return self._process.prepare(keys)
        return self._ahead.submit(
            prepare, self._store, list(keys), self._predictions, self._threads, self._note_part
        )

    def _note_part(self) -> None:
        self._n_parts += 1

    def load(self, keys: Sequence[str]) -> list[GoodDelta]:
        """Read deltas again as objects, in the order of their attempt ids.

        For the careful way. One that is gone, or no longer good, is left out.
        """
        read = read_whole(self._store, keys, self._predictions, self._threads)
        return in_order(read.good)
