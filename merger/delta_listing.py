# SPDX-License-Identifier: BSD-3-Clause
"""The listing of a RUN's deltas, packed: 32 bytes for each, however many there are."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from registry import names
from transfer_plugins.object_store import ObjectStore

PackedIds = np.ndarray[Any, np.dtype[np.bytes_]]
"""UUIDs as strings of 16 bytes, which compare as PostgreSQL compares UUIDs."""


@dataclass(frozen=True, slots=True)
class DeltaListing:
    """Deltas of a RUN, ordered by attempt id and so by time."""

    run: str
    attempts: PackedIds
    quanta: PackedIds
    """Quantum of each attempt."""
    strangers: list[str] = field(default_factory=list)
    """Keys below the prefix that are not those of a delta."""

    def __len__(self) -> int:
        return len(self.attempts)

    def keys(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Return the keys of some deltas, in the order of their attempts."""
        quanta = unpack_ids(self.quanta[start:stop])
        attempts = unpack_ids(self.attempts[start:stop])
        return [names.delta_key(self.run, q, a) for q, a in zip(quanta, attempts, strict=True)]

    def attempt_ids(self) -> Iterator[str]:
        """Give the attempt ids in order."""
        for start in range(0, len(self), _AT_ONCE):
            yield from unpack_ids(self.attempts[start : start + _AT_ONCE])

    def only(self, attempts: PackedIds) -> "DeltaListing":
        """Return the listing of these attempts, as far as they are listed; without strangers."""
        is_wanted = np.isin(self.attempts, attempts)
        return DeltaListing(self.run, self.attempts[is_wanted], self.quanta[is_wanted])

    def without(self, attempts: PackedIds) -> "DeltaListing":
        """Return the listing of all other attempts; without strangers."""
        is_wanted = ~np.isin(self.attempts, attempts)
        return DeltaListing(self.run, self.attempts[is_wanted], self.quanta[is_wanted])

    def find(self, attempt_id: str) -> str | None:
        """Return the key of an attempt's delta, or None."""
        wanted = pack_ids([attempt_id])
        place = int(np.searchsorted(self.attempts, wanted)[0])
        if place == len(self) or self.attempts[place] != wanted[0]:
            return None
        return self.keys(place, place + 1)[0]


_AT_ONCE = 10_000


def list_deltas(store: ObjectStore, run: str) -> DeltaListing:
    """List the deltas of a RUN.

    Raises
    ------
    transfer_plugins.object_store.TransferError
    """
    ids, strangers = bytearray(), []
    for stored in store.list_objects(names.delta_prefix(run)):
        named = names.parse_delta_key(stored.key)
        if named is None or stored.key != names.delta_key(run, *named):
            strangers.append(stored.key)
        else:
            ids += bytes.fromhex(named[1].replace("-", "")) + bytes.fromhex(
                named[0].replace("-", "")
            )
    pairs = np.frombuffer(bytes(ids), [("attempt", "S16"), ("quantum", "S16")])
    order = np.argsort(pairs["attempt"], kind="stable")
    attempts, quanta = pairs["attempt"][order], pairs["quantum"][order]
    is_again = np.zeros(len(order), bool)
    is_again[1:] = attempts[1:] == attempts[:-1]
    again = DeltaListing(run, attempts[is_again], quanta[is_again])
    strangers = sorted([*strangers, *again.keys()])
    return DeltaListing(run, attempts[~is_again], quanta[~is_again], strangers)


def pack_ids(texts: list[str]) -> PackedIds:
    """Return UUIDs in canonical form as 16 bytes each."""
    return np.frombuffer(bytes.fromhex("".join(texts).replace("-", "")), "S16")


def unpack_ids(packed: PackedIds) -> list[str]:
    """Return UUIDs in canonical form."""
    # numpy drops zeros at the end of a string, so not one by one from the array.
    content = np.ascontiguousarray(packed).tobytes()
    return [str(uuid.UUID(bytes=content[i : i + 16])) for i in range(0, len(content), 16)]
