# SPDX-License-Identifier: BSD-3-Clause
"""Deltas made ready for insertion: what is left of a batch once it is read."""

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import pyarrow as pa

from merger.collation import collate
from merger.copy_format import CopyRows
from merger.delta_checks import BadDelta, GoodDelta
from merger.delta_reading import ReadDeltas, read_batches
from merger.predictions import Predictions
from transfer_plugins.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """What reading leaves of some deltas: rows ready for COPY; raw text and objects are gone.

    Attributes
    ----------
    keys, attempt_ids
        Of the good deltas, both in the order of the attempt ids.
    rows
        By table, every row sorted by key within the batch; None if a value fits no column, which
        may be that of one delta only.
    bad, newer
        Deltas for the quarantine; keys of deltas that a newer release wrote.
    n_keys
        Number of deltas that were there to be read.
    """

    keys: list[str]
    attempt_ids: list[str]
    rows: dict[str, CopyRows] | None
    bad: list[BadDelta]
    newer: list[str]
    n_keys: int


class DeltaReader:
    """Reads, verifies, checks and collates deltas of a RUN, ahead of their insertion."""

    def __init__(
        self, store: ObjectStore, predictions: Predictions, *, threads: int | None = None
    ) -> None:
        self._store = store
        self._predictions = predictions
        self._threads = threads
        self._ahead = ThreadPoolExecutor(1, "prepare")

    def __enter__(self) -> "DeltaReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ahead.shutdown(cancel_futures=True)

    def prepare(self, keys: Sequence[str]) -> "Future[PreparedBatch]":
        """Begin to prepare a batch; several may be under way, and are done in this order.

        The future raises `transfer_plugins.object_store.TransferError` if a delta cannot be
        read. One that is gone is left out.
        """
        return self._ahead.submit(self._prepare, list(keys))

    def load(self, keys: Sequence[str]) -> list[GoodDelta]:
        """Read deltas again as objects, in the order of their attempt ids.

        For the careful way. One that is gone, or no longer good, is left out.
        """
        return _ordered(self._read(keys).good)

    def _prepare(self, keys: Sequence[str]) -> PreparedBatch:
        return prepare(self._read(keys))

    def _read(self, keys: Sequence[str]) -> ReadDeltas:
        found = ReadDeltas()
        size = max(1, len(keys))
        for part in read_batches(
            self._store, keys, self._predictions, batch_size=size, threads=self._threads
        ):
            found.good.extend(part.good)
            found.bad.extend(part.bad)
            found.newer.extend(part.newer)
        return found


def prepare(read: ReadDeltas) -> PreparedBatch:
    """Collate and encode deltas that were read."""
    ordered = _ordered(read.good)
    try:
        rows = encode_deltas(ordered)
    except (ValueError, OverflowError, pa.ArrowException):
        rows = None
    return PreparedBatch(
        keys=[good.key for good in ordered],
        attempt_ids=[good.delta.attempt_id for good in ordered],
        rows=rows,
        bad=read.bad,
        newer=read.newer,
        n_keys=read.n_keys,
    )


def encode_deltas(
    ordered: Sequence[GoodDelta], outranked: Collection[str] = frozenset()
) -> dict[str, CopyRows]:
    """Collate deltas in the order of their attempt ids, and encode their rows by table.

    Raises
    ------
    ValueError, OverflowError, pyarrow.ArrowException
        If a value does not fit its column.
    """
    tables = collate(ordered, outranked)
    return {name: CopyRows.encode(table) for name, table in tables.items()}


def _ordered(deltas: Sequence[GoodDelta]) -> list[GoodDelta]:
    return sorted(deltas, key=lambda good: good.delta.attempt_id)
