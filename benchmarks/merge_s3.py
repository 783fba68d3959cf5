# SPDX-License-Identifier: BSD-3-Clause
"""Where the time of a merge from S3 goes, and what clients cost, against a server in memory.

Each client gets the same deltas: boto3 in one thread, in sixteen, in two processes of eight
threads each, and obstore as a merge uses it. Two processors are the server's, too, so processor
time of the client is noted beside the rate. What a merge does besides is measured by itself:
listing, and making rows of deltas that are in memory.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.merge_place import REPETITIONS, Place
from benchmarks.merge_process import time_merge
from benchmarks.merge_workload import RUN
from merger.delta_listing import list_deltas
from merger.predictions import read_predictions
from merger.prepared_batch import prepare
from merger.settings import DEFAULT_BATCH_SIZE
from transfer_plugins.object_store import DirectoryObjectStore, ObjectStore, open_store
from transfer_plugins.s3_bulk_reading import for_bulk_reading

BUCKET = "benchmark"
_N_SLOW_GETS = 4000
_THREADS = 16
_PROCESSES = 2


def merge_from_s3(place: Place) -> None:
    """Merge from an S3 server that is not the bottleneck, and say where the time goes."""
    with _s3_server(place.directory / "datastore") as environment:
        before = dict(os.environ)
        os.environ |= environment
        merges = []
        for _ in range(REPETITIONS):
            address = place.server.fresh_database()
            merges.append(time_merge(address, f"s3://{BUCKET}", RUN))
            place.server.drop(address)
        place.note_merge("merge_s3", merges, place.copy_s[1])
        merge_s = place.number("merge_s3_s")
        place.figures["merge_s3_gets_per_s"] = round(place.n_quanta / merge_s)
        last = merges[-1]
        stages = {name: float(seconds) for name, seconds in last.report["seconds"].items()}
        # Clients are opened, the reading process is started.
        stages["other"] = round(last.merge_s - sum(stages.values()), 3)
        stages["start_and_exit"] = round(last.process_s - last.merge_s, 3)
        for stage, seconds in stages.items():
            place.figures[f"merge_s3_stage_{stage}_s"] = seconds
        _compare_clients(place)
        os.environ.clear()
        os.environ.update(before)
    _time_decoding(place)


@contextmanager
def _s3_server(directory: Path) -> Iterator[dict[str, str]]:
    """Serve a directory as a bucket; gives the environment that leads clients to it."""
    command = [sys.executable, "-m", "benchmarks.s3_server", str(directory), BUCKET]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as serving:
        assert serving.stdout is not None and serving.stdin is not None
        port = serving.stdout.readline().strip()
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        serving.stdin.close()


def _compare_clients(place: Place) -> None:
    slow = open_store(f"s3://{BUCKET}")
    fast = for_bulk_reading(slow)
    for name, store in (("boto3", slow), ("obstore", fast)):
        # Opens the client.
        read_predictions(store, RUN)
        began = time.perf_counter()
        listing = list_deltas(store, RUN)
        place.figures[f"s3_list_{name}_s"] = round(time.perf_counter() - began, 3)
    keys = listing.keys()
    few = keys[:_N_SLOW_GETS]
    _note(place, "boto3_1_thread", few, partial(_get_all, slow, 1))
    _note(place, f"boto3_{_THREADS}_threads", few, partial(_get_all, slow, _THREADS))
    context = get_context("spawn")
    with ProcessPoolExecutor(
        _PROCESSES, context, initializer=_meet, initargs=(context.Barrier(_PROCESSES),)
    ) as pool:
        name = f"boto3_{_PROCESSES}_processes_{_THREADS // _PROCESSES}_threads"
        _note(place, name, few, partial(_get_in_processes, pool))
    _note(place, f"obstore_{_THREADS}_threads", keys, partial(_get_all, fast, _THREADS))


def _note(
    place: Place, name: str, keys: Sequence[str], get: Callable[[Sequence[str]], float]
) -> None:
    get(keys[:_THREADS])
    began = time.perf_counter()
    cpu_s = get(keys)
    place.figures |= {
        f"s3_get_{name}_per_s": round(len(keys) / (time.perf_counter() - began)),
        f"s3_get_{name}_cpu_ms_per_get": round(cpu_s / len(keys) * 1000, 3),
    }


def _get_all(store: ObjectStore, n_threads: int, keys: Sequence[str]) -> float:
    """Get objects; returns processor seconds."""
    began = time.process_time()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(partial(_get_some, store), [keys[i::n_threads] for i in range(n_threads)]))
    return time.process_time() - began


def _get_some(store: ObjectStore, keys: Sequence[str]) -> None:
    for key in keys:
        store.get(key)


_stores: dict[str, ObjectStore] = {}


def _meet(barrier: Barrier) -> None:
    """Begin when all processes have begun, so that none is starting when the clock does."""
    _stores[BUCKET] = open_store(f"s3://{BUCKET}")
    barrier.wait()


def _get_in_processes(pool: ProcessPoolExecutor, keys: Sequence[str]) -> float:
    """Get objects in processes that are there already; returns their processor seconds."""
    parts = [keys[i::_PROCESSES] for i in range(_PROCESSES)]
    return sum(pool.map(_get_part, parts))


def _get_part(keys: Sequence[str]) -> float:
    return _get_all(_stores[BUCKET], _THREADS // _PROCESSES, keys)


def _time_decoding(place: Place) -> None:
    """Verify, check and encode deltas that are in memory, as the reading process does."""
    store = _Remembered(place.directory / "datastore")
    predictions = read_predictions(store, RUN)
    keys = list_deltas(store, RUN).keys()
    for key in keys:
        store.remember(key)
    began = time.process_time()
    for start in range(0, len(keys), DEFAULT_BATCH_SIZE):
        prepare(store, keys[start : start + DEFAULT_BATCH_SIZE], predictions, 1)
    place.figures["decoding_in_memory_cpu_s"] = round(time.process_time() - began, 3)


class _Remembered(DirectoryObjectStore):
    """A directory of which some files are in memory."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._contents: dict[str, bytes] = {}

    def remember(self, key: str) -> None:
        """Keep a file in memory."""
        self._contents[key] = super().get(key)

    def get(self, key: str) -> bytes:
        """Return a file, from memory if it is there."""
        content = self._contents.get(key)
        return super().get(key) if content is None else content
