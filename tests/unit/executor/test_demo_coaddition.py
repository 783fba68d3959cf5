# SPDX-License-Identifier: BSD-3-Clause
"""Coadds weigh exposures by their noise, drop what is in one only, and keep bright stars."""

import numpy as np
import pytest

from executor.demo.coaddition import coadd_warps, warp_exposure
from executor.demo.patches import Box
from executor.demo.projection import Array

SIGMAS = np.array([2.0, 2.0, 4.0, 8.0])
SHAPE = (120, 120)


def _warps(sky: Array, seed: int = 3) -> Array:
    """Exposures of a sky with the noise of SIGMAS: exposure, plane, row, column."""
    random = np.random.default_rng(seed)
    planes = [
        [sky + random.normal(0.0, sigma, SHAPE), np.full(SHAPE, sigma**2)] for sigma in SIGMAS
    ]
    return np.array(planes)


def test_weights_make_the_least_noise() -> None:
    result = coadd_warps(_warps(np.full(SHAPE, 10.0)), SIGMAS)
    best = 1.0 / np.sum(1.0 / SIGMAS**2)
    assert result.image.mean() == pytest.approx(10.0, abs=0.06)
    assert result.image.var() == pytest.approx(best, rel=0.04)
    assert np.median(result.variance) == pytest.approx(best)
    assert result.n_clipped < 10


def test_what_is_in_one_exposure_only_is_dropped() -> None:
    warps = _warps(np.full(SHAPE, 10.0))
    warps[1, 0, 30:33, 40] += 300.0
    warps[2, 0, 50, 50] -= 300.0
    result = coadd_warps(warps, SIGMAS)
    assert np.abs(result.image - 10.0).max() < 8.0
    assert (result.n_exposures[30:33, 40] == 3).all()


def test_of_two_exposures_the_brighter_is_wrong() -> None:
    warps = _warps(np.full(SHAPE, 10.0))[:2]
    warps[0, 0, 60, 60] += 500.0
    assert abs(coadd_warps(warps, SIGMAS[:2]).image[60, 60] - 10.0) < 10.0


def test_seeing_is_no_reason_to_drop_a_star() -> None:
    row, column = np.indices(SHAPE)
    squares = (row - 60.0) ** 2 + (column - 60.0) ** 2
    # The brightest star of the survey, under the best and the worst of its weather.
    flux, widths = 45_000.0, (1.42, 1.5, 1.55, 1.62)
    stars = [flux / (2 * np.pi * s**2) * np.exp(-0.5 * squares / s**2) for s in widths]
    warps = np.array([[star, np.full(SHAPE, 16.0) + star / 8.0] for star in stars])
    result = coadd_warps(warps, SIGMAS)
    assert result.n_clipped == 0
    assert result.image.sum() == pytest.approx(flux, rel=1e-3)


def test_noise_of_a_star_does_not_make_it_fainter() -> None:
    random = np.random.default_rng(4)
    electrons = random.poisson(400.0, (4, *SHAPE)).astype(float)
    warps = np.stack([electrons, electrons], axis=1)
    assert coadd_warps(warps, np.ones(4)).image.mean() == pytest.approx(400.0, abs=0.4)


def test_pixels_that_no_exposure_knows_have_infinite_variance() -> None:
    warps = _warps(np.zeros(SHAPE))
    warps[:, 0, 5, 5], warps[:, 1, 5, 5] = 0.0, np.inf
    warps[:3, 1, 6, 6] = np.inf
    result = coadd_warps(warps, SIGMAS)
    assert result.variance[5, 5] == np.inf
    assert (result.image[5, 5], result.n_exposures[5, 5]) == (0.0, 0)
    assert (result.variance[6, 6], result.n_exposures[6, 6]) == (64.0, 1)


def test_a_warp_is_on_whole_pixels_of_the_grid() -> None:
    row, column = np.indices((60, 70), dtype=float)
    image = 3.0 * column + 5.0 * row
    warp = warp_exposure(image, np.ones((60, 70)), np.zeros((60, 70), dtype=bool), (10.25, -4.5))
    assert warp.box == Box(14, -1, 78, 53)
    # A slope is resampled to about a hundredth of a pixel.
    expected = 3.0 * (14 - 10.25) + 5.0 * (-1 + 4.5)
    assert warp.image[0, 0] == pytest.approx(expected, abs=0.1)


def test_a_cut_beyond_a_warp_is_unknown() -> None:
    bad = np.zeros((60, 70), dtype=bool)
    bad[20, 30] = True
    warp = warp_exposure(np.ones((60, 70)), np.ones((60, 70)), bad, (0.0, 0.0))
    image, variance = warp.cut(Box(-5, 0, 45, 40))
    assert image.shape == (40, 50)
    assert np.isinf(variance[:, :8]).all()
    assert np.isfinite(variance[3:, 8:]).sum() == 37 * 42 - 1
    assert np.isinf(variance[20, 35])
    assert warp.cut(Box(500, 500, 510, 510))[1].min() == np.inf
