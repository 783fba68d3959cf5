# SPDX-License-Identifier: BSD-3-Clause
"""A merge without reading: batches that were read, checked and encoded before the clock starts."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Lock

from merger.central_registry import CentralRegistry
from merger.conflict_policy import DEFER_ALL
from merger.delta_listing import list_deltas
from merger.graph_rows import GraphRows
from merger.insertion import Insertion
from merger.predictions import read_predictions
from merger.prepared import DeltaReader
from merger.prepared_batch import PreparedBatch
from merger.settings import DEFAULT_BATCH_SIZE
from transfer_plugins.object_store import open_store


def time_insertion(address: str, datastore: str, run: str, n_connections: int) -> float:
    """Insert a RUN over so many connections, as a merge does; returns seconds."""
    store = open_store(datastore)
    predictions = read_predictions(store, run)
    graph_rows = GraphRows(predictions, DEFER_ALL)
    listing = list_deltas(store, run)
    with DeltaReader(store, predictions) as reader:
        starts = range(0, len(listing), DEFAULT_BATCH_SIZE)
        keys = [listing.keys(start, start + DEFAULT_BATCH_SIZE) for start in starts]
        batches = [future.result() for future in [reader.prepare(some) for some in keys]]
        left, lock = iter(batches), Lock()

        def take() -> Iterator[PreparedBatch]:
            while True:
                with lock:
                    some = list(itertools.islice(left, 1))
                if not some:
                    return
                yield some[0]

        def insert(registry: CentralRegistry) -> None:
            insertion = Insertion(registry, reader, predictions, graph_rows)
            for batch in take():
                insertion.insert(batch)

        began = time.perf_counter()
        with ThreadPoolExecutor(n_connections) as pool:
            registries = [CentralRegistry(address) for _ in range(n_connections)]
            list(pool.map(insert, registries))
            took = time.perf_counter() - began
        for registry in registries:
            with closing(registry):
                pass
    return took
