# SPDX-License-Identifier: BSD-3-Clause
"""Picture: an image as PNG, with few enough lines not to need a plotting library.

matplotlib takes longer to import than the whole survey takes to coadd, and its PNG names its
release, so that two installations would differ in every checksum.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from executor.demo.projection import Array

# Nine steps of matplotlib's colour map inferno (by Smith and van der Walt, in the public domain):
# even for the eye, and also for one that does not see red and green apart.
_INFERNO = (
    (0, 0, 4),
    (31, 12, 72),
    (85, 15, 109),
    (136, 34, 106),
    (186, 54, 85),
    (227, 89, 51),
    (249, 140, 10),
    (249, 201, 50),
    (252, 255, 164),
)
_SOFTENING = 12.0
_WHITE = 2500.0
_STORED_BYTES = 65535


def stretch(counts: Array) -> NDArray[np.uint8]:
    """Return the brightness (0 to 255) of an image above the sky (counts of the original image).

    The inverse hyperbolic sine is linear for what is faint and logarithmic for what is bright
    (Lupton et al. 2004, PASP 116, 133); the same in every picture, so that they compare.
    """
    white = np.arcsinh(_WHITE / _SOFTENING)
    share = np.arcsinh((counts + _SOFTENING / 4) / _SOFTENING) / white
    return np.asarray(np.rint(255 * np.clip(share, 0.0, 1.0)), dtype=np.uint8)


def side_by_side(panels: list[NDArray[np.uint8]], gap_px: int = 2) -> NDArray[np.uint8]:
    """Return pictures of equal height in a row, with a light line between."""
    gap = np.full((panels[0].shape[0], gap_px), 255, dtype=np.uint8)
    row = [part for panel in panels for part in (gap, panel)][1:]
    return np.concatenate(row, axis=1)


def write_png(brightness: NDArray[np.uint8], zoom: int = 1) -> bytes:
    """Return a PNG (https://www.w3.org/TR/png-3/) with the first row of the image at the bottom.

    Parameters
    ----------
    zoom
        Side of the square that each pixel becomes.
    """
    rows = brightness[::-1].repeat(zoom, axis=0).repeat(zoom, axis=1)
    height, width = rows.shape
    # Each line begins with its filter, 0 for none.
    lines = np.pad(rows, ((0, 0), (1, 0))).astype(np.uint8).tobytes()
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", _palette()),
            _chunk(b"IDAT", _stored(lines)),
            _chunk(b"IEND", b""),
        )
    )


def _palette() -> bytes:
    steps = np.linspace(0.0, 255.0, len(_INFERNO))
    channels = [np.interp(np.arange(256), steps, c) for c in zip(*_INFERNO, strict=True)]
    colours: bytes = np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()
    return colours


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _stored(content: bytes) -> bytes:
    """Return a zlib stream (RFC 1950, 1951) of blocks that are not compressed.

    zlib and zlib-ng, which some systems have in its place, compress to different bytes; a picture
    must have the same checksum on every worker.
    """
    blocks = []
    for start in range(0, len(content), _STORED_BYTES):
        block = content[start : start + _STORED_BYTES]
        is_last = start + _STORED_BYTES >= len(content)
        blocks.append(struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block)
    return b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(content))
