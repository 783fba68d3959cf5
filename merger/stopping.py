# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM and SIGINT: the first lets what is under way be finished, the second ends at once."""

import os
import select
import signal
from contextlib import suppress
from types import FrameType, TracebackType

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Takes note of the first signal while it is entered; afterwards all is as before.

    Attributes
    ----------
    received
        Number of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._old: dict[int, object] = {}
        # What a signal wakes is a pipe: an Event may be locked when the signal comes.
        self._awake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def __bool__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """What a shell would say of a process that the signal has ended; 0 if there was none."""
        return 0 if self.received is None else 128 + self.received

    def __enter__(self) -> "StopRequest":
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
        os.close(self._awake)
        os.close(self._waker)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            # Whatever is not committed now is as if it had not been begun.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        with suppress(BlockingIOError):
            os.write(self._waker, b"!")

    def wait(self, seconds: float) -> bool:
        """Wait until a signal comes or time is up; returns whether one has come."""
        if self.received is None:
            select.select([self._awake], [], [], seconds)
        return self.received is not None
