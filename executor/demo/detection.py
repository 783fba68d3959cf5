# SPDX-License-Identifier: BSD-3-Clause
"""Detection: the level of the sky, and the places where stars stand out of what is around them."""

import numpy as np
from numpy.typing import NDArray

from executor.demo.projection import Array
from executor.demo.resampling import convolve, gaussian_kernel

EDGE_PX = 13
"""No star is looked for so near to an edge: its surroundings are needed to measure it."""


def robust_sigma(values: Array) -> float:
    """Return the standard deviation as the median of distances gives it, outliers or not."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def sky_level(image: Array, mesh_px: int = 14) -> float:
    """Return the level of the empty sky, in the unit of the image.

    The cluster's own light reaches every part of an exposure, so that the median of the image is
    no sky. The medians of small meshes are taken, and of these the darkest twentieth.
    """
    rows, columns = (n // mesh_px for n in image.shape)
    meshes = image[: rows * mesh_px, : columns * mesh_px]
    meshes = meshes.reshape(rows, mesh_px, columns, mesh_px).transpose(0, 2, 1, 3)
    medians = np.sort(np.median(meshes.reshape(rows * columns, -1), axis=1))
    return float(np.median(medians[: max(1, len(medians) // 20)]))


def detect(
    image: Array, variance: Array, sigma_px: float, threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pixels (columns, rows) where stars have their peaks, the brightest first.

    Parameters
    ----------
    sigma_px
        Width of a star (pixels, standard deviation).
    threshold
        Least significance of a peak, in standard deviations of the noise.

    Notes
    -----
    As in DAOFIND (Stetson 1987, PASP 99, 191) the image is convolved with a star whose sum is
    zero, here the difference of two Gaussians: the light of the cluster beneath, be it even or
    with a slope, then drops out.
    """
    narrow, wide = gaussian_kernel(sigma_px), gaussian_kernel(3.0 * sigma_px)
    contrast = convolve(image, narrow, narrow) - convolve(image, wide, wide)
    significance = contrast / np.sqrt(variance * _sum_of_squares(narrow, wide))
    is_peak = significance > threshold
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0)):
        for sign in (1, -1):
            is_peak &= contrast >= np.roll(contrast, (sign * dy, sign * dx), axis=(0, 1))
    is_peak[:EDGE_PX] = is_peak[-EDGE_PX:] = False
    is_peak[:, :EDGE_PX] = is_peak[:, -EDGE_PX:] = False
    rows, columns = np.nonzero(is_peak)
    order = np.argsort(-contrast[rows, columns], kind="stable")
    return columns[order], rows[order]


def _sum_of_squares(narrow: list[float], wide: list[float]) -> float:
    """Variance of the difference of two convolutions, for noise of variance one."""
    pad = (len(wide) - len(narrow)) // 2
    short, long = np.pad(np.array(narrow), pad), np.array(wide)
    kernel = np.multiply.outer(short, short) - np.multiply.outer(long, long)
    return float(np.sum(kernel**2))
