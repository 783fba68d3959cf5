# SPDX-License-Identifier: BSD-3-Clause
"""Calibration: the zero point and the place on the sky of an exposure, from known stars."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from executor.demo.detection import robust_sigma
from executor.demo.star_list import ZERO_POINT_MAG, StarList
from registry.errors import QuantumExecError

_LEAST_STARS = 5
_LEAST_SIGNIFICANCE = 50.0
"""Fainter stars add little but a bias: among neighbours they lose more light to the seeing."""
_WIDE_PX = 4.0
_NARROW_PX = 1.0


class CalibrationError(QuantumExecError):
    """An exposure has too few stars in common with the reference catalogue."""

    error_type = "calibration"


@dataclass(frozen=True, slots=True)
class Calibration:
    """How pixels and electrons of an exposure become places and counts of the sky.

    ``origin_x_px`` and ``origin_y_px`` are the place of the first pixel in the sky's grid (pixels),
    ``zero_point_mag`` the magnitude of a star that gives one electron, ``counts_per_electron`` the
    same as a factor. Scatters are robust standard deviations of single stars.
    """

    origin_x_px: float
    origin_y_px: float
    pointing_error_x_px: float
    pointing_error_y_px: float
    position_scatter_px: float
    zero_point_mag: float
    zero_point_scatter_mag: float
    counts_per_electron: float
    n_stars: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, with the digits that mean something."""
        return {name: round(value, 7) for name, value in asdict(self).items()}


def match(
    stars: StarList, reference: StarList, within_px: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices of stars and reference stars that are each other's nearest."""
    if not len(stars) or not len(reference):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    distance = np.hypot(stars.x[:, None] - reference.x, stars.y[:, None] - reference.y)
    nearest, back = distance.argmin(axis=1), distance.argmin(axis=0)
    index = np.arange(len(stars))
    mutual = (back[nearest] == index) & (distance[index, nearest] < within_px)
    return index[mutual], nearest[mutual]


def calibrate_stars(
    stars: StarList, reference: StarList, origin: tuple[float, float]
) -> Calibration:
    """Compare the bright isolated stars of an exposure with the reference catalogue.

    Parameters
    ----------
    stars
        Places in pixels of the exposure, fluxes in electrons.
    reference
        Places in pixels of the sky's grid, fluxes in counts.
    origin
        Where the header puts the first pixel in the sky's grid (pixels).

    Raises
    ------
    CalibrationError
        If fewer than five stars agree.

    Notes
    -----
    Medians throughout, because a cosmic ray on a star must not count. The first, wide match
    finds the pointing error, the second is made without it.
    """
    is_bright = stars.flux > _LEAST_SIGNIFICANCE * stars.flux_error
    chosen = stars.select(stars.is_isolated & is_bright)
    known = reference.select(reference.is_isolated)
    x, y = origin
    for within_px in (_WIDE_PX, _NARROW_PX, _NARROW_PX):
        mine, theirs = match(chosen.moved(x, y), known, within_px)
        if len(mine) < _LEAST_STARS:
            raise CalibrationError(
                f"expected at least {_LEAST_STARS} of {len(chosen)} stars within {within_px} px of "
                f"one of the {len(known)} reference stars, found {len(mine)}"
            )
        dx = known.x[theirs] - chosen.x[mine]
        dy = known.y[theirs] - chosen.y[mine]
        x, y = float(np.median(dx)), float(np.median(dy))
    return _calibration(chosen.select(mine), known.select(theirs), origin, (x, y))


def _calibration(
    stars: StarList,
    reference: StarList,
    origin: tuple[float, float],
    refined: tuple[float, float],
) -> Calibration:
    moved = stars.moved(*refined)
    distance = np.concatenate([moved.x - reference.x, moved.y - reference.y])
    magnitude = ZERO_POINT_MAG - 2.5 * np.log10(reference.flux)
    zero_points = magnitude + 2.5 * np.log10(stars.flux)
    zero_point = float(np.median(zero_points))
    return Calibration(
        origin_x_px=refined[0],
        origin_y_px=refined[1],
        pointing_error_x_px=refined[0] - origin[0],
        pointing_error_y_px=refined[1] - origin[1],
        position_scatter_px=robust_sigma(distance),
        zero_point_mag=zero_point,
        zero_point_scatter_mag=robust_sigma(zero_points),
        counts_per_electron=10.0 ** (-0.4 * (zero_point - ZERO_POINT_MAG)),
        n_stars=len(stars),
    )
