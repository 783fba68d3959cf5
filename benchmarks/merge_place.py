# SPDX-License-Identifier: BSD-3-Clause
"""Where merges are measured: a server, a datastore, and the figures found so far."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.merge_process import MergeTimes
from benchmarks.merge_workload import Workload
from benchmarks.postgres_server import Server, count_rows

REPETITIONS = 3

Figures = dict[str, float | str]
Timed = float | MergeTimes
Variant = Callable[[str], Timed]


@dataclass
class Place:
    """A server, and a datastore with a RUN that is ready to merge.

    Attributes
    ----------
    copy_s
        The limit, by the number of connections.
    """

    directory: Path
    server: Server
    n_quanta: int
    figures: Figures = field(default_factory=dict)
    copy_s: dict[int, float] = field(default_factory=dict)

    @property
    def datastore(self) -> str:
        """URI of the datastore."""
        return f"file://{self.directory}/datastore"

    def write(self, workload: Workload, name: str) -> str:
        """Write a workload to a directory of its own; returns the URI."""
        workload.write(self.directory / name)
        return f"file://{self.directory}/{name}"

    def measure(self, time: Callable[[str], float]) -> float:
        """Return the seconds of something in a fresh database."""
        address = self.server.fresh_database()
        seconds = time(address)
        self.server.drop(address)
        return seconds

    def take_turns(
        self,
        variants: Mapping[str, Variant],
        rows: Mapping[str, int] | None = None,
        *,
        repetitions: int = REPETITIONS,
    ) -> dict[str, list[Timed]]:
        """Measure variants alternately, each time in a fresh database, in changing order.

        Raises
        ------
        SystemExit
            If one leaves other numbers of rows than those given.
        """
        found: dict[str, list[Timed]] = {name: [] for name in variants}
        for repetition in range(repetitions):
            for name in list(variants)[:: 1 if repetition % 2 else -1]:
                address = self.server.fresh_database()
                found[name].append(variants[name](address))
                left = count_rows(address) if rows else None
                self.server.drop(address)
                if rows and left != rows:
                    raise SystemExit(f"{name}: expected {rows}, found {left}")
        return found

    def note_merge(self, name: str, merges: Sequence[Timed], copy_s: float) -> None:
        """Note the medians of a merge, by its own clock and as a process, and ratios of COPY."""
        times = [each for each in merges if isinstance(each, MergeTimes)]
        merge_s = statistics.median(each.merge_s for each in times)
        process_s = statistics.median(each.process_s for each in times)
        self.figures |= {
            f"{name}_s": round(merge_s, 3),
            f"{name}_process_s": round(process_s, 3),
            f"{name}_cpu_s": round(statistics.median(each.cpu_s for each in times), 2),
            f"{name}_ratio_of_copy": round(copy_s / merge_s, 3),
            f"{name}_process_ratio_of_copy": round(copy_s / process_s, 3),
            f"{name}_max_rss_mib": round(max(each.max_rss_mib for each in times), 1),
        }

    def number(self, name: str) -> float:
        """Return a figure that is a number."""
        return float(self.figures[name])


def seconds_of(timed: Sequence[Timed]) -> list[float]:
    """Return seconds of what was measured; of a merge those of its process."""
    return [each.process_s if isinstance(each, MergeTimes) else each for each in timed]
