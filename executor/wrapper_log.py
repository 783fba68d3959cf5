# SPDX-License-Identifier: BSD-3-Clause
"""The structured log of the wrapper: what it did, when, and with what; it travels in the delta."""

import datetime
import logging

from registry.delta import LogEntry

_log = logging.getLogger(__name__)


class WrapperLog:
    """Steps of one attempt, in seconds since its stage-in began."""

    def __init__(self, started: str) -> None:
        self.entries: list[LogEntry] = []
        self._started = datetime.datetime.fromisoformat(started)

    def add(self, event: str, **facts: object) -> None:
        """Note a step that was done; the facts are plain JSON values."""
        now = datetime.datetime.now(datetime.UTC)
        elapsed_s = round(max(0.0, (now - self._started).total_seconds()), 6)
        self.entries.append(LogEntry(elapsed_s, event, facts))
        told = " ".join(f"{name}={value}" for name, value in facts.items())
        _log.info("%s %s", event, told)
