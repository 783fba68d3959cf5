# SPDX-License-Identifier: BSD-3-Clause
"""The states of jobs, and how many were in each in the course of time."""

import enum
from collections import Counter, deque
from dataclasses import dataclass, field

_MOST_SAMPLES = 2000
_RECENT_S = 900.0


class JobState(enum.StrEnum):
    """A job, and so its quanta, in the words of ``bps report``."""

    UNREADY = "UNREADY"
    """A parent is not done."""
    READY = "READY"
    """DAGMan may submit it; also after a failure, when it will be tried again."""
    PENDING = "PENDING"
    """In the queue, without a machine."""
    RUNNING = "RUNNING"
    """On a machine: staging in, computing or staging out."""
    HELD = "HELD"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    """Ended with an error, and no try is left."""
    PRUNED = "PRUNED"
    """Never to be run: a parent failed."""
    DELETED = "DELETED"
    """Removed by a person or with its DAG."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Jobs by state at a time, in seconds since 1970."""

    time_s: float
    counts: dict[JobState, int]


@dataclass
class StateSeries:
    """Jobs by state over time, in at most 2,000 samples however long a run lasts.

    When there are more, every second one is left out and those that follow are as far apart.
    """

    counts: Counter[JobState] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    _step_s: float = 1.0
    _recent_ends: deque[float] = field(default_factory=deque)
    _first_s: float | None = None

    def change(self, before: JobState | None, after: JobState, time_s: float) -> None:
        """A job went from one state, if it had any, to another one."""
        if before is not None:
            self.counts[before] -= 1
        self.counts[after] += 1
        self._first_s = time_s if self._first_s is None else self._first_s
        if after is JobState.SUCCEEDED:
            self._recent_ends.append(time_s)
            while self._recent_ends[0] < time_s - _RECENT_S:
                self._recent_ends.popleft()
        sample = Sample(time_s, dict(self.counts))
        if self.samples and time_s - self.samples[-1].time_s < self._step_s:
            self.samples[-1] = Sample(self.samples[-1].time_s, sample.counts)
            return
        self.samples.append(sample)
        if len(self.samples) > _MOST_SAMPLES:
            self.samples = self.samples[::2]
            self._step_s *= 2

    def rate(self, now_s: float) -> float | None:
        """Jobs that ended well per second in the last 15 minutes; None if none did."""
        if self._first_s is None:
            return None
        n_recent = sum(end > now_s - _RECENT_S for end in self._recent_ends)
        seconds = min(_RECENT_S, now_s - self._first_s)
        return n_recent / seconds if n_recent and seconds > 0 else None
