# SPDX-License-Identifier: BSD-3-Clause
"""Attempts: ids that are unique and ordered in time, and what an attempt can end as."""

import datetime
import enum
import os
import time


class AttemptStatus(enum.StrEnum):
    """What an attempt ended as; names as in LSST's ``QuantumAttemptStatus``."""

    SUCCESSFUL = "successful"
    """The task ended well and every required output was found and recorded."""
    FAILED = "failed"
    """The task, or the check of its outputs, ended with an error."""
    ABORTED = "aborted"
    """The attempt was told to stop (SIGTERM) before the task ended."""


# 48 bits, in the year 10889. An id of junk in the bucket must not make the next one begin anew.
_LAST_MILLISECOND = (1 << 48) - 1


def new_attempt_id(*, after: str | None = None) -> str:
    """Make an attempt id: a UUIDv7 (RFC 9562 section 5.7), its time in milliseconds first.

    Parameters
    ----------
    after
        The newest attempt id known of this quantum. The new one sorts behind it even when this
        machine's clock is slow, because of several successful attempts the highest id counts.
    """
    milliseconds = time.time_ns() // 1_000_000
    if after is not None:
        milliseconds = min(max(milliseconds, attempt_milliseconds(after) + 1), _LAST_MILLISECOND)
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def attempt_milliseconds(attempt_id: str) -> int:
    """Milliseconds since 1970 at which an attempt id was made, by the clock of its worker."""
    return int(attempt_id.replace("-", "")[:12], 16)


def short_attempt(attempt_id: str) -> str:
    """The form of an attempt id that output keys carry: its time and 32 random bits, 20 digits."""
    digits = attempt_id.replace("-", "")
    return digits[:12] + digits[-8:]


def utc_now() -> str:
    """The time in UTC, ISO 8601 with microseconds, as deltas have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
