# SPDX-License-Identifier: BSD-3-Clause
"""Stars put into an image are found, at their places, with their fluxes and errors."""

import numpy as np
import pytest

from executor.demo.detection import robust_sigma, sky_level
from executor.demo.photometry import NoStarsError, measure_stars, star_width, with_isolation
from executor.demo.projection import Array
from executor.demo.star_list import StarList

SIDE = 400
SKY = 50.0
# Of a Gaussian of 1.5 pixels, within the aperture of 4 pixels, less what the ring takes for sky.
ENCLOSED = 1.0 - np.exp(-0.5 * (4.0 / 1.5) ** 2)


def _field(flux: float, sigma_px: float = 1.5, seed: int = 2) -> tuple[Array, Array, Array, Array]:
    """An image of stars on a loose grid, its variance, and the places of the stars."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices((12, 12)) * 30.0 + 30.0 + random.uniform(-1, 1, (2, 12, 12))
    x, y = columns.ravel(), rows.ravel()
    places = np.arange(SIDE)
    across, along = (np.exp(-0.5 * ((places - c[:, None]) / sigma_px) ** 2) for c in (x, y))
    height = flux / (2 * np.pi * sigma_px**2)
    light = SKY + height * np.einsum("ni,nj->ij", along, across)
    return random.poisson(light) - SKY, light, x, y


def _nearest(stars: StarList, x: Array, y: Array) -> Array:
    distance: Array = np.hypot(stars.x[:, None] - x, stars.y[:, None] - y)
    return distance


def test_every_star_is_found_once() -> None:
    image, variance, x, y = _field(3000.0)
    stars = measure_stars(image, variance)
    assert len(stars) == len(x)
    assert stars.is_isolated.all()
    assert sorted(_nearest(stars, x, y).argmin(axis=1)) == list(range(len(x)))


@pytest.mark.parametrize("flux", [3000.0, 100_000.0])
def test_fluxes_are_right_and_their_errors_too(flux: float) -> None:
    stars = measure_stars(*_field(flux)[:2])
    assert np.median(stars.flux) == pytest.approx(ENCLOSED * flux, rel=0.004)
    pull = robust_sigma((stars.flux - np.median(stars.flux)) / stars.flux_error)
    assert pull == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize(("flux", "expected_px"), [(3000.0, 0.05), (100_000.0, 0.009)])
def test_places_are_right_to_a_share_of_a_pixel(flux: float, expected_px: float) -> None:
    image, variance, x, y = _field(flux)
    stars = measure_stars(image, variance)
    distance = _nearest(stars, x, y)
    assert np.median(distance.min(axis=1)) < expected_px
    index = distance.argmin(axis=1)
    assert abs(np.mean(stars.x - x[index])) < expected_px / 3
    assert abs(np.mean(stars.y - y[index])) < expected_px / 3


def test_noise_alone_is_no_star() -> None:
    random = np.random.default_rng(6)
    image = (random.poisson(SKY, (SIDE, SIDE)) - SKY).astype(float)
    stars = measure_stars(image, np.full((SIDE, SIDE), SKY))
    assert len(stars) == 0
    with pytest.raises(NoStarsError, match="expected isolated stars"):
        star_width(image, stars)


def test_stars_on_unknown_pixels_are_left_out() -> None:
    image, variance, x, _ = _field(3000.0)
    unknown = variance.copy()
    column = round(float(x[0]))
    unknown[:, column] = np.inf
    stars = measure_stars(image, unknown)
    assert 0 < len(stars) < len(x)
    assert np.abs(stars.x - column).min() > 4.0


@pytest.mark.parametrize("sigma_px", [1.4, 1.7, 2.2])
def test_width_is_that_of_the_stars(sigma_px: float) -> None:
    image, variance, _, _ = _field(100_000.0, sigma_px)
    assert star_width(image, measure_stars(image, variance)) == pytest.approx(sigma_px, rel=0.02)


def test_sky_is_found_below_a_cluster() -> None:
    random = np.random.default_rng(8)
    row, column = np.indices((180, 180))
    cluster = 3000.0 * np.exp(-0.5 * ((row - 130.0) ** 2 + (column - 130.0) ** 2) / 35.0**2)
    image = random.poisson(600.0 + cluster).astype(float)
    assert sky_level(image) == pytest.approx(600.0, abs=10.0)
    assert np.median(image) > 620.0


def test_a_brighter_neighbour_spoils_a_star_and_a_faint_one_does_not() -> None:
    x, flux = np.array([0.0, 8.0, 40.0, 48.0, 90.0]), np.array([100.0, 500.0, 100.0, 5.0, 100.0])
    stars = StarList(x, np.zeros(5), flux, np.ones(5), np.zeros(5, dtype=bool))
    assert with_isolation(stars).is_isolated.tolist() == [False, True, True, False, True]
