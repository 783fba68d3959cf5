# SPDX-License-Identifier: BSD-3-Clause
"""An attempt at the middle quantum of the chain that has come to a step and stands there."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

import psutil

from registry import names
from tests.chain_graph import quantum_id
from tests.halted_processes import Halt, go_on, marked_processes, wait_halted, wait_pending
from tests.local_graphs import RUN, GraphRun
from tests.processes import has_ended, wait_until
from tests.wrapper_process import COMMAND

# Whoever stages is the runner, or the wrapper that was given a URI.
STAGING = "run-local"
STEPS = {
    "sandbox made": Halt(STAGING, "open", r"/stage-out\.json w"),
    "half of the inputs there": Halt(STAGING, "os.rename", r"/repo/.*/\.part-", 2),
    "registry seeded": Halt("run", "subprocess.Popen", "^sh "),
    "task running": None,
    "outputs written": None,
    "outputs recorded": Halt("run", "os.rename", r"/stage-out\.json\.part "),
    "half uploaded": Halt(STAGING, "os.rename", rf"/\.part-.*/store/{RUN}/(sum|difference)/", 2),
    "delta uploading": Halt(STAGING, "os.rename", r"/deltas/\.part-"),
    "delta uploaded": Halt(STAGING, "os.remove", r"/deltas/\.part-"),
}
"""Where a process stops itself; None: where the task tells that it has come so far."""


def start_attempt(
    graph_run: GraphRun, settings: dict[str, str], *, is_by_uri: bool
) -> "subprocess.Popen[str]":
    """Start the runner, or a wrapper that stages by itself."""
    environment = {**graph_run.environment, **settings}
    graph_run.prepare()
    words = [
        *COMMAND,
        f"{graph_run.datastore}/{names.job_key(RUN, quantum_id('join'))}",
        "--sandbox",
        "by-hand",
    ]
    return subprocess.Popen(
        words if is_by_uri else graph_run.command("-j", "1"),
        cwd=graph_run.directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class HaltedAttempt:
    """An attempt at the quantum in the middle that has come to a step, and stands there."""

    def __init__(
        self,
        graph_run: GraphRun,
        step: str,
        *,
        is_by_uri: bool,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory, self.marker = graph_run.directory, graph_run.directory / "halted"
        self.is_by_uri, halt = is_by_uri, STEPS[step]
        variables = {"TELL_AT": step, "TELL_IN": str(self.marker), **(settings or {})}
        if halt is not None:
            variables |= halt.environment(self.marker)
        if is_by_uri:
            variables["HALT_COMMAND"] = "run"
        self.started = start_attempt(graph_run, variables, is_by_uri=is_by_uri)
        self.halted = wait_halted(self.marker) if halt else self._wait_for_task()

    def _wait_for_task(self) -> int:
        wait_until(self.marker.exists, "the task has come so far")
        return int(self.marker.read_text())

    def go_on(self) -> tuple[int, str]:
        """Let all of it go on to its end; returns exit code and standard error."""
        for process in marked_processes(self.directory):
            # One that goes on may end another before its turn.
            with suppress(psutil.NoSuchProcess):
                process.resume()
        _, stderr = self.started.communicate(timeout=60)
        return self.started.returncode, stderr

    def process_of(self, victim: str) -> int:
        """Id of the process that is to be ended."""
        if victim == "runner" or self.is_by_uri:
            return self.started.pid
        wrapper = next(
            p for p in psutil.Process(self.started.pid).children() if "run" in p.cmdline()
        )
        return wrapper.pid if victim == "wrapper" else self.halted

    def end(self, victim: str, number: signal.Signals) -> str:
        """Send the signal, let go on what stands, and wait until everything has ended."""
        pid = self.process_of(victim)
        is_stopped = psutil.Process(self.halted).status() == psutil.STATUS_STOPPED
        os.kill(pid, number)
        if is_stopped and pid != self.halted:
            if number == signal.SIGKILL:
                wait_until(lambda: has_ended(pid), f"{victim} has ended")
            # Both ways the wrapper is told to stop: by the runner, or because that is gone.
            wait_pending(self.halted, signal.SIGTERM)
        if is_stopped and (pid != self.halted or number != signal.SIGKILL):
            go_on(self.halted)
        _, stderr = self.started.communicate(timeout=60)
        wait_until(lambda: not marked_processes(self.directory), "nothing of it runs any more")
        return stderr
