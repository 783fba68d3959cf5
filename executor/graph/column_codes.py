# SPDX-License-Identifier: BSD-3-Clause
"""Columns as numbers: what names a dataset or a quantum becomes one integer per row."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]

_LIMIT = 2**62


def name_codes(column: pa.ChunkedArray, names: Sequence[str]) -> Integers:
    """The index of each text among some names; -1 for others and for nothing."""
    known = pa.array(names, pa.string())
    parts = [np.empty(0, np.int64)]
    for chunk in column.chunks:
        if isinstance(chunk, pa.DictionaryArray):
            of_entry = _filled(pc.index_in(chunk.dictionary.cast(pa.string()), known))
            entries = _filled(chunk.indices)
            parts.append(np.where(entries < 0, -1, np.append(of_entry, -1)[entries]))
        else:
            parts.append(_filled(pc.index_in(chunk.cast(pa.string()), known)))
    return np.concatenate(parts)


def _filled(array: pa.Array) -> Integers:
    filled: Integers = pc.fill_null(array.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return filled


def value_codes(column: pa.ChunkedArray) -> Integers:
    """One integer for each value of a column, the same for equal values; nothing is a value, too.

    Integers stay as they are if there is no null; what matters is which are equal.
    """
    if pa.types.is_integer(column.type) and column.null_count == 0:
        same: Integers = column.cast(pa.int64()).to_numpy()
        return same
    plain = column.combine_chunks()
    plain = pa.concat_arrays(plain.chunks) if isinstance(plain, pa.ChunkedArray) else plain
    encoded = plain if isinstance(plain, pa.DictionaryArray) else plain.dictionary_encode()
    return _filled(encoded.indices)


def combine_codes(columns: Sequence[Integers], n_rows: int) -> Integers:
    """One integer per row, the same for rows that are equal in all columns.

    Mixed radix as long as it fits 62 bits, else what there is so far is numbered anew.
    """
    combined = np.zeros(n_rows, np.int64)
    if n_rows == 0:
        return combined
    size = 1
    for column in columns:
        low, high = int(column.min()), int(column.max())
        if high - low >= _LIMIT:
            column = np.unique(column, return_inverse=True)[1].astype(np.int64)
            low, high = 0, int(column.max())
        span = high - low + 1
        if size * span >= _LIMIT:
            combined = np.unique(combined, return_inverse=True)[1].astype(np.int64)
            size = int(combined.max()) + 1
        if size * span >= _LIMIT:
            column = np.unique(column, return_inverse=True)[1].astype(np.int64)
            low, span = 0, int(column.max()) + 1
        combined = combined * span + (column - low)
        size *= span
    return combined


def first_duplicate(codes: Integers) -> tuple[int, int] | None:
    """Two rows with the same code: the row that repeats first, and the one it repeats."""
    order = np.argsort(codes, kind="stable")
    repeats = np.flatnonzero(codes[order[1:]] == codes[order[:-1]])
    if not len(repeats):
        return None
    at = repeats[np.argmin(order[repeats + 1])]
    first = np.searchsorted(codes, codes[order[at]], sorter=order)
    return int(order[at + 1]), int(order[first])


def ranges(starts: Integers, counts: Integers) -> Integers:
    """All integers of some ranges, one range after the other."""
    total = int(counts.sum())
    if total == 0:
        return np.empty(0, np.int64)
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(total, dtype=np.int64)
