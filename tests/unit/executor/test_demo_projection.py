# SPDX-License-Identifier: BSD-3-Clause
"""The hand-written projection gives what astropy's WCS gives for the same header."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from executor.demo.projection import Projection

SKY = Projection(250.4226, 36.4602, 149.5, 149.5, -0.0002777, 0.0002777)


def test_sky_agrees_with_astropy() -> None:
    x, y = np.array([0.0, 149.5, 299.0, 10.25]), np.array([0.0, 149.5, 150.0, 250.75])
    header = fits.Header()
    header.update(SKY.header())
    ra, dec = SKY.sky(x, y)
    expected_ra, expected_dec = WCS(header).all_pix2world(x, y, 0)
    np.testing.assert_allclose(ra, expected_ra, atol=1e-10)
    np.testing.assert_allclose(dec, expected_dec, atol=1e-10)


def test_right_ascension_stays_below_a_circle() -> None:
    ra, _ = Projection(0.0, 0.0, 0.0, 0.0, -0.01, 0.01).sky(np.array([5.0]), np.array([0.0]))
    assert ra[0] == pytest.approx(359.95)


def test_header_is_read_back() -> None:
    assert Projection.from_header(SKY.header()) == SKY


def test_a_cut_out_knows_where_it_was_cut() -> None:
    x, y = SKY.moved(-20.25, -31.5).origin_in(SKY)
    assert (x, y) == (20.25, 31.5)
    assert SKY.moved(-20.25, -31.5).sky(np.array([1.0]), np.array([2.0])) == SKY.sky(
        np.array([21.25]), np.array([33.5])
    )


def test_another_tangent_point_is_refused() -> None:
    other = Projection(250.5, 36.4602, 149.5, 149.5, -0.0002777, 0.0002777)
    with pytest.raises(ValueError, match=r"expected the tangent plane \(250\.5"):
        SKY.origin_in(other)
