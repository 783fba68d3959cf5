# SPDX-License-Identifier: BSD-3-Clause
"""The log of a task: streamed through the wrapper, compressed, and never larger than a cap."""

import os
import zlib
from collections import deque
from pathlib import Path

HEAD_BYTES = 16 * 1024 * 1024
"""What is kept of the beginning of a log, before compression."""
TAIL_BYTES = 1024 * 1024
"""What is kept of the end of a log that is longer than that."""

_GZIP = 31
"""zlib's window bits for a gzip frame."""


def whole_log(text: bytes) -> bytes:
    """Return the file of a log that is written at once."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return compressor.compress(text) + compressor.flush()


class TaskLog:
    """A gzip file that takes the output of a task as it comes.

    A log of any length ends with the same two pieces: its first 16 MiB and its last 1 MiB, with a
    line between them that says how much was left out. A full disk does not stop the task: what
    cannot be written is counted as left out.
    """

    def __init__(self, path: Path) -> None:
        self.total_bytes = 0
        self.written_bytes = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._gzip = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._is_full = False

    def write(self, chunk: bytes) -> None:
        """Take the next piece of output."""
        room = max(0, HEAD_BYTES - self.total_bytes)
        self.total_bytes += len(chunk)
        self._put(self._gzip.compress(chunk[:room]) if room else b"")
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())

    def flush(self) -> None:
        """Let a reader of the file see what has come so far."""
        self._put(self._gzip.flush(zlib.Z_SYNC_FLUSH))

    def end(self, n_bytes: int) -> bytes:
        """Return the last bytes of the output, at most 1 MiB."""
        return b"".join(self._tail)[-n_bytes:]

    def close(self) -> None:
        """Write the end of a log that is over its cap, and close the file."""
        beyond = self.total_bytes - HEAD_BYTES
        if beyond > 0:
            tail = self.end(min(beyond, TAIL_BYTES))
            left_out = beyond - len(tail)
            if left_out:
                tail = b"\n[quantum-exec: %d bytes of the log left out]\n" % left_out + tail
            self._put(self._gzip.compress(tail))
        self._put(self._gzip.flush())
        os.close(self._fd)

    def _put(self, compressed: bytes) -> None:
        if not compressed or self._is_full:
            return
        try:
            self.written_bytes += os.write(self._fd, compressed)
        except OSError:
            # The disk is full; the rest of a gzip stream with a hole in it could not be read.
            self._is_full = True
