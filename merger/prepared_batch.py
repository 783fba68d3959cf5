# SPDX-License-Identifier: BSD-3-Clause
"""What is left of a batch of deltas once it is read, and how it crosses processes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from merger.collation import collate
from merger.copy_format import CopyRows
from merger.delta_checks import BadDelta, GoodDelta, Reason
from merger.delta_reading import ReadDeltas
from merger.frames import Buffer


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

    @classmethod
    def of(cls, read: ReadDeltas) -> "PreparedBatch":
        """Collate and encode deltas that were read."""
        ordered = in_order(read.good)
        try:
            rows = encode_deltas(ordered)
        except (ValueError, OverflowError, pa.ArrowException):
            rows = None
        return cls(
            keys=[good.key for good in ordered],
            attempt_ids=[good.delta.attempt_id for good in ordered],
            rows=rows,
            bad=read.bad,
            newer=read.newer,
            n_keys=read.n_keys,
        )

    def frame(self) -> tuple[dict[str, Any], list[Buffer]]:
        """Return header and buffers of the batch; `from_frame` makes it again."""
        tables = None
        if self.rows is not None:
            tables = [[name, r.n_rows, len(r.pieces)] for name, r in self.rows.items()]
        header = {
            "keys": self.keys,
            "attempt_ids": self.attempt_ids,
            "tables": tables,
            "bad": [[bad.key, bad.reason.value, bad.message] for bad in self.bad],
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


def in_order(deltas: Sequence[GoodDelta]) -> list[GoodDelta]:
    """Return deltas in the order of their attempt ids, and so by time."""
    return sorted(deltas, key=lambda good: good.delta.attempt_id)
