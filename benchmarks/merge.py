# SPDX-License-Identifier: BSD-3-Clause
"""How close ``registry-merge`` comes to COPY: ``python -m benchmarks.merge [--full] [--json]``.

The workload is the run of HSC-RC2 tract 9615 in DMTN-137 (`merge_workload`); without ``--full`` it
is a fifth of that. One embedded PostgreSQL with default settings, each measurement in a database
of its own, merge and limit alternately, medians:

- ``registry-merge merge`` end to end, from a directory over one connection and over two, and from
  an S3 server in memory (`merge_s3`, which also says where the time goes and what clients cost);
- insertion alone: what is inserted was read and encoded before;
- the limit and the peers of `merge_peers`;
- the same merge again, when there is nothing to do;
- merges of which one delta in fifty is damaged, or in conflict;
- peak memory of all its processes, for this run and for one of ten times the deltas;
- merge and COPY into registries of different sizes (`merge_growth`); ``--full`` writes table and
  plot to ``docs/``.

``…_s`` of a merge is by its own clock, which starts when it begins to list; ``…_process_s`` is the
whole process from start to exit, imports included. Ratios of COPY are COPY's time over the
other's: 1 is the limit, higher is better.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.merge_columns import (
    compare_with_copy,
    compare_with_peers,
    merge_again,
    price_of_bad,
)
from benchmarks.merge_growth import measure_growth
from benchmarks.merge_place import Figures, Place
from benchmarks.merge_process import time_merge
from benchmarks.merge_s3 import merge_from_s3
from benchmarks.merge_workload import N_QUANTA, RUN, Workload
from benchmarks.postgres_server import Server
from benchmarks.report import run_command

DOCS = Path(__file__).parent.parent / "docs"


def measure_memory(place: Place, factor: int = 10) -> None:
    """Merge the RUN and one of so many times the deltas, and compare the peaks of memory."""
    large = place.write(Workload(place.n_quanta * factor), "large")
    for name, uri in (("memory_1x", place.datastore), (f"memory_{factor}x", large)):
        address = place.server.fresh_database()
        merged = time_merge(address, uri, RUN, shares_pages=True)
        place.server.drop(address)
        place.figures |= {
            f"{name}_process_s": round(merged.process_s, 2),
            f"{name}_max_rss_mib": round(merged.max_rss_mib, 1),
            f"{name}_max_pss_mib": round(merged.max_pss_mib, 1),
        }
    shutil.rmtree(place.directory / "large")
    for kind in ("rss", "pss"):
        peaks = [place.number(f"memory_{n}x_max_{kind}_mib") for n in (1, factor)]
        place.figures[f"memory_{factor}x_max_{kind}_ratio"] = round(peaks[1] / peaks[0], 3)


def measure(full: bool) -> Figures:
    """Run everything and return the figures."""
    # Short, because the path of a socket is limited to 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="qe-bm-", dir="/tmp"))
    place = Place(directory, Server(directory), N_QUANTA if full else N_QUANTA // 5)
    sizes = (100_000, 1_000_000, 5_000_000) if full else (10_000, 50_000)
    parts: dict[str, Callable[[], object]] = {
        "workload": lambda: place.write(Workload(place.n_quanta), "datastore"),
        "columns": lambda: compare_with_copy(place),
        "second merge": lambda: merge_again(place),
        "S3": lambda: merge_from_s3(place),
        "bad deltas": lambda: price_of_bad(place),
        "peers": lambda: compare_with_peers(place),
        "memory": lambda: measure_memory(place, 10 if full else 3),
        "growth": lambda: measure_growth(place, sizes, DOCS if full else None),
    }
    try:
        for name, part in parts.items():
            began = time.perf_counter()
            part()
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    finally:
        place.server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return place.figures


if __name__ == "__main__":
    run_command(
        __doc__ or "",
        "registry-merge against COPY",
        "27,075 quanta instead of a fifth, memory for ten times that, registries of up to 5 "
        "million datasets: a quarter of an hour; writes docs/merge-growth.md and .svg",
        measure,
    )
