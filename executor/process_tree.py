# SPDX-License-Identifier: BSD-3-Clause
"""The processes of a task, wherever they went: found, measured and ended.

The wrapper is a subreaper (`executor.parent_death`), so that a daemon whose parent ended becomes
its child and not one of init.
"""

import os
import resource
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_REAP_PATIENCE_S = 10.0
_REAP_POLL_S = 0.005


def children_of(pid: int) -> list[int]:
    """The children of a process, those of all its threads; none if it is gone."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                found += [int(word) for word in file.read(1 << 20).split()]
        except FileNotFoundError:
            if os.path.exists(f"/proc/{pid}/task/{thread}/stat"):
                return _children_by_parent(pid)
        except OSError:
            continue
    return found


def _children_by_parent(parent: int) -> list[int]:
    """The same on a kernel without CONFIG_PROC_CHILDREN."""
    return [pid for pid in all_processes() if _parent_of(pid) == parent]


def all_processes() -> Iterator[int]:
    """Give every process that this one can see."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def _parent_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # The name, in parentheses, may hold anything.
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def descendants_of(pid: int, without: Collection[int] = ()) -> list[int]:
    """All processes below one, nearest first; those in ``without`` are not followed."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = [child for child in children_of(waiting.pop()) if child not in without]
        found += below
        waiting += below
    return found


def rss_bytes(pids: Collection[int]) -> int:
    """Sum of the resident memory of processes, shared pages counted once for each."""
    total = 0
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            total += int(file.read().split()[1]) * _PAGE_BYTES
    return total


def pss_bytes(pids: Collection[int]) -> int:
    """Sum of the proportional memory of processes: every shared page counted once in all.

    Slower than `rss_bytes`, as the kernel walks the pages; the RSS where it is not to be had.
    """
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                found = [line for line in file if line.startswith(b"Pss:")]
            total += int(found[0].split()[1]) * 1024
        except (OSError, IndexError):
            total += rss_bytes([pid])
    return total


@dataclass(frozen=True, slots=True)
class Reaped:
    """Processes that were ended after the task: how many, and what they had used."""

    n_processes: int
    cpu_user_s: float
    cpu_system_s: float
    max_rss_bytes: int


def end_descendants(without: Collection[int]) -> Reaped:
    """Kill all descendants of this process and take their status, except some children.

    Waits at most 10 s for processes that the kernel does not let go (a dead network file system).
    """
    patience = time.monotonic() + _REAP_PATIENCE_S
    killed: set[int] = set()
    used: list[resource.struct_rusage] = []
    while (left := descendants_of(os.getpid(), without)) and time.monotonic() < patience:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(left)
        if not _reap(without, used):
            time.sleep(_REAP_POLL_S)
    return Reaped(
        len(killed),
        sum(u.ru_utime for u in used),
        sum(u.ru_stime for u in used),
        # Linux gives ru_maxrss in KiB (getrusage(2)).
        max((u.ru_maxrss * 1024 for u in used), default=0),
    )


def _reap(without: Collection[int], used: list[resource.struct_rusage]) -> bool:
    n_before = len(used)
    for pid in children_of(os.getpid()):
        if pid not in without:
            with suppress(ChildProcessError):
                found, _, usage = os.wait4(pid, os.WNOHANG)
                if found:
                    used.append(usage)
    return len(used) > n_before


def end_marked(marker: bytes) -> int:
    """Kill every process of this user whose environment holds a marker; returns how many.

    For one who is not their ancestor: after the wrapper's death its orphans belong to others.
    """
    n_killed = 0
    for pid in all_processes():
        if pid == os.getpid():
            continue
        with suppress(OSError):
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_marked = marker in file.read().split(b"\0")
            if is_marked:
                os.kill(pid, signal.SIGKILL)
                n_killed += 1
    return n_killed


def io_bytes() -> tuple[int, int]:
    """Bytes that this process and its children that ended read and wrote by system calls.

    rchar and wchar of proc(5); (0, 0) where the kernel does not count them.
    """
    try:
        with open("/proc/self/io", "rb", buffering=0) as file:
            lines = dict(line.split(b": ") for line in file.read().splitlines())
        return int(lines[b"rchar"]), int(lines[b"wchar"])
    except (OSError, KeyError, ValueError):
        return 0, 0
