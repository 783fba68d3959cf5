# SPDX-License-Identifier: BSD-3-Clause
"""The image of M13 is found in astropy, and its absence is told clearly."""

import importlib.resources
from pathlib import Path

import pytest

from executor.demo.original_image import (
    OriginalImageError,
    find_original_image,
    read_original_image,
)


def test_the_installed_astropy_carries_m13() -> None:
    image = read_original_image()
    assert image.pixels.shape == (300, 300)
    assert image.projection.ra_deg == pytest.approx(250.4226)


def test_an_astropy_without_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(OriginalImageError, match=r"expected the image of M13 in astropy at one of"):
        find_original_image()


def test_an_older_place_is_looked_at_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "io/fits/tests/data/m13.fits"
    place.parent.mkdir(parents=True)
    place.touch()
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    assert find_original_image() == place


def test_a_missing_astropy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> Path:
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(importlib.resources, "files", missing)
    with pytest.raises(OriginalImageError, match=r"install quantum-exec\[demo\]"):
        find_original_image()
