# SPDX-License-Identifier: BSD-3-Clause
"""Patches: how the sky is divided for coadds, and which of them an exposure touches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of whole pixels; ``x_end`` and ``y_end`` do not belong to it."""

    x: int
    y: int
    x_end: int
    y_end: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, as numpy has them."""
        return self.y_end - self.y, self.x_end - self.x

    def overlap(self, other: "Box") -> "Box | None":
        """The pixels that two boxes share; None if there are none."""
        both = Box(
            max(self.x, other.x),
            max(self.y, other.y),
            min(self.x_end, other.x_end),
            min(self.y_end, other.y_end),
        )
        return both if both.x < both.x_end and both.y < both.y_end else None

    def contains(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which places are in the box; a pixel reaches half a pixel around its centre."""
        return (
            (x >= self.x - 0.5)
            & (x < self.x_end - 0.5)
            & (y >= self.y - 0.5)
            & (y < self.y_end - 0.5)
        )

    def slices(self, x: int = 0, y: int = 0) -> tuple[slice, slice]:
        """The box as an index into an array whose first pixel is at x, y."""
        return slice(self.y - y, self.y_end - y), slice(self.x - x, self.x_end - x)


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """Square patches side by side, numbered from 1, row by row.

    The first pixel of patch 1 is at ``x``, ``y`` of the sky's grid, ``size`` is the side of a
    patch without its border (pixels). With ``border`` neighbours overlap, so that a star at the
    edge is measured whole in the patch that owns it.
    """

    x: int
    y: int
    size: int
    border: int
    columns: int
    rows: int

    def numbers(self) -> range:
        """The numbers of all patches."""
        return range(1, self.columns * self.rows + 1)

    def inner(self, patch: int) -> Box:
        """The pixels that a patch owns: every pixel of the grid belongs to exactly one."""
        row, column = divmod(patch - 1, self.columns)
        x, y = self.x + column * self.size, self.y + row * self.size
        return Box(x, y, x + self.size, y + self.size)

    def outer(self, patch: int) -> Box:
        """The pixels of a patch with its border."""
        inner = self.inner(patch)
        return Box(
            inner.x - self.border,
            inner.y - self.border,
            inner.x_end + self.border,
            inner.y_end + self.border,
        )

    def whole(self) -> Box:
        """All pixels of the grid, without the outermost border."""
        return Box(
            self.x,
            self.y,
            self.x + self.columns * self.size,
            self.y + self.rows * self.size,
        )
