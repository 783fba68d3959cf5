# SPDX-License-Identifier: BSD-3-Clause
"""Orphans of wrappers that were killed: adopted by the runner, known as such, and ended.

A wrapper ends what its task left, and its guardian does so when the wrapper is killed. The runner
is the last to see to it: as a subreaper it becomes the parent of whatever outlives a wrapper.
Others in this process may have children of their own, so only those are touched that carry the
mark of an attempt, work in the runner's sandboxes, or share a session with one that does.
"""

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from executor.parent_death import being_subreaper
from executor.process_tree import children_of

_MARK = b"QUANTUM_EXEC_ATTEMPT_ID="
_PATIENCE_S = 10.0
_POLL_S = 0.005

Held = Callable[[], AbstractContextManager[Collection[int]]]
"""Gives the process ids of all wrappers; none is started while it is entered."""


@contextmanager
def adopting_orphans(wrappers: Held, sandboxes: Path) -> Iterator[Callable[[], int]]:
    """Be the parent of what outlives a wrapper; at the end all of that is killed.

    Yields
    ------
    function
        Kills the orphans that are there now; returns how many.
    """
    # What this process was started by may itself be a task: then every child carries its mark.
    inherited = os.environ.get("QUANTUM_EXEC_ATTEMPT_ID", "").encode()

    def end() -> int:
        with wrappers() as pids:
            return end_orphans(pids, sandboxes, inherited)

    with being_subreaper():
        try:
            yield end
        finally:
            end()


def end_orphans(wrappers: Collection[int], sandboxes: Path, inherited: bytes = b"") -> int:
    """Kill the orphans of wrappers among the children of this process, and what these leave.

    Parameters
    ----------
    wrappers
        Children that are not to be touched.
    sandboxes
        Directory in which wrappers work.
    inherited
        Attempt whose mark does not tell an orphan.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        found = _orphans(wrappers, sandboxes, inherited)
        if not found:
            break
        for pid in found - killed:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        if not [pid for pid in found if _reap(pid)]:
            time.sleep(_POLL_S)
    return len(killed)


def _orphans(wrappers: Collection[int], sandboxes: Path, inherited: bytes) -> set[int]:
    children = {pid for pid in children_of(os.getpid()) if pid not in wrappers}
    found = {pid for pid in children if _is_of_attempt(pid, sandboxes, inherited)}
    ours = os.getsid(0)
    sessions = {session for pid in found if (session := _session(pid)) not in (None, ours)}
    return found | {pid for pid in children if _session(pid) in sessions}


def _is_of_attempt(pid: int, sandboxes: Path, inherited: bytes) -> bool:
    with suppress(OSError):
        with open(f"/proc/{pid}/environ", "rb") as file:
            marks = [e[len(_MARK) :] for e in file.read().split(b"\0") if e.startswith(_MARK)]
        if any(mark != inherited for mark in marks):
            return True
    with suppress(OSError):
        # A directory that is gone is shown with a note behind it.
        return Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(sandboxes)
    return False


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
