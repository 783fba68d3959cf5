# SPDX-License-Identifier: BSD-3-Clause
"""Resampling: an image and its variance moved by a fraction of a pixel.

All sums are shifts and additions of whole arrays in a fixed order, never a matrix product, whose
last bits depend on the processor: the same quantum gives the same bytes everywhere.
"""

import math

import numpy as np

from executor.demo.projection import Array

_LOBES = 3


def lanczos_kernel(fraction: float) -> list[float]:
    """Return the weights of the six pixels around a place between two of them.

    Parameters
    ----------
    fraction
        Distance of the place from the pixel to its left (pixels, at least 0, less than 1).

    Notes
    -----
    The third-order Lanczos function (Duchon 1979, J. Appl. Meteor. 18, 1016) keeps the width of a
    well sampled star, which linear interpolation would blur by up to a quarter of a square pixel.
    Its weights are divided by their sum, without which the sky would ripple with the dither.
    """
    distances = [fraction - offset for offset in range(1 - _LOBES, _LOBES + 1)]
    weights = [_sinc(d) * _sinc(d / _LOBES) for d in distances]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _sinc(x: float) -> float:
    return 1.0 if abs(x) < 1e-12 else math.sin(math.pi * x) / (math.pi * x)


def convolve(image: Array, x_kernel: list[float], y_kernel: list[float]) -> Array:
    """Return the sum of neighbours with the weights of a row and a column of pixels.

    Kernels with 2n weights take n - 1 neighbours before and n behind, those with 2n + 1 take n on
    both sides. Beyond the edge the outermost pixels are repeated.
    """
    for axis, kernel in ((1, x_kernel), (0, y_kernel)):
        before, behind = (len(kernel) - 1) // 2, len(kernel) // 2
        width = [(0, 0), (0, 0)]
        width[axis] = (before, behind)
        padded = np.pad(image, width, mode="edge")
        length = image.shape[axis]
        image = np.zeros_like(image)
        for offset, weight in enumerate(kernel):
            image += weight * padded.take(range(offset, offset + length), axis=axis)
    return image


def shift(image: Array, variance: Array, x: float, y: float) -> tuple[Array, Array]:
    """Return image and variance as seen from places x, y (pixels, 0 to 1) right of and above.

    The variance takes the squares of the weights. The noise of neighbours is correlated
    afterwards, which the variance of one pixel does not show.
    """
    x_kernel, y_kernel = lanczos_kernel(x), lanczos_kernel(y)
    x_squares, y_squares = [w * w for w in x_kernel], [w * w for w in y_kernel]
    return convolve(image, x_kernel, y_kernel), convolve(variance, x_squares, y_squares)


def shift_mask(
    mask: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]", x: float, y: float
) -> Array:
    """Return the share of bad pixels among the four around each place, by linear weights."""
    return convolve(mask.astype(float), [1.0 - x, x], [1.0 - y, y])


def gaussian_kernel(sigma_px: float) -> list[float]:
    """Return the weights of a Gaussian that add up to one (sigma in pixels)."""
    reach = math.ceil(3.5 * sigma_px)
    weights = [math.exp(-0.5 * (d / sigma_px) ** 2) for d in range(-reach, reach + 1)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]
