# SPDX-License-Identifier: BSD-3-Clause
"""CPU time of the daemons of a pool while something is done on it."""

import threading
from collections import defaultdict
from types import TracebackType
from typing import Self

import psutil

from tests.fix_pool import PersonalPool

_LOOK_S = 0.2


class DaemonLoad:
    """Seconds of CPU by program name, of what runs between entering and leaving."""

    def __init__(self, pool: PersonalPool) -> None:
        self._pool = pool
        self._begin: dict[tuple[int, float], float] = {}
        self._last: dict[tuple[int, float], tuple[str, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._look()
        self._begin = {key: seconds for key, (_, seconds) in self._last.items()}
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def seconds(self) -> dict[str, float]:
        """CPU seconds, user and system, by program."""
        found: dict[str, float] = defaultdict(float)
        for key, (name, seconds) in self._last.items():
            found[name] += seconds - self._begin.get(key, 0.0)
        return {name: round(total, 1) for name, total in sorted(found.items()) if total >= 0.1}

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self._look()

    def _look(self) -> None:
        for process in self._pool.processes():
            try:
                times = process.cpu_times()
                key = (process.pid, process.create_time())
                self._last[key] = (process.name(), times.user + times.system)
            except psutil.Error:  # ended meanwhile
                continue
