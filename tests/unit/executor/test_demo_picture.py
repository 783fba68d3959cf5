# SPDX-License-Identifier: BSD-3-Clause
"""Pictures are PNG files that any reader opens, and show what they should."""

import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from executor.demo.picture import side_by_side, stretch, write_png


def _chunks(png: bytes) -> dict[bytes, bytes]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    found, place = {}, 8
    while place < len(png):
        (size,) = struct.unpack_from(">I", png, place)
        kind, content = png[place + 4 : place + 8], png[place + 8 : place + 8 + size]
        (checksum,) = struct.unpack_from(">I", png, place + 8 + size)
        assert checksum == zlib.crc32(kind + content)
        found[kind] = content
        place += 12 + size
    return found


def _rows(png: bytes) -> NDArray[np.uint8]:
    chunks = _chunks(png)
    width, height, *form = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert form == [8, 3, 0, 0, 0]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert (lines[:, 0] == 0).all()
    return lines[:, 1:]


@pytest.mark.parametrize("shape", [(3, 4), (300, 400)])
def test_pixels_come_back_with_north_up(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(_rows(write_png(pixels)), pixels[::-1])


def test_each_pixel_becomes_a_square() -> None:
    pixels = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    assert _rows(write_png(pixels, zoom=2)).tolist() == [[3, 3, 4, 4]] * 2 + [[1, 1, 2, 2]] * 2


def test_palette_goes_from_black_to_pale_yellow() -> None:
    palette = np.frombuffer(_chunks(write_png(np.zeros((1, 1), np.uint8)))[b"PLTE"], np.uint8)
    colours = palette.reshape(256, 3).astype(int)
    assert colours[0].tolist() == [0, 0, 4]
    assert colours[-1].tolist() == [252, 255, 164]
    # Luminance (ITU-R BT.709) grows all the way, so that the picture reads without colour too.
    luminance = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -0.5).all()


def test_stretch_shows_the_faint_and_the_bright() -> None:
    levels = stretch(np.array([-50.0, 0.0, 5.0, 20.0, 200.0, 2000.0, 1e6]))
    assert levels[0] == 0
    assert levels[-1] == 255
    assert (np.diff(levels.astype(int)) >= 8).all()


def test_panels_stand_side_by_side() -> None:
    panel = np.full((3, 5), 7, dtype=np.uint8)
    assert side_by_side([panel, panel], gap_px=2).shape == (3, 12)
