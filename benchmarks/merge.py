# SPDX-License-Identifier: BSD-3-Clause
"""How close ``registry-merge`` comes to COPY: ``python -m benchmarks.merge [--full] [--json]``.

The workload is the run of HSC-RC2 tract 9615 in DMTN-137 (`merge_workload`); without ``--full`` it
is a fifth of that. One embedded PostgreSQL with default settings, each measurement in a database
of its own, merge and limit alternately, medians. Columns:

- ``registry-merge merge`` as a process, end to end, from a directory and from an S3 server in
  memory (`s3_server`), over one connection and over two;
- insertion alone: what is inserted was read and encoded before;
- the limit and the peers of `merge_peers`;
- the same merge again, when there is nothing to do;
- peak memory of all its processes, for this run and for one of ten times the deltas;
- merge and COPY into registries of different sizes (`merge_growth`).

Ratios of COPY are COPY's time over the merge's: 1 is the limit, higher is better.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.merge_growth import draw, fill
from benchmarks.merge_insertion import time_insertion
from benchmarks.merge_peers import FORMATS, Encoded, Peers, encode_rows, time_copy
from benchmarks.merge_process import MergeTimes, time_merge
from benchmarks.merge_workload import N_DATASETS, N_QUANTA, RUN, Workload
from benchmarks.postgres_server import Server, count_rows
from benchmarks.report import run_command

REPETITIONS = 3
BUCKET = "benchmark"
PLOT = Path("merge-growth.svg")

Figures = dict[str, float]


@dataclass
class Place:
    """Where everything happens: a server, and a datastore with a RUN that is ready to merge."""

    directory: Path
    server: Server
    n_quanta: int
    figures: Figures = field(default_factory=dict)

    @property
    def datastore(self) -> str:
        """URI of the datastore."""
        return f"file://{self.directory}/datastore"

    def measure(self, time: Callable[[str], float], name: str) -> float:
        """Note and return the seconds of something in a fresh database."""
        address = self.server.fresh_database()
        seconds = time(address)
        self.server.drop(address)
        self.figures[name] = round(seconds, 3)
        return seconds


def compare_with_copy(place: Place) -> None:
    """Merge from a directory, insert alone and COPY, in turns, over one connection and two."""
    first = place.server.fresh_database()
    time_merge(first, place.datastore, RUN)
    rows = count_rows(first)
    place.figures |= {"n_quanta": place.n_quanta, "n_rows": sum(rows.values())}
    for n_connections in (1, 2):
        encoded = {form: encode_rows(first, form, n_connections) for form in FORMATS}
        variants: dict[str, Callable[[str], float]] = {
            f"copy_{form}": partial(_copy, encoded[form], form) for form in FORMATS
        }
        variants["merge"] = partial(_merge, place.datastore, n_connections)
        variants["insertion"] = partial(_insert, place.datastore, n_connections)
        _take_turns(place, variants, rows, f"_{n_connections}c")
    place.server.drop(first)


def _copy(encoded: tuple[Encoded, list[Encoded]], form: str, address: str) -> float:
    return time_copy(address, *encoded, form)


def _merge(datastore: str, n_connections: int, address: str) -> float:
    return time_merge(address, datastore, RUN, "--connections", str(n_connections)).merge_s


def _insert(datastore: str, n_connections: int, address: str) -> float:
    return time_insertion(address, datastore, RUN, n_connections)


def _take_turns(
    place: Place,
    variants: dict[str, Callable[[str], float]],
    rows: dict[str, int],
    suffix: str,
) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(REPETITIONS):
        for name in list(variants)[:: 1 if repetition % 2 else -1]:
            address = place.server.fresh_database()
            seconds[name].append(variants[name](address))
            found = count_rows(address)
            place.server.drop(address)
            if found != rows:
                raise SystemExit(f"{name}: expected {rows}, found {found}")
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    copy_s = min(medians[f"copy_{form}"] for form in FORMATS)
    for name, each in medians.items():
        place.figures[f"{name}{suffix}_s"] = round(each, 3)
    for name in ("merge", "insertion"):
        place.figures[f"{name}{suffix}_ratio_of_copy"] = round(copy_s / medians[name], 3)
    merged = N_DATASETS * place.n_quanta / N_QUANTA / medians["merge"]
    place.figures[f"merge{suffix}_datasets_per_s"] = round(merged)


def merge_again(place: Place) -> None:
    """Merge, and merge again; memory and processor time of the first."""
    address = place.server.fresh_database()
    first = time_merge(address, place.datastore, RUN)
    again = time_merge(address, place.datastore, RUN)
    place.server.drop(address)
    place.figures |= {
        "merge_process_s": round(first.process_s, 3),
        "merge_cpu_s": round(first.cpu_s, 2),
        "merge_max_rss_mib": round(first.max_rss_mib, 1),
        "merge_again_s": round(again.merge_s, 3),
        "merge_again_ratio_of_first": round(again.merge_s / first.merge_s, 4),
        "merge_again_process_ratio_of_first": round(again.process_s / first.process_s, 4),
    }


@contextmanager
def _s3_server(directory: Path) -> Iterator[dict[str, str]]:
    """Serve a directory as a bucket; gives the environment that leads a merge to it."""
    command = [sys.executable, "-m", "benchmarks.s3_server", str(directory), BUCKET]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as serving:
        assert serving.stdout is not None and serving.stdin is not None
        port = serving.stdout.readline().strip()
        yield os.environ | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        serving.stdin.close()


def merge_from_s3(place: Place) -> None:
    """Merge from an S3 server that is not the bottleneck."""
    with _s3_server(place.directory / "datastore") as environment:
        merges: list[MergeTimes] = []
        for _ in range(REPETITIONS):
            address = place.server.fresh_database()
            merges.append(time_merge(address, f"s3://{BUCKET}", RUN, environment=environment))
            place.server.drop(address)
    merge_s = statistics.median(each.merge_s for each in merges)
    copy_s = min(place.figures[f"copy_{form}_1c_s"] for form in FORMATS)
    place.figures |= {
        "merge_s3_s": round(merge_s, 3),
        "merge_s3_cpu_s": round(statistics.median(each.cpu_s for each in merges), 2),
        "merge_s3_ratio_of_copy": round(copy_s / merge_s, 3),
        "merge_s3_gets_per_s": round(place.n_quanta / merge_s),
        "merge_s3_max_rss_mib": round(max(each.max_rss_mib for each in merges), 1),
    }


def compare_with_peers(place: Place) -> None:
    """Insert the same rows as others do; row by row only those of some quanta."""
    address = place.server.fresh_database()
    time_merge(address, place.datastore, RUN)
    n_rows, merge_s = place.figures["n_rows"], place.figures["merge_1c_s"]
    many = Peers(address)
    executemany_s = place.measure(many.time_executemany, "sqlalchemy_executemany_s")
    place.figures["merge_ratio_to_executemany"] = round(executemany_s / merge_s, 2)
    few = Peers(address, n_quanta=max(50, place.n_quanta // 50))
    place.server.drop(address)
    sampled_s = place.measure(few.time_savepoints, "savepoints_sample_s")
    savepoints_s = sampled_s * n_rows / few.n_rows
    place.figures["savepoints_all_rows_s"] = round(savepoints_s, 1)
    place.figures["merge_ratio_to_savepoints"] = round(savepoints_s / merge_s, 1)


def measure_memory(place: Place, factor: int = 10) -> None:
    """Merge a RUN of so many times the deltas, and compare the peaks of memory."""
    directory = place.directory / "large"
    Workload(place.n_quanta * factor).write(directory)
    address = place.server.fresh_database()
    merged = time_merge(address, f"file://{directory}", RUN)
    place.server.drop(address)
    shutil.rmtree(directory)
    before = place.figures["merge_max_rss_mib"]
    place.figures |= {
        f"merge_{factor}x_s": round(merged.merge_s, 2),
        f"merge_{factor}x_max_rss_mib": round(merged.max_rss_mib, 1),
        f"merge_{factor}x_max_rss_ratio": round(merged.max_rss_mib / before, 3),
    }


def measure_growth(place: Place, sizes: tuple[int, ...]) -> None:
    """Merge and COPY into registries that have so many datasets already, and plot both."""
    points = []
    source = place.server.fresh_database()
    time_merge(source, place.datastore, RUN)
    first, parts = encode_rows(source, "binary")
    place.server.drop(source)
    rest = {name: content for name, content in first.items() if name not in ("run", "dataset_type")}
    for size in sizes:
        seconds = []
        filled = place.server.fresh_database()
        if size:
            fill(filled, size)
        for is_merge in (True, False):
            address = place.server.copy_of(filled)
            if is_merge:
                seconds.append(time_merge(address, place.datastore, RUN).merge_s)
            else:
                _ensure_parents(address)
                seconds.append(time_copy(address, rest, parts, "binary"))
            place.server.drop(address)
        place.server.drop(filled)
        points.append((size, seconds[0], seconds[1]))
        name = f"registry_{size / 1e6:g}m"
        place.figures |= {
            f"{name}_merge_s": round(seconds[0], 3),
            f"{name}_copy_s": round(seconds[1], 3),
            f"{name}_ratio_of_copy": round(seconds[1] / seconds[0], 3),
        }
    place.figures["growth_merge_ratio"] = round(points[-1][1] / points[0][1], 3)
    place.figures["growth_copy_ratio"] = round(points[-1][2] / points[0][2], 3)
    draw(PLOT, points)


def _ensure_parents(address: str) -> None:
    """What the rows refer to; some of it may be there."""
    import psycopg

    from benchmarks.merge_workload import TYPES
    from registry.typed_json import canonical

    with psycopg.connect(address) as connection:
        connection.execute("INSERT INTO run VALUES (%s) ON CONFLICT DO NOTHING", (RUN,))
        for each in TYPES:
            connection.execute(
                "INSERT INTO dataset_type VALUES (%s, %s::jsonb, %s) ON CONFLICT DO NOTHING",
                (each.name, canonical(each.dimensions), each.storage_class),
            )


def measure(full: bool) -> Figures:
    """Run everything and return the figures."""
    # Short, because the path of a socket is limited to 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="qe-bm-", dir="/tmp"))
    n_quanta = N_QUANTA if full else N_QUANTA // 5
    Workload(n_quanta).write(directory / "datastore")
    place = Place(directory, Server(directory), n_quanta)
    try:
        compare_with_copy(place)
        merge_again(place)
        merge_from_s3(place)
        compare_with_peers(place)
        measure_memory(place, 10 if full else 3)
        measure_growth(place, (0, 100_000, 1_000_000, 5_000_000) if full else (0, 50_000))
    finally:
        place.server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return place.figures


if __name__ == "__main__":
    run_command(
        __doc__ or "",
        "registry-merge against COPY",
        "27,075 quanta instead of a fifth, memory for ten times that, registries of up to 5 "
        "million datasets: half an hour",
        measure,
    )
