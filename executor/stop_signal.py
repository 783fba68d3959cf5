# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM and SIGINT: taken for a while; during an attempt noted, and passed on to the task."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def taking_stop_signals(action: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call a function for SIGTERM and SIGINT while entered; afterwards all is as before."""
    old = {number: signal.signal(number, action) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


class StopSignal:
    """Takes note of SIGTERM or SIGINT while it is entered and passes it on to the task.

    It is entered before the private registry is made, so that no moment of an attempt is without
    it; a signal that came before the task began keeps it from being started.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.received_at = 0.0
        """When the first signal came, by the monotonic clock."""
        self._group: int | None = None
        self._old: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._old[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for number, action in self._old.items():
            signal.signal(number, action)  # type: ignore[arg-type]

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received_at = time.monotonic()
        self.received = number
        outer = self._old.get(number)
        if callable(outer) and outer is not signal.default_int_handler:
            # Whoever runs several quanta must know, even if this one still succeeds.
            outer(number, frame)
        if self._group is not None:
            send_to_group(self._group, signal.SIGTERM)

    def watch(self, group: int | None) -> None:
        """Name the process group that the signal is for; None when there is none any more."""
        self._group = group
        if group is not None and self.received is not None:
            self._pass_on(self.received, None)


def send_to_group(group: int, number: int) -> None:
    """Send a signal to a process group that may be gone."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)
