# SPDX-License-Identifier: BSD-3-Clause
"""The guardian: a process that ends a task whose wrapper was killed.

SIGKILL gives a wrapper no chance to end its task, and Linux's signal on a parent's death reaches
only the child itself, not what that child started. On HTCondor the starter ends the family; a
local run has only this. It costs one fork, about a millisecond.
"""

import os
import signal
import time
import warnings
from contextlib import suppress

from executor import process_tree

_DONE = b"done"
# A process that is being started when the others are killed appears a little later.
_ROUNDS = 20
_ROUND_S = 0.02


class Guardian:
    """Watches over one task while it is entered; must be made before the wrapper has threads.

    Parameters
    ----------
    marker
        An entry of the task's environment, ``NAME=value``, by which its processes are known.
    """

    def __init__(self, marker: str) -> None:
        self._marker = marker.encode()

    def __enter__(self) -> "Guardian":
        read_end, self._write_end = os.pipe()
        with warnings.catch_warnings():
            # A program of threads that calls us: the child below uses system calls only.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._write_end)
            _watch(read_end, self._marker)
        os.close(read_end)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with suppress(BrokenPipeError):
            os.write(self._write_end, _DONE)
        os.close(self._write_end)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _watch(read_end: int, marker: bytes) -> None:
    """Wait for the end of the wrapper; never returns."""
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # Whoever waits for the wrapper's pipes to close must not wait for this process.
        os.closerange(0, read_end)
        os.closerange(read_end + 1, os.sysconf("SC_OPEN_MAX"))
        if os.read(read_end, len(_DONE)) != _DONE:
            for _ in range(_ROUNDS):
                process_tree.end_marked(marker)
                time.sleep(_ROUND_S)
    finally:
        os._exit(0)
