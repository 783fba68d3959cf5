# SPDX-License-Identifier: BSD-3-Clause
"""The survey is in its store as it says, and its exposures are what a telescope would give."""

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from executor.demo import camera
from executor.demo.projection import Projection
from executor.demo.survey import PATCHES, Survey, make_survey
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import DirectoryObjectStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> DirectoryObjectStore:
    return DirectoryObjectStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def survey(store: DirectoryObjectStore) -> Survey:
    return make_survey(store)


def test_datasets_are_under_their_keys(survey: Survey, store: DirectoryObjectStore) -> None:
    assert {stored.key for stored in store.list_objects("")} == {d.key for d in survey.datasets}
    for dataset in survey.datasets:
        content = store.get(dataset.key)
        assert (len(content), checksum_of_bytes(content)) == (dataset.size_bytes, dataset.checksum)


def test_raws_and_calibrations_are_in_runs_of_their_own(survey: Survey) -> None:
    assert {(d.dataset_type, d.run) for d in survey.datasets} == {
        ("raw", "raw/all"),
        *((name, "calib") for name in ("bias", "flat", "reference_image", "reference_catalog")),
    }
    first = next(d for d in survey.datasets if d.data_id == {"exposure": 1})
    assert first.key == "raw/all/raw/raw_1.fits"


def test_another_seed_is_another_night(survey: Survey, tmp_path: Path) -> None:
    other = make_survey(DirectoryObjectStore(tmp_path), seed=1)
    same = [a for a, b in zip(survey.datasets, other.datasets, strict=True) if a == b]
    assert [d.dataset_type for d in same] == ["reference_image", "reference_catalog"]


def test_headers_tell_what_an_observer_knows(survey: Survey, store: DirectoryObjectStore) -> None:
    for exposure in survey.exposures:
        [known] = [d for d in survey.datasets if d.data_id == {"exposure": exposure.number}]
        with fits.open(io.BytesIO(store.get(known.key))) as hdus:
            header, pixels = hdus[0].header, hdus[0].data
            assert header["EXPID"] == exposure.number
            assert (header["GAIN"], header["RDNOISE"]) == (1.6, 5.0)
            assert header["AIRMASS"] == exposure.record["airmass"]
            assert pixels.dtype.kind == "u" and pixels.max() <= camera.SATURATION_ADU
            x, y = Projection.from_header(header).origin_in(survey.projection)
        assert abs(x - exposure.footprint.x) <= 0.5
        assert abs(y - exposure.footprint.y) <= 0.5


def test_every_patch_is_seen_three_times(survey: Survey) -> None:
    whole = PATCHES.whole()
    depth = np.zeros((300, 300), dtype=int)
    for exposure in survey.exposures:
        depth[exposure.footprint.slices()] += 1
    assert depth[whole.slices()].min() >= 3
    assert depth.max() == 12


def test_dithers_are_by_parts_of_a_pixel(survey: Survey, store: DirectoryObjectStore) -> None:
    phases = []
    for dataset in survey.datasets:
        if dataset.dataset_type == "raw":
            with fits.open(io.BytesIO(store.get(dataset.key))) as hdus:
                phases.append(hdus[0].header["CRPIX1"] % 1.0)
    assert np.ptp(phases) > 0.5


def test_view_shifts_by_parts_of_a_pixel() -> None:
    row, column = np.indices((260, 260), dtype=float)
    sky = np.exp(-0.5 * ((column - 100.0) ** 2 + (row - 120.0) ** 2) / 1.5**2)
    seen = camera.view(sky, 20.25, 30.5, 0.0)
    row, column = np.indices(seen.shape, dtype=float)
    expected = np.exp(-0.5 * ((column - 79.75) ** 2 + (row - 89.5) ** 2) / 1.5**2)
    np.testing.assert_allclose(seen, expected, atol=2e-4)
    blurred = camera.view(sky, 20.25, 30.5, 1.0)
    np.testing.assert_allclose(blurred, expected ** (2.25 / 3.25) * 2.25 / 3.25, atol=2e-4)
