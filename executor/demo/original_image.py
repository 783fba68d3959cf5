# SPDX-License-Identifier: BSD-3-Clause
"""Original image: M13 as a sky survey took it, carried by the astropy wheel."""

import importlib.resources
from dataclasses import dataclass
from importlib.resources.abc import Traversable

import numpy as np

from executor.demo.projection import Array, Projection
from registry.errors import QuantumExecError

# Tests of astropy read it; it moved there with astropy 5.3.
_PLACES = (
    "io/fits/hdu/compressed/tests/data/m13.fits",
    "io/fits/tests/data/m13.fits",
)


class OriginalImageError(QuantumExecError, LookupError):
    """The image of M13 is not where astropy keeps it; install another release of astropy."""

    error_type = "original_image"


@dataclass(frozen=True, slots=True)
class OriginalImage:
    """Pixels (counts of the survey's own scale, sky included) and their place on the sky."""

    pixels: Array
    projection: Projection


def find_original_image() -> Traversable:
    """Return the file in the installed astropy; raises `OriginalImageError`."""
    try:
        package = importlib.resources.files("astropy")
    except ModuleNotFoundError as error:
        raise OriginalImageError(
            "the demo takes its sky from astropy, which is not installed; "
            "install quantum-exec[demo]"
        ) from error
    for place in _PLACES:
        found = package / place
        if found.is_file():
            return found
    raise OriginalImageError(
        f"expected the image of M13 in astropy at one of {list(_PLACES)}, found none below "
        f"{package}; this build of astropy leaves out its test files"
    )


def read_original_image() -> OriginalImage:
    """Read the image of M13; raises `OriginalImageError` if astropy does not carry it."""
    from astropy.io import fits

    with importlib.resources.as_file(find_original_image()) as path, fits.open(path) as hdus:
        header = hdus[0].header
        return OriginalImage(np.array(hdus[0].data, dtype=float), Projection.from_header(header))
