# SPDX-License-Identifier: BSD-3-Clause
"""What the simulated camera does to the light is undone, and its noise is known."""

import numpy as np
import pytest

from executor.demo import camera
from executor.demo.instrument_signature import CorrectedExposure, remove_signature
from executor.demo.projection import Array


def _correct(light: Array, hits: Array, seed: int = 5) -> CorrectedExposure:
    random = np.random.default_rng(seed)
    detector = camera.build_camera(random)
    bias, flat = detector.bias_frame(random), detector.flat_frame(random)
    raw = detector.expose(light, hits, random)
    return remove_signature(
        raw, bias, flat, camera.GAIN_E_PER_ADU, camera.READ_NOISE_E, camera.SATURATION_ADU
    )


def _even(electrons: float) -> Array:
    return np.full((camera.SIDE_PX, camera.SIDE_PX), electrons)


@pytest.mark.parametrize("electrons", [30.0, 600.0, 20_000.0])
def test_even_light_comes_out_even_in_electrons(electrons: float) -> None:
    corrected = _correct(_even(electrons), _even(0.0))
    image, good = corrected.image, ~corrected.is_bad
    # What the flat calls 1 is a convention, which the zero point takes up.
    assert np.mean(image[good]) == pytest.approx(electrons, rel=0.005, abs=0.5)
    # Vignetting and dust are gone: the corners are as bright as the middle.
    corner, middle = image[:40, :40].mean(), image[70:110, 70:110].mean()
    assert corner == pytest.approx(middle, rel=0.01, abs=0.5)


@pytest.mark.parametrize("electrons", [30.0, 600.0, 20_000.0])
def test_variance_is_that_of_the_noise(electrons: float) -> None:
    corrected = _correct(_even(electrons), _even(0.0))
    good = ~corrected.is_bad
    pull = (corrected.image - electrons)[good] / np.sqrt(corrected.variance[good])
    assert np.std(pull) == pytest.approx(1.0, abs=0.04)


def test_variance_grows_where_the_response_is_low() -> None:
    corrected = _correct(_even(600.0), _even(0.0))
    edges = np.r_[0:30, -30:0]
    corners = np.ix_(edges, edges)
    pull = (corrected.image - 600.0)[corners] / np.sqrt(corrected.variance[corners])
    assert np.std(pull) == pytest.approx(1.0, abs=0.05)


def test_dead_columns_are_flagged_and_bridged() -> None:
    corrected = _correct(_even(600.0), _even(0.0))
    dead = list(camera.DEAD_COLUMNS)
    assert corrected.is_bad[:, dead].all()
    assert corrected.is_bad.sum() < 1.02 * corrected.is_bad[:, dead].size
    assert np.abs(corrected.image[:, dead] - 600.0).max() < 150.0


def test_saturated_pixels_are_flagged() -> None:
    light = _even(600.0)
    light[100, 100] = 1e6
    assert _correct(light, _even(0.0)).is_bad[100, 100]


def test_cosmic_rays_are_found_and_stars_are_not() -> None:
    row, column = np.indices((camera.SIDE_PX, camera.SIDE_PX), dtype=float)
    light, hits = _even(600.0), _even(0.0)
    for x, y in ((50.0, 50.0), (100.3, 80.7), (140.5, 20.5), (30.2, 120.9)):
        # Sharper than any star of the survey.
        light += 20_000.0 * np.exp(-0.5 * ((column - x) ** 2 + (row - y) ** 2) / 1.35**2)
    hits[150, 30:34] = 2000.0
    hits[[90, 91, 92], [20, 21, 22]] = 1500.0
    hits[60, 110] = 800.0
    corrected = _correct(light, hits)
    # Nothing can be found where the detector is blind.
    assert corrected.n_cosmic_ray_pixels == int((hits > 0).sum())
    assert corrected.is_bad[hits > 0].all()
    assert np.abs(corrected.image[hits > 0] - 600.0).max() < 200.0
