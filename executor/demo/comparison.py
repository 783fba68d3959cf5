# SPDX-License-Identifier: BSD-3-Clause
"""Comparison: how well the stars of the survey agree with those of the original image."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from executor.demo.calibration import match
from executor.demo.detection import robust_sigma
from executor.demo.patches import Box
from executor.demo.star_list import StarList
from registry.errors import QuantumExecError

BRIGHT_COUNTS = 1500.0
_WITHIN_PX = 2.0


class ComparisonError(QuantumExecError):
    """The catalogue of the survey has no star of the reference catalogue."""

    error_type = "comparison"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Agreement of matched bright, isolated stars; places in pixels, fluxes as ratios.

    ``flux_scatter`` is a robust standard deviation, ``flux_scatter_predicted`` what the errors in
    the catalogue let expect.
    """

    n_reference: int
    n_matched: int
    position_error_median_px: float
    position_error_95_percent_px: float
    position_offset_x_px: float
    position_offset_y_px: float
    flux_ratio_median: float
    flux_scatter: float
    flux_scatter_predicted: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, with the digits that mean something."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def compare(catalog: StarList, reference: StarList, box: Box) -> Comparison:
    """Compare a catalogue with the reference within a box; places are in the sky's grid (pixels).

    Only isolated stars count: seeing moves light between neighbours, which is no error of the
    pipeline.

    Raises
    ------
    ComparisonError
        If they have no star in common.
    """
    is_bright = reference.is_isolated & (reference.flux > BRIGHT_COUNTS)
    wanted = reference.select(is_bright & box.contains(reference.x, reference.y))
    mine, theirs = match(catalog, wanted, _WITHIN_PX)
    if not len(mine):
        raise ComparisonError(
            f"expected stars within {_WITHIN_PX} px of the {len(wanted)} bright isolated ones of "
            f"the reference catalogue, found none among {len(catalog)}"
        )
    found, truth = catalog.select(mine), wanted.select(theirs)
    dx, dy = found.x - truth.x, found.y - truth.y
    distance = np.hypot(dx, dy)
    ratio = found.flux / truth.flux
    return Comparison(
        n_reference=len(wanted),
        n_matched=len(found),
        position_error_median_px=float(np.median(distance)),
        position_error_95_percent_px=float(np.percentile(distance, 95)),
        position_offset_x_px=float(np.median(dx)),
        position_offset_y_px=float(np.median(dy)),
        flux_ratio_median=float(np.median(ratio)),
        flux_scatter=robust_sigma(ratio),
        flux_scatter_predicted=float(np.median(found.flux_error / truth.flux)),
    )
