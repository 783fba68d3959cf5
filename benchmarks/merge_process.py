# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge merge`` as a process of its own: seconds, and memory of all its processes."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

_SAMPLED_EVERY_S = 0.02


@dataclass(frozen=True)
class MergeTimes:
    """One merge: seconds by its own clock and as a process, peak memory of its process tree."""

    merge_s: float
    process_s: float
    max_rss_mib: float
    cpu_s: float
    report: dict[str, Any]


class _Watch(threading.Thread):
    """Samples the resident memory of a process tree; pages that two share count twice."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self.peak_bytes = 0
        self.cpu_s: dict[int, float] = {}

    def run(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while self._root.is_running() and self._root.status() != psutil.STATUS_ZOMBIE:
                self._sample()
                time.sleep(_SAMPLED_EVERY_S)

    def _sample(self) -> None:
        total = 0
        for each in (self._root, *self._root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
                times = each.cpu_times()
                self.cpu_s[each.pid] = times.user + times.system
        self.peak_bytes = max(self.peak_bytes, total)


def time_merge(
    address: str,
    datastore: str,
    run: str,
    *options: str,
    environment: dict[str, str] | None = None,
    expected: Sequence[int] = (0,),
) -> MergeTimes:
    """Run ``registry-merge merge``.

    Raises
    ------
    SystemExit
        If it ends with another exit code than expected.
    """
    command = [sys.executable, "-m", "merger.cli", "merge", datastore, run]
    command += ["--database", address, "--json", *options]
    began = time.perf_counter()
    merging = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    watch = _Watch(merging.pid)
    watch.start()
    printed, _ = merging.communicate()
    process_s = time.perf_counter() - began
    watch.join()
    if merging.returncode not in expected:
        raise SystemExit(f"registry-merge ended with exit code {merging.returncode}: {printed}")
    report = json.loads(printed.splitlines()[-1])
    peak_mib, cpu_s = watch.peak_bytes / 2**20, sum(watch.cpu_s.values())
    return MergeTimes(float(report["wall_s"]), process_s, peak_mib, cpu_s, report)
