# SPDX-License-Identifier: BSD-3-Clause
"""Star lists survive JSON and FITS."""

import json

import numpy as np
import pytest
from astropy.io import fits

from executor.demo.projection import Projection
from executor.demo.star_list import StarList, join

SKY = Projection(250.4226, 36.4602, 149.5, 149.5, -0.0002777, 0.0002777)
STARS = StarList(
    np.array([149.5, 20.1234]),
    np.array([149.5, 30.5]),
    np.array([100.0, 10_000.0]),
    np.array([10.0, 20.0]),
    np.array([True, False]),
)


def _equal(one: StarList, other: StarList) -> bool:
    return all(
        np.allclose(getattr(one, name), getattr(other, name), rtol=1e-6)
        for name in ("x", "y", "flux", "flux_error", "is_isolated")
    )


def test_json_is_read_back() -> None:
    assert _equal(StarList.from_json(json.loads(json.dumps(STARS.to_json()))), STARS)


def test_fits_table_is_read_back() -> None:
    assert _equal(StarList.from_table(STARS.to_table(SKY)), STARS)


def test_fits_table_has_sky_and_magnitudes() -> None:
    table: fits.FITS_rec = STARS.to_table(SKY).data
    assert table["ra"][0] == pytest.approx(250.4226)
    assert table["dec"][0] == pytest.approx(36.4602)
    assert table["magnitude"].tolist() == pytest.approx([20.0, 15.0])
    assert table["magnitude_error"][0] == pytest.approx(0.1086, rel=1e-3)


def test_lists_are_joined_and_moved() -> None:
    both = join([STARS, STARS.moved(1.0, -1.0)])
    assert len(both) == 4
    assert both.x[2] == 150.5
    assert both.y[3] == 29.5
