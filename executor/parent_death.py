# SPDX-License-Identifier: BSD-3-Clause
"""What Linux does when a parent process ends (prctl(2)), so that nothing is left running."""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask for a signal when the parent's thread ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


@contextmanager
def being_subreaper() -> Iterator[None]:
    """Be the parent of every descendant whose own parent ends, instead of init, while entered."""
    before = is_subreaper()
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(before), 0, 0, 0)


def is_subreaper() -> bool:
    """Whether this process is a subreaper."""
    found = ctypes.c_int()
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return bool(found.value)
