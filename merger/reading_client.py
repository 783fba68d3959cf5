# SPDX-License-Identifier: BSD-3-Clause
"""This side of the reading process: started, asked, started again if it dies, ended."""

import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import IO, Any

from merger.archived_deltas import ArchivedDeltaStore
from merger.frames import FrameError, read_frame, write_frame
from merger.predictions import Predictions
from merger.prepared_batch import PreparedBatch
from merger.reading_errors import raised
from merger.reading_start import start, take
from registry.errors import QuantumExecError
from transfer_plugins.object_store import DirectoryObjectStore, ObjectStore
from transfer_plugins.s3_bulk_reading import BulkS3ObjectStore
from transfer_plugins.s3_object_store import S3ObjectStore

_STARTS = 3


class ReadingProcessError(QuantumExecError):
    """The process that reads deltas ended by itself, or met what it does not know."""

    error_type = "reading_process"


class ReadingProcess:
    """A process that prepares batches of a RUN's deltas, in the order in which it is asked.

    It sees its end where its input ends, and so does not outlive this process, however that
    ends. If it dies, it is started again, twice.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._waiting: deque[tuple[list[str], Future[PreparedBatch]]] = deque()
        self._n_starts = 0
        self.n_heard = 0
        """Frames that came so far; grows while there is progress."""
        self._is_closing = False
        self._error: ReadingProcessError | None = None
        self._child = self._start()
        self._receiver = threading.Thread(target=self._receive, name="reading", daemon=True)
        self._receiver.start()

    @classmethod
    def for_store(
        cls, store: ObjectStore, predictions: Predictions, threads: int | None
    ) -> "ReadingProcess | None":
        """Start the process; None if it could not open the same store by its URI."""
        # The other side looks for archives by itself.
        inner = store.inner if isinstance(store, ArchivedDeltaStore) else store
        if type(inner) not in (DirectoryObjectStore, S3ObjectStore, BulkS3ObjectStore):
            return None
        where = {"uri": store.uri, "endpoint_url": store.endpoint_url}
        # It must know the graphs that are known here, and no newer ones: what their deltas refer
        # to would not be ensured.
        told = {"run": predictions.run, "graphs": sorted(predictions.graphs)}
        return cls({**where, **told, "threads": threads})

    @property
    def pid(self) -> int:
        """Process id; another one after it was started again."""
        return self._child.pid

    def prepare(self, keys: Sequence[str]) -> "Future[PreparedBatch]":
        """Ask for a batch."""
        future: Future[PreparedBatch] = Future()
        with self._lock:
            if self._error is not None:
                future.set_exception(self._error)
                return future
            self._waiting.append((list(keys), future))
            # A process that died is noticed, and asked again, where its answers are read.
            with suppress(OSError):
                self._ask(self._waiting[-1][0])
        return future

    def close(self) -> None:
        """End the process; batches that it was asked for are cancelled."""
        with self._lock:
            self._is_closing = True
            with suppress(OSError):
                _pipe(self._child.stdin).close()
        # It only reads; and one that is stopped does not end by itself.
        self._child.kill()
        self._child.wait()
        self._receiver.join()
        _pipe(self._child.stdout).close()

    def _start(self) -> "subprocess.Popen[bytes]":
        self._n_starts += 1
        child = take() or start()
        with suppress(OSError):
            write_frame(_pipe(child.stdin), self._request)
        return child

    def _ask(self, keys: list[str]) -> None:
        write_frame(_pipe(self._child.stdin), {"keys": keys})

    def _receive(self) -> None:
        while True:
            try:
                frame = read_frame(_pipe(self._child.stdout))
            except (FrameError, OSError, ValueError):
                frame = None
            with self._lock:
                if self._is_closing:
                    break
                self.n_heard += 1
                if frame is not None and "alive" in frame[0]:
                    pass
                elif frame is not None and self._waiting:
                    self._deliver(*frame)
                elif not self._start_again():
                    return
        for _, future in self._waiting:
            future.cancel()

    def _deliver(self, header: dict[str, Any], buffers: list[bytearray]) -> None:
        _, future = self._waiting.popleft()
        if "error" in header:
            future.set_exception(raised(*header["error"]))
        else:
            future.set_result(PreparedBatch.from_frame(header, buffers))

    def _start_again(self) -> bool:
        """Start a process that died once more, or tell everybody who waits that it is dead."""
        status = self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with suppress(OSError):
                _pipe(pipe).close()
        if self._n_starts == _STARTS:
            how = f"exit code {status}" if status >= 0 else signal.Signals(-status).name
            self._error = ReadingProcessError(
                f"RUN {self._request['run']!r}: the process that reads deltas ended with {how}, "
                f"{_STARTS} times; what was merged before stays merged, merge again"
            )
            while self._waiting:
                self._waiting.popleft()[1].set_exception(self._error)
            return False
        self._child = self._start()
        with suppress(OSError):
            for keys, _ in self._waiting:
                self._ask(keys)
        return True


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
