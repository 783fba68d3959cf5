# SPDX-License-Identifier: BSD-3-Clause
"""Frames between this process and the reading process: a header in JSON, then raw buffers.

::

    length of the header (4 bytes, big-endian) | header | buffers, as long as the header tells

Nothing in a frame can make its reader run anything.
"""

from collections.abc import Sequence
from typing import IO, Any

import msgspec

Buffer = bytes | bytearray | memoryview


class FrameError(Exception):
    """A frame ends early; its writer died."""


def write_frame(file: IO[bytes], header: dict[str, Any], buffers: Sequence[Buffer] = ()) -> None:
    """Write a frame, and flush it."""
    lengths = [memoryview(buffer).nbytes for buffer in buffers]
    head = msgspec.json.encode({**header, "lengths": lengths})
    file.write(len(head).to_bytes(4, "big") + head)
    for buffer in buffers:
        file.write(buffer)
    file.flush()


def read_frame(file: IO[bytes]) -> tuple[dict[str, Any], list[bytearray]] | None:
    """Read a frame; None where frames end.

    Raises
    ------
    FrameError
        If it is not whole.
    """
    length = file.read(4)
    if not length:
        return None
    head = file.read(int.from_bytes(length, "big"))
    try:
        header: dict[str, Any] = msgspec.json.decode(head)
    except msgspec.DecodeError as error:
        raise FrameError("a frame without a whole header") from error
    return header, [_read_exactly(file, length) for length in header["lengths"]]


def _read_exactly(file: IO[bytes], length: int) -> bytearray:
    buffer = bytearray(length)
    view, n_read = memoryview(buffer), 0
    while n_read < length:
        n_new = file.readinto(view[n_read:])  # type: ignore[attr-defined]
        if not n_new:
            raise FrameError(f"expected {length} bytes, found {n_read}")
        n_read += n_new
    return buffer
