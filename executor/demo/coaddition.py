# SPDX-License-Identifier: BSD-3-Clause
"""Coaddition: exposures resampled to a patch, and their weighted mean without cosmic rays."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from executor.demo.patches import Box
from executor.demo.projection import Array
from executor.demo.resampling import shift, shift_mask

_EDGE_PX = 3
"""Half the width of the resampling kernel: nearer to an edge it would need pixels beyond."""
_CLIP_SIGMAS = 5.0
_CLIP_SHARE = 0.3
"""Differences by this share of a pixel's own brightness are seeing, not cosmic rays."""


@dataclass(frozen=True, slots=True)
class Warp:
    """An exposure on the sky's grid; pixels that it does not know have infinite variance."""

    box: Box
    image: Array
    variance: Array

    def cut(self, box: Box) -> NDArray[np.float32]:
        """Return image and variance of a box, as two planes of one array."""
        planes = np.stack([np.zeros(box.shape), np.full(box.shape, np.inf)])
        both = self.box.overlap(box)
        if both is not None:
            target, source = both.slices(box.x, box.y), both.slices(self.box.x, self.box.y)
            planes[0][target] = self.image[source]
            planes[1][target] = self.variance[source]
        return planes.astype(np.float32)


def warp_exposure(
    image: Array, variance: Array, is_bad: NDArray[np.bool_], origin: tuple[float, float]
) -> Warp:
    """Resample an exposure to the whole pixels of the sky's grid.

    Parameters
    ----------
    origin
        Place of the exposure's first pixel in the sky's grid (pixels).
    """
    x, y = math.ceil(origin[0]), math.ceil(origin[1])
    right, above = x - origin[0], y - origin[1]
    image, variance = shift(image, variance, right, above)
    unknown = shift_mask(is_bad, right, above) > 0.0
    variance = np.where(unknown, np.inf, variance)
    rows, columns = image.shape
    inside = (slice(_EDGE_PX, rows - _EDGE_PX), slice(_EDGE_PX, columns - _EDGE_PX))
    box = Box(x + _EDGE_PX, y + _EDGE_PX, x + columns - _EDGE_PX, y + rows - _EDGE_PX)
    return Warp(box, np.where(unknown, 0.0, image)[inside], variance[inside])


@dataclass(frozen=True, slots=True)
class Coadd:
    """Mean of exposures, its variance (infinite where there is none), and how many were used."""

    image: Array
    variance: Array
    n_exposures: NDArray[np.int16]
    n_clipped: int


def coadd_warps(warps: Array, sky_sigmas: Array) -> Coadd:
    """Return the weighted mean of warps.

    Parameters
    ----------
    warps
        Image and variance of each exposure: exposure, plane, row, column.
    sky_sigmas
        Standard deviation of the empty sky in each exposure, in the unit of the images.

    Notes
    -----
    Weights are the inverse variance of the sky, one number for each exposure. The variance of
    each pixel as weight would make bright stars too faint: where noise makes a pixel brighter its
    estimated variance grows as well, and it would count less.
    """
    images, variances = warps[:, 0], warps[:, 1]
    is_known = np.isfinite(variances)
    is_outlier = is_known & _outliers(images, variances, is_known)
    is_used = is_known & ~is_outlier
    weights = np.where(is_used, (1.0 / sky_sigmas**2)[:, None, None], 0.0)
    total = weights.sum(axis=0)
    is_empty = total == 0.0
    total[is_empty] = 1.0
    image = (weights * images).sum(axis=0) / total
    noise = np.where(is_used, weights**2 * np.where(is_known, variances, 0.0), 0.0)
    variance = np.where(is_empty, np.inf, noise.sum(axis=0) / total**2)
    return Coadd(image, variance, is_used.sum(axis=0).astype(np.int16), int(is_outlier.sum()))


def _outliers(images: Array, variances: Array, is_known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels far from the median of all exposures, by the noise of both.

    Of an even number the lower of the two in the middle is taken, because cosmic rays only add.
    """
    order = np.argsort(np.where(is_known, images, np.inf), axis=0, kind="stable")
    last = np.maximum(is_known.sum(axis=0) - 1, 0)
    place = np.take_along_axis(order, last[None] // 2, axis=0)
    middle = np.take_along_axis(images, place, axis=0)
    noise = np.where(is_known, variances, 0.0)
    tolerance = _CLIP_SIGMAS * np.sqrt(noise + np.take_along_axis(noise, place, axis=0))
    return np.asarray(np.abs(images - middle) > tolerance + _CLIP_SHARE * np.maximum(middle, 0.0))
