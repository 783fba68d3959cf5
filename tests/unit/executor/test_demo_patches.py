# SPDX-License-Identifier: BSD-3-Clause
"""Patches cover their grid without a gap, and overlap by their borders."""

import numpy as np

from executor.demo.patches import Box, PatchGrid

GRID = PatchGrid(x=10, y=20, size=30, border=5, columns=3, rows=2)


def test_every_pixel_belongs_to_one_patch() -> None:
    whole = GRID.whole()
    owners = np.zeros(whole.shape, dtype=int)
    for patch in GRID.numbers():
        owners[GRID.inner(patch).slices(whole.x, whole.y)] += 1
    assert (owners == 1).all()


def test_patches_are_numbered_row_by_row() -> None:
    assert list(GRID.numbers()) == [1, 2, 3, 4, 5, 6]
    assert GRID.inner(2) == Box(40, 20, 70, 50)
    assert GRID.inner(4) == Box(10, 50, 40, 80)


def test_border_is_shared_with_neighbours() -> None:
    assert GRID.outer(1).overlap(GRID.outer(2)) == Box(35, 15, 45, 55)
    assert GRID.inner(1).overlap(GRID.inner(2)) is None


def test_a_place_between_two_boxes_is_in_one() -> None:
    places = np.array([9.49, 9.5, 39.49, 39.5])
    rows = np.full(4, 30.0)
    assert GRID.inner(1).contains(places, rows).tolist() == [False, True, True, False]
    assert GRID.inner(2).contains(places, rows).tolist() == [False, False, False, True]
