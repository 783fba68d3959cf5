# SPDX-License-Identifier: BSD-3-Clause
"""Star list: places and fluxes of stars, as arrays in memory, as JSON, and as a FITS table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from executor.demo.projection import Array, Projection

if TYPE_CHECKING:
    from astropy.io import fits

ZERO_POINT_MAG = 25.0
"""Magnitude of a star with flux 1 in the counts of the original image: any number would do."""


@dataclass(frozen=True, slots=True)
class StarList:
    """Stars, one element each.

    Places are in pixels of the image they were measured on, or of the sky's grid, fluxes in its
    unit. A star is isolated if no neighbour spoils its flux.
    """

    x: Array
    y: Array
    flux: Array
    flux_error: Array
    is_isolated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)

    def select(self, which: NDArray[Any]) -> "StarList":
        """Return the stars of a mask or of indices."""
        return StarList(*(getattr(self, field.name)[which] for field in fields(self)))

    def moved(self, x: float, y: float) -> "StarList":
        """Return the stars with their places shifted (pixels)."""
        return replace(self, x=self.x + x, y=self.y + y)

    def to_json(self) -> dict[str, list[Any]]:
        """Return columns of plain numbers, with the digits that mean something."""
        return {
            "x": [round(float(v), 4) for v in self.x],
            "y": [round(float(v), 4) for v in self.y],
            "flux": [round(float(v), 3) for v in self.flux],
            "flux_error": [round(float(v), 3) for v in self.flux_error],
            "is_isolated": [bool(v) for v in self.is_isolated],
        }

    @classmethod
    def from_json(cls, columns: Mapping[str, Sequence[Any]]) -> "StarList":
        """Read what `to_json` wrote."""
        x, y, flux, error = (
            np.array(columns[name], dtype=float) for name in ("x", "y", "flux", "flux_error")
        )
        return cls(x, y, flux, error, np.array(columns["is_isolated"], dtype=bool))

    def to_table(self, projection: Projection) -> "fits.BinTableHDU":
        """Return a FITS table with places on the sky (degrees) and magnitudes besides."""
        from astropy.io import fits

        ra, dec = projection.sky(self.x, self.y)
        magnitude = ZERO_POINT_MAG - 2.5 * np.log10(self.flux)
        error = 2.5 / np.log(10.0) * self.flux_error / self.flux
        columns = [
            fits.Column("ra", "D", unit="deg", array=ra.round(8)),
            fits.Column("dec", "D", unit="deg", array=dec.round(8)),
            fits.Column("x", "E", unit="pixel", array=self.x),
            fits.Column("y", "E", unit="pixel", array=self.y),
            fits.Column("flux", "E", unit="count", array=self.flux),
            fits.Column("flux_error", "E", unit="count", array=self.flux_error),
            fits.Column("magnitude", "E", unit="mag", array=magnitude),
            fits.Column("magnitude_error", "E", unit="mag", array=error),
            fits.Column("is_isolated", "L", array=self.is_isolated),
        ]
        return fits.BinTableHDU.from_columns(columns, name="STARS")

    @classmethod
    def from_table(cls, table: "fits.BinTableHDU") -> "StarList":
        """Read what `to_table` wrote."""
        x, y, flux, error = (
            np.array(table.data[name], dtype=float) for name in ("x", "y", "flux", "flux_error")
        )
        return cls(x, y, flux, error, np.array(table.data["is_isolated"], dtype=bool))


def join(lists: Sequence[StarList]) -> StarList:
    """Return the stars of several lists in one."""
    return StarList(
        *(np.concatenate([getattr(one, field.name) for one in lists]) for field in fields(StarList))
    )
