# SPDX-License-Identifier: BSD-3-Clause
"""Instrument signature: from what a detector recorded to electrons and their variance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from executor.demo.detection import sky_level
from executor.demo.projection import Array

_LEAST_RESPONSE = 0.2
_SHARPEST_STAR = 0.6
_COSMIC_RAY_SIGMAS = 5.0


@dataclass(frozen=True, slots=True)
class CorrectedExposure:
    """Pixels in electrons, their variance (electrons²), and which of them are bad.

    Bad pixels hold a value between those of their neighbours, so that resampling does not smear
    a hole; their variance is that of a neighbour and their flag says not to trust them.
    """

    image: Array
    variance: Array
    is_bad: NDArray[np.bool_]
    n_cosmic_ray_pixels: int


def remove_signature(
    raw: NDArray[np.uint16],
    bias: NDArray[np.float32],
    flat: NDArray[np.float32],
    gain_e_per_adu: float,
    read_noise_e: float,
    saturation_adu: int,
) -> CorrectedExposure:
    """Subtract the bias, divide by the flat field, and turn counts into electrons.

    Parameters
    ----------
    raw
        Pixels as recorded (ADU).
    bias
        What the detector gives without light (ADU).
    flat
        Response of the pixels to even light; 1 is the median.
    gain_e_per_adu, read_noise_e, saturation_adu
        Of the detector, as the header tells them (electrons per ADU, electrons, ADU).

    Notes
    -----
    The variance of a pixel is its photon noise and its read noise (Howell 2006, Handbook of CCD
    Astronomy, chapter 4), both scaled by the flat. The noise of the calibration frames is left
    out: they are means of many.
    """
    response = flat.astype(float)
    is_bad = (response < _LEAST_RESPONSE) | (raw >= saturation_adu)
    response = np.where(is_bad, 1.0, response)
    electrons = (raw.astype(float) - bias) * gain_e_per_adu
    variance = (np.maximum(electrons, 0.0) + read_noise_e**2) / response**2
    image = electrons / response
    is_hit = find_cosmic_rays(_bridged(image, is_bad), _bridged(variance, is_bad)) & ~is_bad
    is_bad = is_bad | is_hit
    return CorrectedExposure(
        _bridged(image, is_bad), _bridged(variance, is_bad), is_bad, int(is_hit.sum())
    )


def find_cosmic_rays(image: Array, variance: Array) -> NDArray[np.bool_]:
    """Tell which pixels stand out of their neighbours more sharply than a star can.

    As in the SDSS and LSST pipelines, a pixel is compared with the mean of its neighbours left
    and right, and of those above and below. In a star of Gaussian width s pixels they have at
    least exp(-1 / 2s²) of its height above the sky, wherever its centre is; less than
    `_SHARPEST_STAR` of it is too sharp for the best seeing of this survey (s = 1.4, 0.77).
    """
    height = image - sky_level(image)
    noise = np.sqrt(variance)
    padded = np.pad(height, 1, mode="edge")
    beside = (padded[1:-1, :-2] + padded[1:-1, 2:]) / 2.0
    above = (padded[:-2, 1:-1] + padded[2:, 1:-1]) / 2.0
    lowest = np.minimum(beside, above)
    return np.asarray(_SHARPEST_STAR * height > lowest + _COSMIC_RAY_SIGMAS * noise)


def _bridged(image: Array, is_bad: NDArray[np.bool_]) -> Array:
    """Put a straight line across bad pixels, row by row."""
    result = image.copy()
    places = np.arange(image.shape[1])
    for row in np.nonzero(is_bad.any(axis=1) & ~is_bad.all(axis=1))[0]:
        good = ~is_bad[row]
        result[row, ~good] = np.interp(places[~good], places[good], image[row, good])
    return result
