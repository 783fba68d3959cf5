# SPDX-License-Identifier: BSD-3-Clause
"""What a merge did, in numbers; those of batches, connections and passes can be added."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class MergeCounts:
    """What was merged.

    Attributes
    ----------
    n_deltas
        Deltas merged.
    n_superseded
        Attempts of which it turned out that they do not count: among those merged, or before.
    n_datasets
        Datasets of attempts that count.
    n_skipped
        Of these, the ones that were there with the same content before any merge.
    n_conflicts, n_settled
        Keys with a side that was not recorded before: left to a person, and settled by a policy
        or by what was decided before.
    rows
        How many rows each table gained; fewer than none if it lost some.
    seconds
        By stage: list, ledger, read (waiting for deltas to be read), insert, careful.
    """

    n_deltas: int = 0
    n_superseded: int = 0
    n_datasets: int = 0
    n_skipped: int = 0
    n_conflicts: int = 0
    n_settled: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, other: "MergeCounts") -> None:
        """Add the counts of another batch."""
        self.n_deltas += other.n_deltas
        self.n_superseded += other.n_superseded
        self.n_datasets += other.n_datasets
        self.n_skipped += other.n_skipped
        self.n_conflicts += other.n_conflicts
        self.n_settled += other.n_settled
        self.rows.update(other.rows)
        self.seconds.update(other.seconds)

    @property
    def n_rows(self) -> int:
        """Rows that all tables gained."""
        return sum(self.rows.values())

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that something takes to a stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - began  # type: ignore[assignment]
