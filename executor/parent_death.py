# SPDX-License-Identifier: BSD-3-Clause
"""Ending with the parent process, so that a killed wrapper or runner leaves nothing running."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask Linux for a signal when the parent's thread ends (prctl(2), PR_SET_PDEATHSIG)."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
