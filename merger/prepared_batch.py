# SPDX-License-Identifier: BSD-3-Clause
"""What is left of a batch of deltas once it is read, and how it crosses processes."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from merger.collation import Collation, collate
from merger.copy_format import CopyRows
from merger.delta_checks import BadDelta, GoodDelta, Reason
from merger.delta_reading import read_batches
from merger.frames import Buffer
from merger.predictions import Predictions
from transfer_plugins.object_store import ObjectStore

MISFITS = (ValueError, OverflowError, pa.ArrowException)
"""What collation raises if a value does not fit its column."""


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

    def frame(self) -> tuple[dict[str, Any], list[Buffer]]:
        """Return header and buffers of the batch; `from_frame` makes it again."""
        tables = None
        if self.rows is not None:
            tables = [[name, r.n_rows, len(r.pieces)] for name, r in self.rows.items()]
        header = {
            "keys": self.keys,
            "attempt_ids": self.attempt_ids,
            "tables": tables,
            "bad": [[bad.key, bad.reason, bad.message] for bad in self.bad],
            "newer": self.newer,
            "n_keys": self.n_keys,
        }
        return header, [piece for rows in (self.rows or {}).values() for piece in rows.pieces]

    @classmethod
    def from_frame(cls, header: dict[str, Any], buffers: Sequence[Buffer]) -> "PreparedBatch":
        """Make a batch of its frame."""
        remaining = iter([memoryview(buffer) for buffer in buffers])
        rows = None
        if header["tables"] is not None:
            rows = {
                name: CopyRows(n_rows, [next(remaining) for _ in range(n_pieces)])
                for name, n_rows, n_pieces in header["tables"]
            }
        return cls(
            keys=header["keys"],
            attempt_ids=header["attempt_ids"],
            rows=rows,
            bad=[BadDelta(key, Reason(reason), text) for key, reason, text in header["bad"]],
            newer=header["newer"],
            n_keys=header["n_keys"],
        )


_DELTAS_AT_ONCE = 250
"""As many are objects at a time: what is made of them reuses their memory, and the caches."""


def prepare(
    store: ObjectStore,
    keys: Sequence[str],
    predictions: Predictions,
    threads: int | None = None,
    on_part: Callable[[], None] = lambda: None,
) -> PreparedBatch:
    """Read, verify, check, collate and encode deltas.

    Parameters
    ----------
    on_part
        Called now and then, while there is progress.

    Raises
    ------
    transfer_plugins.object_store.TransferError
        If a delta cannot be read. One that is gone is left out.
    registry.errors.FormatError
        If the predictions are damaged.
    """
    collation: Collation | None = Collation()
    batch = PreparedBatch([], [], None, [], [], 0)
    n_keys = 0
    for read in read_batches(
        store,
        sorted(keys, key=attempt_of_key),
        predictions,
        batch_size=_DELTAS_AT_ONCE,
        threads=threads,
        are_refused_left=True,
    ):
        batch.keys.extend(good.key for good in read.good)
        batch.attempt_ids.extend(good.delta.attempt_id for good in read.good)
        batch.bad.extend(read.bad)
        batch.newer.extend(read.newer)
        n_keys += read.n_keys
        on_part()
        if collation is not None:
            try:
                collation.add(read.good)
            except MISFITS:
                # Whoever inserts finds out which delta it is.
                collation = None
    rows = None
    if collation is not None:
        with suppress(*MISFITS):
            rows = _encode(collation.tables())
    return dataclasses.replace(batch, rows=rows, n_keys=n_keys)


def encode_deltas(
    ordered: Sequence[GoodDelta], outranked: Collection[str] = frozenset()
) -> dict[str, CopyRows]:
    """Collate deltas in the order of their attempt ids, and encode their rows by table.

    Raises
    ------
    ValueError, OverflowError, pyarrow.ArrowException
        If a value does not fit its column.
    """
    return _encode(collate(ordered, outranked))


def _encode(tables: dict[str, pa.Table]) -> dict[str, CopyRows]:
    return {name: CopyRows.encode(table) for name, table in tables.items()}


def attempt_of_key(key: str) -> str:
    """Return the attempt id in the key of a delta, to sort by."""
    return key[-41:]


def in_order(deltas: Sequence[GoodDelta]) -> list[GoodDelta]:
    """Return deltas in the order of their attempt ids, and so by time."""
    return sorted(deltas, key=lambda good: good.delta.attempt_id)
