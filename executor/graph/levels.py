# SPDX-License-Identifier: BSD-3-Clause
"""Which quanta depend on which, level by level, for a million of them at once."""

from dataclasses import dataclass

import numpy as np

from executor.graph.column_codes import Integers, ranges


@dataclass(frozen=True)
class Edges:
    """Each pair of a quantum and one that makes an input of it, as rows of *quanta*."""

    parent: Integers
    child: Integers
    n_quanta: int

    def following(self, rows: Integers, *, upwards: bool = False) -> Integers:
        """Some quanta with all that follow from them, or, upwards, that they follow from."""
        before, after = (self.child, self.parent) if upwards else (self.parent, self.child)
        starts, targets = _adjacent(before, after, self.n_quanta)
        is_reached = np.zeros(self.n_quanta, bool)
        front = np.unique(rows)
        while len(front):
            is_reached[front] = True
            near = np.unique(targets[ranges(starts[front], starts[front + 1] - starts[front])])
            front = near[~is_reached[near]]
        return np.flatnonzero(is_reached)

    def levels(self) -> Integers:
        """The level of each quantum, 0 for those that wait for none; -1 behind a circle."""
        starts, children = _adjacent(self.parent, self.child, self.n_quanta)
        waiting = np.bincount(self.child, minlength=self.n_quanta)
        found = np.full(self.n_quanta, -1, np.int64)
        front, level = np.flatnonzero(waiting == 0), 0
        while len(front):
            found[front] = level
            near = children[ranges(starts[front], starts[front + 1] - starts[front])]
            reached, counts = np.unique(near, return_counts=True)
            waiting[reached] -= counts
            front, level = reached[waiting[reached] == 0], level + 1
        return found

    def circle(self, levels: Integers) -> list[int]:
        """Quanta that depend on each other, the first again at the end; empty if there are none."""
        stuck = levels < 0
        if not stuck.any():
            return []
        # Every quantum that is stuck waits for one that is stuck: going up leads into a circle.
        inside = np.flatnonzero(stuck[self.parent] & stuck[self.child])
        parent_of = dict(
            zip(self.child[inside].tolist(), self.parent[inside].tolist(), strict=True)
        )
        row = int(np.flatnonzero(stuck)[0])
        places: dict[int, int] = {}
        while row not in places:
            places[row] = len(places)
            row = parent_of[row]
        around = list(places)[places[row] :]
        return [around[0], *reversed(around)]


def _adjacent(before: Integers, after: Integers, n_rows: int) -> tuple[Integers, Integers]:
    """Where the neighbours of each row start, and the neighbours."""
    counts = np.bincount(before, minlength=n_rows)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return starts, after[np.argsort(before, kind="stable")]
