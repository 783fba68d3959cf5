# SPDX-License-Identifier: BSD-3-Clause
"""What a task uses while it runs, and whether that is more than its quantum asked for."""

import os
import re
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from executor import process_tree
from executor.exit_codes import ExitCode
from executor.sandbox_files import RESERVE_FILE
from registry.job import ResourceRequest

_MIB = 1024 * 1024
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
# Walking a sandbox of 100,000 files takes a second, so it is not walked all the time.
_SCRATCH_SHARE = 20
# A task that is killed so near its limit was killed for it; samples see less than the peak.
_NEAR = 0.9
WALL_TIME_ATTRIBUTE = "QuantumExecWallTime"
_WALL_TIME = re.compile(rf"^{WALL_TIME_ATTRIBUTE}\s*=\s*(\d+)\s*$", re.MULTILINE | re.IGNORECASE)
WALL_TIMES_ATTRIBUTE = "QuantumExecWallTimes"
"""Of the tasks of a cluster, as ``isr=600 fit=1200``."""
_WALL_TIMES = re.compile(
    rf'^{WALL_TIMES_ATTRIBUTE}\s*=\s*"((?:[^\s="]+=\d+ ?)*)"\s*$', re.MULTILINE | re.IGNORECASE
)
# A wrapper lives as long as its job runs, and imports this when it begins.
_BEGUN = time.monotonic()
_OVER_MEMORY = re.compile(r"memory: expected at most (\d+|any) MiB")
_CGROUPS = Path("/sys/fs/cgroup")
GRANTED = re.compile(r"^(Memory|Disk)\s*=\s*(\d+)\s*$", re.MULTILINE | re.IGNORECASE)


