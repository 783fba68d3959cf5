# SPDX-License-Identifier: BSD-3-Clause
"""Report: what a person is told at the end about the survey's stars."""

from collections.abc import Mapping


def agreement_lines(comparison: Mapping[str, float]) -> list[str]:
    """Return lines on how well the measured stars agree with those of the original image.

    Parameters
    ----------
    comparison
        Content of the dataset ``comparison``, which the final quantum wrote.
    """
    bias = 100.0 * (comparison["flux_ratio_median"] - 1.0)
    scatter = 100.0 * comparison["flux_scatter"]
    return [
        f"stars: {comparison['n_matched']} of {comparison['n_reference']} bright isolated ones of "
        "the original image found again",
        f"positions: median error {comparison['position_error_median_px']:.3f} pixel, 95 % within "
        f"{comparison['position_error_95_percent_px']:.3f} pixel",
        f"fluxes: median difference {bias:+.2f} %, scatter {scatter:.2f} %",
    ]
