# SPDX-License-Identifier: BSD-3-Clause
"""Waiting for conditions, and looking at the processes that a test started."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil


def wait_until(condition: Callable[[], object], what: str, *, timeout_s: float = 30) -> None:
    """Ask until a condition is true.

    Raises
    ------
    AssertionError
        If time is up.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s still not true: {what}")
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Whether a process has ended, even if nobody has asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processes_in(directory: Path) -> list[psutil.Process]:
    """The living processes whose command line or working directory names a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [process.cwd(), *process.cmdline()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(directory) in w for w in words):
                found.append(process)
        except psutil.Error:  # ended meanwhile, or of another user
            continue
    return found
