# SPDX-License-Identifier: BSD-3-Clause
"""UUIDs as numpy strings of 16 bytes: sorted, searched and kept by the million."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from merger.uuid_arrays import uuid_bytes

PackedIds = np.ndarray[Any, np.dtype[np.bytes_]]
"""UUIDs as strings of 16 bytes, which compare as PostgreSQL compares UUIDs."""


def pack_ids(texts: Sequence[str]) -> PackedIds:
    """Return UUIDs as 16 bytes each.

    Raises
    ------
    ValueError
        If one is not a UUID in its canonical form, lower case with hyphens.
    """
    return np.frombuffer(uuid_bytes(texts), "S16")


def unpack_ids(packed: PackedIds) -> list[str]:
    """Return UUIDs in canonical form."""
    # numpy drops zeros at the end of a string, so not one by one from the array.
    digits = np.ascontiguousarray(packed).tobytes().hex()
    return [
        f"{digits[i : i + 8]}-{digits[i + 8 : i + 12]}-{digits[i + 12 : i + 16]}-"
        f"{digits[i + 16 : i + 20]}-{digits[i + 20 : i + 32]}"
        for i in range(0, len(digits), 32)
    ]


def find_ids(ordered: PackedIds, wanted: PackedIds) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the place of each wanted id among ordered ones, -1 where it is not."""
    if len(ordered) == 0:
        return np.full(len(wanted), -1, np.int64)
    places = np.searchsorted(ordered, wanted)
    places[places == len(ordered)] = 0
    return np.where(ordered[places] == wanted, places, -1)


def with_place(places: np.ndarray[Any, Any], ids: PackedIds) -> PackedIds:
    """Return ids behind a number each, as strings that are equal only if both are."""
    rows = np.empty((len(ids), 20), np.uint8)
    rows[:, :4] = np.ascontiguousarray(places, ">u4").view(np.uint8).reshape(-1, 4)
    rows[:, 4:] = np.ascontiguousarray(ids).view(np.uint8).reshape(-1, 16)
    return rows.reshape(-1).view("S20")
