# SPDX-License-Identifier: BSD-3-Clause
"""What the demo says about its stars."""

from executor.demo.report import agreement_lines


def test_agreement_is_told_in_numbers() -> None:
    lines = agreement_lines(
        {
            "n_matched": 66,
            "n_reference": 67,
            "position_error_median_px": 0.01458,
            "position_error_95_percent_px": 0.04744,
            "flux_ratio_median": 0.9988,
            "flux_scatter": 0.00758,
        }
    )
    assert lines == [
        "stars: 66 of 67 bright isolated ones of the original image found again",
        "positions: median error 0.015 pixel, 95 % within 0.047 pixel",
        "fluxes: median difference -0.12 %, scatter 0.76 %",
    ]
