# SPDX-License-Identifier: BSD-3-Clause
"""Reading deltas: which are there, which the ledger lacks, and batches of them, read ahead."""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from merger.delta_checks import BadDelta, BadDeltaError, GoodDelta, check_delta
from merger.predictions import Predictions
from registry import names
from registry.errors import NewerFormatError
from transfer_plugins.object_store import DirectoryObjectStore, ObjectNotFoundError, ObjectStore

# A local file is read faster than a thread is told to; S3 answers many requests at once.
_THREADS_FOR_FILES = 1
_THREADS_FOR_S3 = 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadDeltas:
    """What became of the keys of one batch."""

    good: list[GoodDelta] = field(default_factory=list)
    bad: list[BadDelta] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    """Keys of deltas that a newer release wrote."""

    @property
    def n_keys(self) -> int:
        """Number of deltas that were there to be read."""
        return len(self.good) + len(self.bad) + len(self.newer)


def list_deltas(store: ObjectStore, run: str) -> tuple[dict[str, str], list[str]]:
    """List the deltas of a RUN.

    Returns
    -------
    by_attempt, strangers
        Key by attempt id, and keys below the prefix that are not those of a delta.
    """
    by_attempt: dict[str, str] = {}
    strangers = []
    for stored in store.list_objects(names.delta_prefix(run)):
        named = names.parse_delta_key(stored.key)
        if named is None or stored.key != names.delta_key(run, *named) or named[1] in by_attempt:
            strangers.append(stored.key)
        else:
            by_attempt[named[1]] = stored.key
    return by_attempt, strangers


def read_batches(
    store: ObjectStore,
    keys: Iterable[str],
    predictions: Predictions,
    *,
    batch_size: int,
    threads: int | None = None,
) -> Iterator[ReadDeltas]:
    """Read, verify and check deltas in batches.

    Parameters
    ----------
    batch_size
        Keys in one batch.
    threads
        Objects read at once; by default one for ``file://`` and 16 for S3.

    Raises
    ------
    transfer_plugins.object_store.TransferError
        If a delta cannot be read. One that is gone is left out.
    """
    if threads is None:
        is_local = isinstance(store, DirectoryObjectStore)
        threads = _THREADS_FOR_FILES if is_local else _THREADS_FOR_S3

    def read(key: str) -> tuple[str, bytes] | None:
        try:
            return key, store.get(key)
        except ObjectNotFoundError:
            return None

    with ThreadPoolExecutor(threads, "read-delta") as pool:
        for batch in _batched(keys, batch_size):
            contents = map(read, batch) if threads == 1 else pool.map(read, batch)
            yield _check_all(contents, predictions)


def _check_all(
    contents: Iterable[tuple[str, bytes] | None], predictions: Predictions
) -> ReadDeltas:
    found = ReadDeltas()
    for content in contents:
        if content is None:
            continue
        key, delta = content
        try:
            found.good.append(check_delta(delta, key, predictions))
        except BadDeltaError as error:
            found.bad.append(BadDelta(key, error.reason, str(error)))
        except NewerFormatError:
            found.newer.append(key)
    return found


def _batched(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(keys)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def one_ahead(batches: Iterator[T]) -> Iterator[T]:
    """Give the same batches, making the next one in a thread while one is being used."""
    with ThreadPoolExecutor(1, "read-ahead") as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch
