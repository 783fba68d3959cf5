# SPDX-License-Identifier: BSD-3-Clause
"""Deltas for whom predictions do not matter: fetched in their order, and decoded."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from registry.delta import Delta, DeltaError, check_format, delta_body, verify_checksum
from registry.structs import delta_decoders
from transfer_plugins.object_store import (
    ObjectNotFoundError,
    ObjectStore,
    TransferError,
    TransferRefusedError,
)

_THREADS_FOR_FILES = 4
_THREADS_FOR_S3 = 16
_AHEAD = 4
"""Objects under way for each thread; they may be large."""

_decoders = delta_decoders()

Fetched = tuple[str, bytes | TransferError]
"""A key with the bytes under it, or with the error that says why nobody may have them."""


def fetch(store: ObjectStore, keys: Iterable[str], threads: int | None = None) -> Iterator[Fetched]:
    """Give the bytes of many small objects in the order of their keys, however many there are.

    Raises
    ------
    transfer_plugins.object_store.TransferError
        If another try may help. One that is gone or refused is given with its error.
    """
    n_threads = threads or (_THREADS_FOR_FILES if store.is_local else _THREADS_FOR_S3)
    with ThreadPoolExecutor(n_threads, "fetch") as pool:
        coming: deque[tuple[str, Future[bytes]]] = deque()
        try:
            for key in keys:
                coming.append((key, pool.submit(store.get, key)))
                if len(coming) >= n_threads * _AHEAD:
                    yield _result_of(*coming.popleft())
            while coming:
                yield _result_of(*coming.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _result_of(key: str, content: Future[bytes]) -> Fetched:
    try:
        return key, content.result()
    except (ObjectNotFoundError, TransferRefusedError) as error:
        return key, error


def decode_delta(content: bytes, key: str) -> tuple[Delta, str]:
    """Verify and decode a delta; returns it with the checksum that it states of itself.

    Raises
    ------
    registry.errors.FormatError
        If it is damaged, of a newer format, or no delta. Whether it is consistent is not asked.
    """
    checksum = verify_checksum(content, key)
    delta_format = check_format(content, key)
    try:
        return _decoders[delta_format].decode(delta_body(content)), checksum
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeltaError(f"delta {key!r}: {error}") from error
