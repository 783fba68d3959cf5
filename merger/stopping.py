# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM and SIGINT: the first lets what is under way be finished, the second ends at once."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType

GRACE_S = 8.0
"""How long what is under way may take to end: batch systems kill after ten seconds or more."""

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Takes note of the first signal while it is entered; afterwards all is as before.

    Parameters
    ----------
    on_stop
        Called once, in a thread of its own, when a signal came.
    on_late
        Called in that thread if what is under way has not ended some seconds later.

    Attributes
    ----------
    received
        Number of the signal, or None.
    event
        Set when a signal came. Not by the signal itself, which may find the event locked by what
        it interrupts, but by a thread that it wakes through a pipe.
    """

    def __init__(
        self,
        on_stop: Callable[[], None] = lambda: None,
        on_late: Callable[[], None] = lambda: None,
    ) -> None:
        self.received: int | None = None
        self.on_stop, self.on_late = on_stop, on_late
        self.event = threading.Event()
        self._old: dict[int, object] = {}
        self._awake, self._waker = -1, -1
        self._watch: threading.Thread | None = None
        self._is_over = threading.Event()

    def __bool__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """What a shell would say of a process that the signal has ended; 0 if there was none."""
        return 0 if self.received is None else 128 + self.received

    def __enter__(self) -> "StopRequest":
        self._awake, self._waker = os.pipe()
        self._watch = threading.Thread(target=self._wait_for_signal, name="stop", daemon=True)
        self._watch.start()
        for number in _NUMBERS:
            self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, action in self._old.items():
            signal.signal(number, action)  # type: ignore[arg-type]
        os.close(self._waker)
        self._is_over.set()
        if self._watch is not None:
            self._watch.join()
        os.close(self._awake)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            # Whatever is not committed now is as if it had not been begun.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        with suppress(OSError):
            os.write(self._waker, b"!")

    def _wait_for_signal(self) -> None:
        if os.read(self._awake, 1):
            self.event.set()
            self.on_stop()
            if not self._is_over.wait(GRACE_S):
                self.on_late()

    def wait(self, seconds: float) -> bool:
        """Wait until a signal comes or time is up; returns whether one has come."""
        return self.event.wait(seconds)
