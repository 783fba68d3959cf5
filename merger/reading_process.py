# SPDX-License-Identifier: BSD-3-Clause
"""The reading process: ``python -m merger.reading_process``, started by a merge.

It is told a datastore and a RUN in the first frame on its standard input, and keys of deltas in
every further one; on standard output it answers each with a batch or an error, and tells now and
then that it is alive. Credentials come by the environment. It ends with its input, and so with the
process that started it.
"""

import gc
import importlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

from merger.frames import FrameError, read_frame, write_frame
from merger.reading_errors import told

Requests = queue.SimpleQueue[dict[str, Any]]


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing here has cycles; the collector would walk through every delta.
    gc.disable()
    answers = os.fdopen(os.dup(1), "wb")
    # What a library prints must not come between frames.
    os.dup2(2, 1)
    requests: Requests = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    # Late, so that it is listening before it knows all this; and before anything is asked of it.
    importlib.import_module("merger.prepared_batch")
    try:
        answer_all(requests, answers)
    except BrokenPipeError:
        # Who asked was killed; that is also seen where the input ends, but maybe later.
        os._exit(0)


def _listen(file: IO[bytes], requests: Requests) -> None:
    """Take requests as they come, so that who asks need not wait; end with the input."""
    try:
        while (frame := read_frame(file)) is not None:
            requests.put(frame[0])
    except (FrameError, OSError):
        pass
    finally:
        # At once, whatever is being read: nobody waits for it any more.
        os._exit(0)


def answer_all(requests: Requests, answers: IO[bytes]) -> None:
    """Answer requests in their order, for ever."""
    reader = _Reader(requests.get())
    while True:
        keys = requests.get()["keys"]
        try:
            header, buffers = reader.prepare(keys, lambda: write_frame(answers, {"alive": True}))
        except Exception as error:
            header, buffers = {"error": told(error)}, []
        write_frame(answers, header, buffers)


class _Reader:
    """Opens the datastore and reads the predictions when first asked."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._opened: Any = None

    def prepare(self, keys: list[str], on_part: Callable[[], None]) -> Any:
        # Late: see main.
        from merger.archived_deltas import with_archives
        from merger.predictions import read_predictions
        from merger.prepared_batch import prepare
        from transfer_plugins.object_store import open_store
        from transfer_plugins.s3_bulk_reading import for_bulk_reading

        if self._opened is None:
            store = for_bulk_reading(
                open_store(self._request["uri"], endpoint_url=self._request["endpoint_url"])
            )
            run, graphs = self._request["run"], self._request["graphs"]
            predictions = read_predictions(store, run, only=graphs)
            self._opened = with_archives(store, run), predictions
        store, predictions = self._opened
        return prepare(store, keys, predictions, self._request["threads"], on_part).frame()


if __name__ == "__main__":
    main()