def limits_here(
    request: ResourceRequest, environment: Mapping[str, str], *, member: str | None = None
) -> ResourceRequest:
    """What a task must not exceed on this worker: what it asked for, or what it was given.

    The wall time of the submit configuration goes before that of the graph. ``member`` is the task
    label of a quantum of a cluster: it has its own, or what is left of that of the job. A task that
    the wrapper ends has a log and a delta; a job that the pool ends has not.

    A job may get more than its quantum asked for: by the submit configuration, or because a retry
    asks for more. HTCondor tells in the ad of the slot (``Memory`` in MiB, ``Disk`` in KiB). Of
    memory what was granted is a limit also for a quantum that asked for none: a pool without
    cgroups enforces nothing, and one job would take the memory of all others on its machine.
    """
    wall_s = _wall_s_here(request.wall_s, environment, member)
    request = replace(request, wall_s=wall_s)
    text = read_ad(environment, "_CONDOR_MACHINE_AD")
    if text is None:
        return request
    granted = {name.lower(): int(value) for name, value in GRANTED.findall(text)}
    return replace(
        request,
        memory_mib=max(request.memory_mib or 0, granted.get("memory", 0)) or None,
        scratch_mib=_larger(request.scratch_mib, granted.get("disk", 0) // 1024),
    )


def _wall_s_here(
    asked: float | None, environment: Mapping[str, str], member: str | None
) -> float | None:
    ad = read_ad(environment, "_CONDOR_JOB_AD") or ""
    told = _WALL_TIME.search(ad)
    allowed = float(told[1]) if told else None
    if member is None:
        return asked if allowed is None else allowed
    found = _WALL_TIMES.search(ad)
    own = dict(pair.split("=") for pair in found[1].split()) if found else {}
    asked = float(own[member]) if member in own else asked
    if allowed is None:
        return asked
    left = round(max(0.0, allowed - (time.monotonic() - _BEGUN)), 1)
    return left if asked is None else min(asked, left)


def read_ad(environment: Mapping[str, str], variable: str) -> str | None:
    """Read an ad that HTCondor puts beside the job, if there is one."""
    try:
        with open(environment[variable], encoding="utf-8", errors="replace") as file:
            return file.read()
    except (KeyError, OSError):
        return None


def _larger(asked: int | None, granted: int) -> int | None:
    return None if asked is None else max(asked, granted)


def allowed_memory_mib(error: str | None) -> int | None:
    """MiB that an attempt was allowed which went over its memory, by the error of its delta.

    0 if there was no limit but that of the machine; None if it ended in another way. Of exit code
    and signal a delta has those of the task.
    """
    found = _OVER_MEMORY.match(error or "")
    if found is None:
        return None
    return 0 if found[1] == "any" else int(found[1])


@dataclass(frozen=True, slots=True)
class OverLimit:
    """A limit that a task went over: the exit code for it, and what to tell."""

    code: ExitCode
    message: str


def oom_kills(root: Path = _CGROUPS) -> int:
    """How many processes of our control group the kernel has killed for want of memory."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        group = next(line[3:] for line in lines if line.startswith("0::"))
        for line in (root / group.lstrip("/") / "memory.events").read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return 0


def scratch_bytes(sandbox: Path) -> int:
    """Bytes of disk that a sandbox takes, as du(1) counts; a file with several links once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for directory, _, files in os.walk(sandbox):
        for name in (*files, "."):
            if name == RESERVE_FILE:
                continue
            with suppress(OSError):
                found = os.lstat(f"{directory}/{name}")
                identity = (found.st_dev, found.st_ino)
                if found.st_nlink == 1 or identity not in seen:
                    seen.add(identity)
                    total += found.st_blocks * 512
    return total


class Watch:
    """Samples what a task uses; a sample is taken after 20 ms, then ever less often, to 1 s."""

    def __init__(self, request: ResourceRequest, sandbox: Path, cgroups: Path = _CGROUPS) -> None:
        self.max_rss_bytes = 0
        self.max_scratch_bytes = 0
        self._cgroups = cgroups
        self._oom_kills = oom_kills(cgroups)
        self._request = request
        self._sandbox = sandbox
        self._started = time.monotonic()
        self._next = self._started + _FIRST_PAUSE_S
        self._pause = _FIRST_PAUSE_S
        self._next_scratch = self._started

    def due_in_s(self) -> float:
        """Seconds until the next sample is to be taken."""
        due = self._next
        if self._request.wall_s is not None:
            due = min(due, self._started + self._request.wall_s)
        return max(0.0, due - time.monotonic())

    def sample(self, pids: Collection[int]) -> OverLimit | None:
        """Measure the processes and the sandbox; tells the first limit that is exceeded."""
        now = time.monotonic()
        self._pause = min(1.5 * self._pause, _LONGEST_PAUSE_S)
        self._next = now + self._pause
        return self._over_wall(now) or self._over_memory(pids) or self._over_scratch(now)

    def _over_wall(self, now: float) -> OverLimit | None:
        asked = self._request.wall_s
        if asked is None or now - self._started < asked:
            return None
        return OverLimit(
            ExitCode.OVER_WALL_TIME,
            f"wall time: expected at most {asked:g} s, as asked for; found the task still running",
        )

    def _over_memory(self, pids: Collection[int]) -> OverLimit | None:
        found = process_tree.rss_bytes(pids)
        self.max_rss_bytes = max(self.max_rss_bytes, found)
        asked = self._request.memory_mib
        if asked is None or found <= asked * _MIB:
            return None
        if len(pids) > 1:
            # Forked workers share most of their memory, which the sum counts for each.
            found = process_tree.pss_bytes(pids)
        if found <= asked * _MIB:
            return None
        return OverLimit(
            ExitCode.OVER_MEMORY,
            f"memory: expected at most {asked} MiB, as asked for or granted; found "
            f"{found / _MIB:.0f} MiB in {len(pids)} processes; on a pool the next try asks for "
            "more, up to requestMemoryMax",
        )

    def killed_for_memory(self, max_rss_bytes: int) -> OverLimit | None:
        """Tell whether a task that SIGKILL ended was killed for its memory, as far as one can."""
        asked = self._request.memory_mib
        by_kernel = oom_kills(self._cgroups) > self._oom_kills
        is_near = asked is not None and max_rss_bytes >= _NEAR * asked * _MIB
        if not by_kernel and not is_near:
            return None
        who = "the kernel, for want of memory" if by_kernel else "SIGKILL, near its limit of memory"
        return OverLimit(
            ExitCode.OVER_MEMORY,
            f"memory: expected at most {asked or 'any'} MiB, found {max_rss_bytes / _MIB:.0f} MiB "
            f"when the task was killed by {who}; on a pool the next try asks for more, up to "
            "requestMemoryMax",
        )

    def _over_scratch(self, now: float) -> OverLimit | None:
        if now < self._next_scratch:
            return None
        self.measure_scratch()
        self._next_scratch = now + _SCRATCH_SHARE * (time.monotonic() - now)
        asked = self._request.scratch_mib
        if asked is None or self.max_scratch_bytes <= asked * _MIB:
            return None
        return OverLimit(
            ExitCode.OVER_SCRATCH,
            f"scratch space: expected at most {asked} MiB, as asked for or granted; found "
            f"{self.max_scratch_bytes / _MIB:.0f} MiB in the sandbox",
        )

    def measure_scratch(self) -> None:
        """Take the size of the sandbox now."""
        self.max_scratch_bytes = max(self.max_scratch_bytes, scratch_bytes(self._sandbox))
