# SPDX-License-Identifier: BSD-3-Clause
"""Reading deltas: batches of them, read ahead, verified and checked."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from merger.delta_checks import BadDelta, ReadDeltas, Reason
from merger.plain_deltas import check_deltas
from merger.predictions import Predictions
from transfer_plugins.object_store import (
    ObjectNotFoundError,
    ObjectStore,
    TransferRefusedError,
)

# Threads help with files that are not in memory; S3 answers many requests at once.
_THREADS_FOR_FILES = 4
_THREADS_FOR_S3 = 16

# A file is read faster than a thread is told to, so each is told several; and still all threads
# have some if there are few.
_KEYS_AT_ONCE = 32

_CHECKED_AT_ONCE = 250

__all__ = ["ReadDeltas", "read_batches", "read_whole"]


@dataclass(slots=True)
class _Read:
    """Key and bytes of some deltas, and those that could not be read."""

    contents: list[tuple[str, bytes]] = field(default_factory=list)
    refused: list[BadDelta] = field(default_factory=list)


def read_batches(
    store: ObjectStore,
    keys: Iterable[str],
    predictions: Predictions,
    *,
    batch_size: int,
    threads: int | None = None,
    are_refused_left: bool = False,
) -> Iterator[ReadDeltas]:
    """Read, verify and check deltas in batches.

    Parameters
    ----------
    batch_size
        Keys in one batch; fewer in the first.
    threads
        Objects read at once; by default 4 for ``file://`` and 16 for S3.
    are_refused_left
        Deltas that the datastore does not let us read are bad, and not an error.

    Raises
    ------
    transfer_plugins.object_store.TransferError
        If a delta cannot be read. One that is gone is left out.
    """
    if threads is None:
        threads = _THREADS_FOR_FILES if store.is_local else _THREADS_FOR_S3

    with ThreadPoolExecutor(threads, "read-delta") as pool:
        # The next batch is being read while one is checked.
        reading: deque[Iterator[_Read]] = deque()
        for batch in _growing(keys, batch_size):
            n_keys = max(1, min(_KEYS_AT_ONCE, len(batch) // (threads * 4)))
            read = partial(_read, store, are_refused_left=are_refused_left)
            reading.append(pool.map(read, _batched(batch, n_keys)))
            if len(reading) > 1:
                yield _check_all(reading.popleft(), predictions)
        if reading:
            yield _check_all(reading.popleft(), predictions)


def read_whole(
    store: ObjectStore, keys: Sequence[str], predictions: Predictions, threads: int | None = None
) -> ReadDeltas:
    """Read, verify and check deltas as one batch; raises as `read_batches`."""
    found = ReadDeltas()
    size = max(1, len(keys))
    for part in read_batches(store, keys, predictions, batch_size=size, threads=threads):
        found.add(part)
    return found


def _read(store: ObjectStore, keys: Iterable[str], *, are_refused_left: bool) -> _Read:
    read = _Read()
    for key in keys:
        try:
            read.contents.append((key, store.get(key)))
        except ObjectNotFoundError:
            pass
        except TransferRefusedError as error:
            if not are_refused_left:
                raise
            message = f"delta {key!r}: {error}"
            read.refused.append(BadDelta(key, Reason.REFUSED_BY_DATASTORE, message))
    return read


def _check_all(parts: Iterable[_Read], predictions: Predictions) -> ReadDeltas:
    found = ReadDeltas()
    contents = itertools.chain.from_iterable(_contents(parts, found.bad))
    while some := list(itertools.islice(contents, _CHECKED_AT_ONCE)):
        found.add(check_deltas(some, predictions))
    return found


def _contents(parts: Iterable[_Read], bad: list[BadDelta]) -> Iterator[list[tuple[str, bytes]]]:
    for read in parts:
        bad += read.refused
        yield read.contents


def _growing(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    """Make batches, the first a quarter, so that the database has something to do soon."""
    remaining = iter(keys)
    yield from itertools.islice(_batched(remaining, max(1, size // 4)), 1)
    yield from _batched(remaining, size)


def _batched(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(keys)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
