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

# A sample costs some milliseconds of a processor, which a merge that is timed needs itself.
_SAMPLED_EVERY_S = 0.2
_SAMPLED_FOR_MEMORY_EVERY_S = 0.02


@dataclass(frozen=True)
class MergeTimes:
    """One merge: seconds by its own clock and as a process, peak memory of its process tree.

    Attributes
    ----------
    max_rss_mib, max_pss_mib
        Of all processes; pages that two share count twice, or once. The latter takes the kernel
        some milliseconds to tell, so it is 0 if it was not asked for.
    """

    merge_s: float
    process_s: float
    max_rss_mib: float
    max_pss_mib: float
    cpu_s: float
    report: dict[str, Any]


class _Watch(threading.Thread):
    """Samples the memory of a process tree."""

    def __init__(self, pid: int, *, shares_pages: bool) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._shares_pages = shares_pages
        self.rss_bytes = self.pss_bytes = 0
        self.cpu_s: dict[int, float] = {}

    def run(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while self._root.is_running() and self._root.status() != psutil.STATUS_ZOMBIE:
                self._sample()
                time.sleep(_SAMPLED_FOR_MEMORY_EVERY_S if self._shares_pages else _SAMPLED_EVERY_S)

    def _sample(self) -> None:
        rss = pss = 0
        for each in (self._root, *self._root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                rss += each.memory_info().rss
                if self._shares_pages:
                    pss += each.memory_full_info().pss
                times = each.cpu_times()
                self.cpu_s[each.pid] = times.user + times.system
        self.rss_bytes, self.pss_bytes = max(self.rss_bytes, rss), max(self.pss_bytes, pss)


def time_merge(
    address: str,
    datastore: str,
    run: str,
    *options: str,
    expected: Sequence[int] = (0,),
    shares_pages: bool = False,
) -> MergeTimes:
    """Run ``registry-merge merge``.

    Parameters
    ----------
    shares_pages
        Also find out the memory with shared pages counted once.

    Raises
    ------
    SystemExit
        If it ends with another exit code than expected.
    """
    command = [sys.executable, "-m", "merger.cli", "merge", datastore, run]
    command += ["--database", address, "--json", *options]
    began = time.perf_counter()
    merging = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch = _Watch(merging.pid, shares_pages=shares_pages)
    watch.start()
    printed, _ = merging.communicate()
    process_s = time.perf_counter() - began
    watch.join()
    if merging.returncode not in expected:
        raise SystemExit(f"registry-merge ended with exit code {merging.returncode}: {printed}")
    report = json.loads(printed.splitlines()[-1])
    return MergeTimes(
        merge_s=float(report["wall_s"]),
        process_s=process_s,
        max_rss_mib=watch.rss_bytes / 2**20,
        max_pss_mib=watch.pss_bytes / 2**20,
        cpu_s=sum(watch.cpu_s.values()),
        report=report,
    )
