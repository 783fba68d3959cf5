# SPDX-License-Identifier: BSD-3-Clause
"""Zero point and pointing error are found again, outliers or not."""

from dataclasses import replace

import numpy as np
import pytest

from executor.demo.calibration import CalibrationError, calibrate_stars, match
from executor.demo.comparison import ComparisonError, compare
from executor.demo.patches import Box
from executor.demo.star_list import StarList

ORIGIN = (12.0, 8.0)
"""Where the header puts the exposure; it is 0.8 pixels further right and 1.1 further down."""


def _reference(n: int = 40) -> StarList:
    random = np.random.default_rng(9)
    columns, rows = np.divmod(np.arange(n), 7)
    x, y = (20.0 * index + random.uniform(20.0, 24.0, n) for index in (columns, rows))
    flux = random.uniform(500.0, 30_000.0, n)
    return StarList(x, y, flux, np.sqrt(flux), np.ones(n, dtype=bool))


def _exposure(reference: StarList) -> StarList:
    random = np.random.default_rng(10)
    n = len(reference)
    flux = 6.5 * reference.flux * random.normal(1.0, 0.01, n)
    return StarList(
        reference.x - 12.8 + random.normal(0.0, 0.03, n),
        reference.y - 6.9 + random.normal(0.0, 0.03, n),
        flux,
        np.sqrt(flux),
        reference.is_isolated,
    )


def test_pointing_error_and_zero_point() -> None:
    reference = _reference()
    found = calibrate_stars(_exposure(reference), reference, ORIGIN)
    assert (found.origin_x_px, found.origin_y_px) == pytest.approx((12.8, 6.9), abs=0.015)
    assert found.pointing_error_x_px == pytest.approx(0.8, abs=0.015)
    assert found.pointing_error_y_px == pytest.approx(-1.1, abs=0.015)
    assert found.zero_point_mag == pytest.approx(25.0 + 2.5 * np.log10(6.5), abs=0.005)
    assert found.counts_per_electron == pytest.approx(1.0 / 6.5, rel=0.005)
    assert found.position_scatter_px == pytest.approx(0.03, rel=0.4)
    assert found.zero_point_scatter_mag == pytest.approx(0.0109, rel=0.4)
    assert found.n_stars == 40


def test_cosmic_rays_on_some_stars_do_not_count() -> None:
    reference = _reference()
    stars = _exposure(reference)
    flux = stars.flux.copy()
    flux[:8] *= 3.0
    found = calibrate_stars(replace(stars, flux=flux), reference, ORIGIN)
    assert found.counts_per_electron == pytest.approx(1.0 / 6.5, rel=0.01)


def test_stars_with_neighbours_do_not_count() -> None:
    reference = _reference()
    spoilt = np.arange(40) % 2 == 0
    stars = _exposure(reference)
    stars = replace(stars, flux=np.where(spoilt, 2 * stars.flux, stars.flux), is_isolated=~spoilt)
    found = calibrate_stars(stars, reference, ORIGIN)
    assert found.counts_per_electron == pytest.approx(1.0 / 6.5, rel=0.005)
    assert found.n_stars == 20


def test_too_few_stars_are_an_error() -> None:
    reference = _reference(4)
    with pytest.raises(CalibrationError, match=r"expected at least 5 of 4 stars within 4\.0 px"):
        calibrate_stars(_exposure(reference), reference, ORIGIN)
    empty = reference.select(np.zeros(4, dtype=bool))
    with pytest.raises(CalibrationError, match="found 0"):
        calibrate_stars(empty, reference, ORIGIN)


def test_a_match_is_mutual() -> None:
    reference = _reference(3)
    twice = np.array([0, 0, 2])
    stars = replace(reference.select(twice), x=reference.x[twice] + np.array([0.4, 0.1, 0.0]))
    mine, theirs = match(stars, reference, 1.0)
    assert (mine.tolist(), theirs.tolist()) == ([1, 2], [0, 2])


def test_comparison_counts_what_is_missing_and_what_is_off() -> None:
    reference = _reference()
    bright = (reference.flux > 1500.0) & (reference.x < 100.0)
    found = replace(reference, x=reference.x + 0.25, flux=1.02 * reference.flux).select(
        np.arange(1, 40)
    )
    result = compare(found, reference, Box(0, 0, 100, 300))
    assert result.n_reference == bright.sum()
    assert result.n_matched == bright[1:].sum()
    assert result.position_error_median_px == pytest.approx(0.25)
    assert result.position_offset_x_px == pytest.approx(0.25)
    assert result.position_offset_y_px == pytest.approx(0.0)
    assert result.flux_ratio_median == pytest.approx(1.02)
    assert result.flux_scatter == pytest.approx(0.0, abs=1e-9)


def test_a_catalogue_of_another_sky_is_an_error() -> None:
    reference = _reference()
    with pytest.raises(ComparisonError, match="found none among 40"):
        compare(reference.moved(1000.0, 0.0), reference, Box(0, 0, 300, 300))
