# SPDX-License-Identifier: BSD-3-Clause
"""Mergers: real processes, started again whenever they end, and looked at when they have."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from merger.exit_codes import ExitCode
from tests.chaos.network import Wire
from tests.chaos.places import ROOT, S3_ENVIRONMENT

MARK = "QUANTUM_EXEC_CHAOS"
"""Environment variable by which a seed knows its processes, and those that these started."""

# How a merger may end by itself, whatever happens around it.
_EXPECTED = frozenset(
    {ExitCode.OK, ExitCode.CONFLICTS, ExitCode.QUARANTINED, ExitCode.NEWER_FORMAT, ExitCode.STOPPED}
)
# What may be away for so long that a merger gives up: PostgreSQL, and the bucket.
_AWAY = frozenset({"central_registry", "transfer"})

LEASE_S = 2
"""Seconds for which a merger that says nothing more keeps its leases."""


@dataclass(slots=True)
class Ended:
    """How a merger ended."""

    exit_code: int
    words: list[str]
    report: dict[str, object]
    stderr: str


@dataclass(slots=True)
class Slot:
    """A place for one merger, with wires of its own."""

    number: int
    database: Wire
    bucket: Wire | None
    process: subprocess.Popen[bytes] | None = None
    words: list[str] = field(default_factory=list)
    stem: Path = Path()
    n_started: int = 0
    signals: set[int] = field(default_factory=set)
    """Signals that this process was sent."""
    is_orphaned: bool = False
    """Whether a process that it had started was killed."""


@cache
def merge_options() -> str:
    """The help of ``merge``: it tells which options there are."""
    command = [sys.executable, "-m", "merger.cli", "merge", "--help"]
    environment = os.environ | {"COLUMNS": "200", "TERM": "dumb"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def environment(directory: Path, bucket: Wire | None) -> dict[str, str]:
    """Environment of a process of a seed."""
    found = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PG"))}
    found |= S3_ENVIRONMENT | {MARK: str(directory), "PYTHONUNBUFFERED": "1"}
    if bucket is not None:
        found["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{bucket.port}"
    return found


class Mergers:
    """All mergers of a seed; a thread starts each again when it has ended.

    Parameters
    ----------
    arguments
        Datastore and RUN.
    database
        Name of the database.
    """

    def __init__(
        self,
        directory: Path,
        arguments: list[str],
        database: str,
        slots: list[Slot],
        seed: int,
        *,
        connections: int | None = None,
    ) -> None:
        self.slots = slots
        self.ended: list[Ended] = []
        self.problems: list[str] = []
        self.lock = threading.RLock()
        self._directory = directory
        self._arguments = arguments
        self._database = database
        self._connections = connections
        self._rng = random.Random(f"mergers {seed}")
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="mergers", daemon=True)

    def start(self) -> None:
        """Start all, and keep them going."""
        for slot in self.slots:
            self._start(slot)
        self._thread.start()

    def _start(self, slot: Slot) -> None:
        slot.n_started += 1
        slot.signals, slot.is_orphaned = set(), False
        slot.words = [*self._arguments, "--json", *self._options(slot)]
        slot.words += ["--database", f"postgresql://postgres@127.0.0.1:{slot.database.port}/"]
        slot.words[-1] += self._database
        slot.stem = self._directory / "mergers" / f"{slot.number}-{slot.n_started}"
        slot.stem.parent.mkdir(exist_ok=True)
        with Path(f"{slot.stem}.out").open("wb") as out, Path(f"{slot.stem}.err").open("wb") as err:
            slot.process = subprocess.Popen(
                [sys.executable, "-m", "merger.cli", "merge", *slot.words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(self._directory, slot.bucket),
                cwd=ROOT,
            )

    def _options(self, slot: Slot) -> list[str]:
        known = merge_options()
        words = ["--batch-size", str(self._rng.choice([40, 80, 150, 400]))]
        if "--lease" in known:
            words += ["--lease", str(LEASE_S)]
        if "--follow" in known and slot.number % 3 == 1:
            words += ["--follow"]
            words += ["--poll", "0.2"]
        if "--connections" in known and (self._connections or slot.number % 3 == 2):
            words += ["--connections", str(self._connections or 2)]
        return words

    def _supervise(self) -> None:
        while not self._is_stopping.wait(0.02):
            with self.lock:
                for slot in self.slots:
                    if slot.process is not None and slot.process.poll() is not None:
                        self._note(slot)
                        self._start(slot)

    def _note(self, slot: Slot) -> None:
        assert slot.process is not None
        out = Path(f"{slot.stem}.out").read_text(errors="replace").strip()
        report: dict[str, object] = {}
        with suppress(ValueError, IndexError):
            report = json.loads(out.splitlines()[-1])
        stderr = Path(f"{slot.stem}.err").read_text(errors="replace")
        self.ended.append(Ended(slot.process.returncode, slot.words, report, stderr))
        if problem := problem_of(self.ended[-1], slot):
            self.problems.append(f"{slot.stem.name}: {problem}")

    def send(self, slot: Slot, number: signal.Signals) -> bool:
        """Send a signal; tells whether the merger was there to take it."""
        with self.lock:
            if slot.process is None or slot.process.poll() is not None:
                return False
            slot.signals.add(number)
            slot.process.send_signal(number)
            return True

    def kill_children(self, slot: Slot) -> int:
        """SIGKILL the processes that a merger started; returns how many there were."""
        with self.lock, suppress(psutil.Error):
            children = psutil.Process(slot.process.pid).children() if slot.process else []
            for child in children:
                child.kill()
            slot.is_orphaned = bool(children)
            return len(children)
        return 0

    def settle(self, timeout_s: float) -> bool:
        """Start none again, and let those that are there end; tells whether they did.

        Those that follow the RUN are asked to stop once the others have ended.
        """
        self._is_stopping.set()
        self._thread.join()
        deadline = time.monotonic() + timeout_s
        following = [slot for slot in self.slots if "--follow" in slot.words]
        others = [slot for slot in self.slots if "--follow" not in slot.words]
        for slot in (*others, *following):
            if slot in following:
                self.send(slot, signal.SIGTERM)
            if not self._wait(slot, deadline):
                return False
        return True

    def _wait(self, slot: Slot, deadline: float) -> bool:
        assert slot.process is not None
        with suppress(subprocess.TimeoutExpired):
            slot.process.wait(max(0.1, deadline - time.monotonic()))
            self._note(slot)
            return True
        self.problems.append(f"{slot.stem.name}: does not end")
        return False

    def kill(self) -> None:
        """End every process of this seed, whatever it does."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for slot in self.slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.kill()
                slot.process.wait()

    def exit_codes(self) -> dict[str, int]:
        """How often each exit code was met."""
        return dict(sorted(Counter(str(ended.exit_code) for ended in self.ended).items()))


