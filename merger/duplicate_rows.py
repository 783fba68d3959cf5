# SPDX-License-Identifier: BSD-3-Clause
"""Rows of a table that claim one data ID or one id, found in 20 bytes per row.

Each row leaves a hash of what it claims and one of its content. Equal hashes of both are taken for
the same row twice: 128 bits do not meet by chance.
"""

import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from merger.source_table import Numbers


@dataclass(slots=True)
class Claims:
    """What rows claim, as hashes, in the order in which they are added."""

    claims: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    contents: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    numbers: "array.array[int]" = field(default_factory=lambda: array.array("I"))

    def add(self, numbers: Numbers, claims: Iterable[object], contents: Iterable[object]) -> None:
        """Add rows with what they claim and their content."""
        self.claims.extend(map(hash, claims))
        self.contents.extend(map(hash, contents))
        self.numbers.frombytes(numbers.astype(np.uint32).tobytes())

    def compare(self) -> tuple[Numbers, list[tuple[int, int]]]:
        """Find the rows that claim what another row claims.

        Returns
        -------
        repeated, contradicting
            Rows that say the same as one before; pairs of rows that do not.
        """
        claims, contents = (np.frombuffer(a, np.int64) for a in (self.claims, self.contents))
        numbers = np.frombuffer(self.numbers, np.uint32)
        # Mostly there are none, and sorting alone takes a third of the memory.
        in_order = np.sort(claims)
        if not (in_order[1:] == in_order[:-1]).any():
            return np.empty(0, np.int64), []
        del in_order
        order = np.argsort(claims, kind="stable")
        is_same_claim = claims[order[1:]] == claims[order[:-1]]
        starts = np.flatnonzero(np.concatenate([[True], ~is_same_claim]))
        first = order[np.repeat(starts, np.diff([*starts, len(order)]))]
        is_later = order != first
        is_same = contents[order] == contents[first]
        repeated = np.sort(numbers[order[is_later & is_same]]).astype(np.int64)
        others = np.flatnonzero(is_later & ~is_same)
        pairs = [(int(numbers[first[at]]), int(numbers[order[at]])) for at in others]
        return repeated, sorted(pairs)


def row_texts(columns: Iterable[pa.Array]) -> list[tuple[object, ...]]:
    """Return the values of each row of some columns."""
    return list(zip(*(column.to_pylist() for column in columns), strict=True))
