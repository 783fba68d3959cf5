# SPDX-License-Identifier: BSD-3-Clause
"""How long a job has from the signal that stops it until HTCondor kills it."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress

_DEFAULT_S = 45.0
_SHORTEST_S = 2.0
_LONGEST_TASK_S = 20.0
# What must be over before the kill: the last answer of the S3 service, and our own end.
_RESERVE_SHARE = 0.2
_LARGEST_RESERVE_S = 10.0

# Each is an integer, or an expression that we do not evaluate.
_IN_AD = re.compile(r"^(?:Job|Machine)MaxVacateTime\s*=\s*(\d+)\s*$", re.MULTILINE | re.IGNORECASE)


def seconds_to_stop(environment: Mapping[str, str]) -> float:
    """Seconds that a stopped job may use: the less of what job and slot allow, less a reserve.

    45 s if neither says it in the ads that HTCondor puts beside the job.
    """
    allowed: list[int] = []
    for name in ("_CONDOR_JOB_AD", "_CONDOR_MACHINE_AD"):
        with suppress(KeyError, OSError):
            with open(environment[name], encoding="utf-8", errors="replace") as file:
                allowed += [int(value) for value in _IN_AD.findall(file.read())]
    if not allowed:
        return _DEFAULT_S
    reserve = min(_LARGEST_RESERVE_S, _RESERVE_SHARE * min(allowed))
    return max(_SHORTEST_S, min(allowed) - reserve)


def seconds_for_task() -> float:
    """Seconds that a stopped task has to end by itself: the rest is for what is to be uploaded."""
    return min(_LONGEST_TASK_S, seconds_to_stop(os.environ) / 2)