def problem_of(ended: Ended, slot: Slot) -> str | None:
    """What is wrong with the way in which a merger ended, if anything is."""
    for sign in ("Traceback", "Exception ignored", "Warning:", "Error in sys.excepthook"):
        if sign in ended.stderr:
            return f"{sign} on stderr: {ended.stderr[-3000:]}"
    code = ended.exit_code
    if code < 0:
        # A process that has just been started does not yet know how to stop well.
        return None if -code in slot.signals else f"ended by signal {-code}, which nobody sent"
    if not ended.report and code != ExitCode.STOPPED:
        return f"exit code {code} without a report: {ended.stderr[-1000:]}"
    if code == ExitCode.STOPPED and signal.SIGTERM not in slot.signals:
        return "stopped, and nobody asked for that"
    kind = ended.report.get("error_type")
    if code == ExitCode.UNAVAILABLE and kind in _AWAY:
        return None
    if code == ExitCode.ERROR and kind == "reading_process" and slot.is_orphaned:
        return None
    return None if code in _EXPECTED else f"exit code {code} with {kind}: {ended.stderr[-1000:]}"


def processes_marked(directory: Path) -> list[str]:
    """Command lines of living processes that belong to a seed."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                if process.environ().get(MARK) == str(directory):
                    found.append(" ".join(process.cmdline()))
    return found
