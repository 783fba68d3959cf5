# SPDX-License-Identifier: BSD-3-Clause
"""A resampled image has its stars where they belong, their flux, and a known noise."""

import numpy as np
import pytest

from executor.demo.projection import Array
from executor.demo.resampling import convolve, gaussian_kernel, lanczos_kernel, shift, shift_mask

FRACTIONS = [0.0, 0.1, 0.5, 0.77]


def _star(x: float, y: float, sigma_px: float = 1.5) -> Array:
    row, column = np.indices((41, 41), dtype=float)
    return np.asarray(np.exp(-0.5 * ((column - x) ** 2 + (row - y) ** 2) / sigma_px**2))


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_a_star_keeps_place_shape_and_flux(fraction: float) -> None:
    moved, _ = shift(_star(20.0, 20.0), np.ones((41, 41)), fraction, 0.3)
    np.testing.assert_allclose(moved, _star(20.0 - fraction, 19.7), atol=0.012)
    assert moved.sum() == pytest.approx(_star(20.0, 20.0).sum(), rel=1e-3)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_even_sky_stays_even(fraction: float) -> None:
    moved, _ = shift(np.full((20, 20), 7.0), np.ones((20, 20)), fraction, fraction)
    np.testing.assert_allclose(moved, 7.0, rtol=1e-12)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_variance_is_that_of_the_resampled_noise(fraction: float) -> None:
    random = np.random.default_rng(1)
    noise = random.normal(0.0, 3.0, (400, 400))
    moved, variance = shift(noise, np.full((400, 400), 9.0), fraction, 0.5)
    assert moved.var() == pytest.approx(variance[200, 200], rel=0.03)


def test_no_shift_changes_nothing() -> None:
    assert lanczos_kernel(0.0) == pytest.approx([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], abs=1e-15)


def test_bad_pixels_spread_to_the_pixels_that_they_touch() -> None:
    bad = np.zeros((5, 5), dtype=bool)
    bad[2, 2] = True
    touched = shift_mask(bad, 0.25, 0.0)
    assert touched[2].tolist() == [0.0, 0.25, 0.75, 0.0, 0.0]
    assert touched[[0, 1, 3, 4]].max() == 0.0


def test_convolution_is_centred() -> None:
    image = np.zeros((21, 21))
    image[10, 10] = 1.0
    kernel = gaussian_kernel(1.2)
    assert sum(kernel) == pytest.approx(1.0)
    blurred = convolve(image, kernel, kernel)
    np.testing.assert_allclose(blurred, blurred[::-1, ::-1], atol=1e-15)
    assert blurred.argmax() == image.argmax()
