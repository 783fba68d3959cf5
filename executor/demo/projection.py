# SPDX-License-Identifier: BSD-3-Clause
"""Projection: between pixels and the sky, read from and written to FITS header keywords.

By hand, because ``astropy.wcs`` takes as long to import as everything else in a quantum, and the
gnomonic projection without rotation is all that the survey has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Projection:
    """A gnomonic (TAN) projection with its axes along right ascension and declination.

    ``ra_deg`` and ``dec_deg`` are the point where the plane touches the sphere (degrees), ``x`` and
    ``y`` its place in the image (pixels, the first one has its centre at 0), ``x_scale_deg`` and
    ``y_scale_deg`` the size of a pixel (degrees; right ascension grows to the left).
    """

    ra_deg: float
    dec_deg: float
    x: float
    y: float
    x_scale_deg: float
    y_scale_deg: float

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "Projection":
        """Read the keywords of a FITS header, whose first pixel has its centre at 1."""
        return cls(
            float(header["CRVAL1"]),
            float(header["CRVAL2"]),
            float(header["CRPIX1"]) - 1.0,
            float(header["CRPIX2"]) - 1.0,
            float(header["CDELT1"]),
            float(header["CDELT2"]),
        )

    def header(self) -> dict[str, Any]:
        """Return the keywords of a FITS header."""
        return {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRVAL1": self.ra_deg,
            "CRVAL2": self.dec_deg,
            "CRPIX1": self.x + 1.0,
            "CRPIX2": self.y + 1.0,
            "CDELT1": self.x_scale_deg,
            "CDELT2": self.y_scale_deg,
            "EQUINOX": 2000.0,
        }

    def moved(self, x: float, y: float) -> "Projection":
        """Return the projection of the same sky in an image shifted by x, y (pixels)."""
        return replace(self, x=self.x + x, y=self.y + y)

    def origin_in(self, other: "Projection") -> tuple[float, float]:
        """Return where the first pixel of this image lies in another of the same plane (pixels).

        Raises
        ------
        ValueError
            If the two touch the sphere at different points or differ in scale: then a shift does
            not take one into the other.
        """
        mine = (self.ra_deg, self.dec_deg, self.x_scale_deg, self.y_scale_deg)
        theirs = (other.ra_deg, other.dec_deg, other.x_scale_deg, other.y_scale_deg)
        if not np.allclose(mine, theirs, rtol=0.0, atol=1e-9):
            raise ValueError(f"projection: expected the tangent plane {theirs}, found {mine}")
        return other.x - self.x, other.y - self.y

    def sky(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return right ascension and declination (degrees) of places in the image (pixels).

        The formulae are those of the gnomonic projection in Calabretta & Greisen (2002, A&A 395,
        1077), written for the tangent plane.
        """
        xi = np.radians((x - self.x) * self.x_scale_deg)
        eta = np.radians((y - self.y) * self.y_scale_deg)
        sin_dec, cos_dec = (
            math.sin(math.radians(self.dec_deg)),
            math.cos(math.radians(self.dec_deg)),
        )
        across = cos_dec - eta * sin_dec
        ra = self.ra_deg + np.degrees(np.arctan2(xi, across))
        dec = np.degrees(np.arctan2(sin_dec + eta * cos_dec, np.hypot(xi, across)))
        return ra % 360.0, dec
