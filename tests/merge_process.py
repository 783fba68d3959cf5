# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge`` as a process of its own, that can be stopped and killed."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

from tests.processes import wait_until


class MergeProcess:
    """A command that was started; ends with the test at the latest."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.arguments = arguments
        self.process = subprocess.Popen(
            [sys.executable, "-m", "merger.cli", *arguments],
            env={**os.environ, "COLUMNS": "80", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "MergeProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, timeout_s: float = 120) -> tuple[int, str, str]:
        """Wait for the end; returns exit code, standard output and standard error."""
        stdout, stderr = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, stdout, stderr

    def report(self) -> dict[str, Any]:
        """Wait for the end of a command with --json; returns what its last line says."""
        code, stdout, stderr = self.end()
        assert stdout, f"exit code {code}: {stderr}"
        read: dict[str, Any] = json.loads(stdout.splitlines()[-1])
        assert read["exit_code"] == code, stderr
        return read

    def wait_for_message(self, text: str) -> str:
        """Read standard error up to a line with a text; returns that line."""
        assert self.process.stderr is not None
        found: list[str] = []

        def has_come() -> bool:
            assert self.process.stderr is not None
            found.append(self.process.stderr.readline())
            assert found[-1], f"it ended without {text!r}: {''.join(found)}"
            return text in found[-1]

        wait_until(has_come, f"{text!r} is told", timeout_s=90)
        return found[-1]
