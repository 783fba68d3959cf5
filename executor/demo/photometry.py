# SPDX-License-Identifier: BSD-3-Clause
"""Photometry: place, flux and width of stars, from the pixels around each."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from executor.demo.detection import EDGE_PX, detect
from executor.demo.projection import Array
from executor.demo.star_list import StarList
from registry.errors import QuantumExecError

STAR_SIGMA_PX = 1.5
"""Standard deviation of a star in the original image (pixels); exposures are a little wider."""
APERTURE_PX = 4.0
_SKY_RING_PX = (7.0, 11.0)
_NEIGHBOUR_PX = 10.0
_REACH_PX = EDGE_PX - 2
# A peak may be up to 1.5 pixels from the star, and stamps are cut around both.
_STAMP = np.arange(-_REACH_PX, _REACH_PX + 1)


class NoStarsError(QuantumExecError):
    """An image has no star that its width could be measured on; look at the exposure."""

    error_type = "no_stars"


def measure_stars(image: Array, variance: Array, *, threshold: float = 8.0) -> StarList:
    """Detect the stars of an image and measure them; the unit of flux is that of the image.

    Places with infinite variance have no pixels; a star that needs one of them is left out.
    """
    known = np.isfinite(variance)
    columns, rows = detect(image, np.where(known, variance, 1e30), STAR_SIGMA_PX, threshold)
    stamps, variances = cut_stamps(image, columns, rows), cut_stamps(variance, columns, rows)
    inner = slice(_REACH_PX - 5, _REACH_PX + 6)
    whole = np.isfinite(variances[:, inner, inner]).all(axis=(1, 2))
    columns, rows, stamps, variances = columns[whole], rows[whole], stamps[whole], variances[whole]
    sky = local_sky(stamps, variances)
    stamps = stamps - sky[:, None, None]
    dx, dy = centroid(stamps)
    flux, error = aperture_flux(stamps, variances, dx, dy)
    stars = StarList(columns + dx, rows + dy, flux, error, np.zeros(len(dx), dtype=bool))
    # A peak that moved far was the shoulder of another star.
    return with_isolation(stars.select((np.hypot(dx, dy) < 1.5) & (flux > 5.0 * error)))


def cut_stamps(image: Array, columns: NDArray[np.intp], rows: NDArray[np.intp]) -> Array:
    """Return the pixels around each place, as an array of star, row and column."""
    stamps: Array = image[rows[:, None, None] + _STAMP[:, None], columns[:, None, None] + _STAMP]
    return stamps


def local_sky(stamps: Array, variances: Array) -> Array:
    """Return the median of a ring around each star: sky, and the cluster's light in front."""
    radius = np.hypot(_STAMP[:, None], _STAMP)
    ring = (radius >= _SKY_RING_PX[0]) & (radius < _SKY_RING_PX[1])
    values = np.where(np.isfinite(variances[:, ring]), stamps[:, ring], np.nan)
    return np.asarray(np.nanmedian(values, axis=1))


def centroid(stamps: Array, n_steps: int = 12) -> tuple[Array, Array]:
    """Return the centres of stars relative to the middle of their stamps (pixels).

    The mean place under a Gaussian window that follows the star, doubled at each step, as
    XWIN_IMAGE of SExtractor (https://sextractor.readthedocs.io/en/latest/PositionWin.html).
    """
    dx = dy = np.zeros(len(stamps))
    for _ in range(n_steps):
        x, y = _STAMP - dx[:, None], _STAMP - dy[:, None]
        weights = _window(y, STAR_SIGMA_PX)[:, :, None] * _window(x, STAR_SIGMA_PX)[:, None, :]
        weighted = weights * stamps
        total = np.maximum(weighted.sum(axis=(1, 2)), 1e-9)
        dx = np.clip(dx + 2.0 * (weighted.sum(axis=1) * x).sum(axis=1) / total, -3.0, 3.0)
        dy = np.clip(dy + 2.0 * (weighted.sum(axis=2) * y).sum(axis=1) / total, -3.0, 3.0)
    return dx, dy


def aperture_flux(
    stamps: Array, variances: Array, dx: Array, dy: Array, radius_px: float = APERTURE_PX
) -> tuple[Array, Array]:
    """Return the sum of pixels within a circle and its standard deviation.

    A pixel on the circle counts by its distance from it, which is right to a percent or so of
    its own flux.
    """
    distance = np.hypot(
        _STAMP[:, None] - dy[:, None, None],
        _STAMP - dx[:, None, None],
    )
    share = np.clip(radius_px + 0.5 - distance, 0.0, 1.0)
    finite = np.where(np.isfinite(variances), variances, 0.0)
    return (share * stamps).sum(axis=(1, 2)), np.sqrt((share**2 * finite).sum(axis=(1, 2)))


def with_isolation(stars: StarList) -> StarList:
    """Mark as isolated the stars without a neighbour near that is a fifth as bright or more."""
    distance = np.hypot(stars.x[:, None] - stars.x, stars.y[:, None] - stars.y)
    np.fill_diagonal(distance, np.inf)
    spoils = (distance < _NEIGHBOUR_PX) & (stars.flux > 0.2 * stars.flux[:, None])
    return replace(stars, is_isolated=np.logical_not(spoils.any(axis=1)))


def star_width(image: Array, stars: StarList, n_steps: int = 20) -> float:
    """Return the width of stars (pixels, standard deviation): the median of isolated bright ones.

    The second moment under a Gaussian window of the star's own width is half the square of that
    width (adaptive moments, Bernstein & Jarvis 2002, AJ 123, 583); the ring's sky is subtracted.

    Raises
    ------
    NoStarsError
        If no star is isolated.
    """
    chosen = stars.select(stars.is_isolated)
    if not len(chosen):
        raise NoStarsError(f"expected isolated stars to measure a width, found {len(stars)} others")
    chosen = chosen.select(np.argsort(-chosen.flux, kind="stable")[:25])
    columns, rows = np.rint(chosen.x).astype(int), np.rint(chosen.y).astype(int)
    stamps = cut_stamps(image, columns, rows)
    stamps = stamps - local_sky(stamps, np.ones_like(stamps))[:, None, None]
    x, y = _STAMP - (chosen.x - columns)[:, None], _STAMP - (chosen.y - rows)[:, None]
    squares = x[:, None, :] ** 2 + y[:, :, None] ** 2
    sigma = np.full(len(chosen), STAR_SIGMA_PX)
    for _ in range(n_steps):
        weighted = _window(y, sigma[:, None])[:, :, None] * _window(x, sigma[:, None])[:, None, :]
        weighted = weighted * stamps
        moment = (weighted * squares).sum(axis=(1, 2)) / weighted.sum(axis=(1, 2)) / 2.0
        sigma = np.sqrt(np.clip(2.0 * moment, 0.5, 16.0))
    return float(np.median(sigma))


def _window(distance: Array, sigma_px: "float | Array") -> Array:
    return np.exp(-0.5 * (distance / sigma_px) ** 2)
