# SPDX-License-Identifier: BSD-3-Clause
"""Processes of ours that stop themselves at a step, and all processes that a test has started."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.processes import wait_until

_HOOKS = Path(__file__).parent / "halting"
_MARK = "QUANTUM_EXEC_TEST"


@dataclass(frozen=True, slots=True)
class Halt:
    """Where a process stops: at the n-th audit event whose first arguments match a pattern.

    ``command`` is a word of its command line, as ``run`` or ``run-local``.
    """

    command: str
    event: str
    pattern: str
    number: int = 1

    def environment(self, marker: Path) -> dict[str, str]:
        """The variables that make it stop; the first process that does so writes the marker."""
        path = [str(_HOOKS), os.environ.get("PYTHONPATH", "")]
        return {
            "PYTHONPATH": os.pathsep.join(part for part in path if part),
            "HALT_COMMAND": self.command,
            "HALT_EVENT": self.event,
            "HALT_PATTERN": self.pattern,
            "HALT_NUMBER": str(self.number),
            "HALT_MARKER": str(marker),
        }


def mark(directory: Path) -> dict[str, str]:
    """The variable by which all descendants of a test's processes are found again."""
    return {_MARK: str(directory)}


def marked_processes(directory: Path) -> list[psutil.Process]:
    """The living processes that descend from those of a test, wherever they have gone."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get(_MARK) == str(directory)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # ended meanwhile, or of another user
            continue
    return found


def wait_halted(marker: Path) -> int:
    """Wait until a process has stopped itself; returns its id."""
    wait_until(marker.exists, f"there is {marker}")
    pid = int(marker.read_text())
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, f"{pid} is stopped")
    return pid


def wait_pending(pid: int, number: int) -> None:
    """Wait until a stopped process has a signal to take."""

    def is_pending() -> bool:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        pending = next(line for line in lines if line.startswith("ShdPnd:"))
        return bool(int(pending.split()[1], 16) >> number - 1 & 1)

    wait_until(is_pending, f"{signal.Signals(number).name} waits for {pid}")


def go_on(pid: int) -> None:
    """Let a stopped process go on."""
    os.kill(pid, signal.SIGCONT)
