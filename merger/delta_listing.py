# SPDX-License-Identifier: BSD-3-Clause
"""The listing of a RUN's deltas, packed: 32 bytes for each, however many there are."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from merger.packed_ids import PackedIds, pack_ids, unpack_ids
from registry import names
from registry.delta import read_delta
from registry.errors import FormatError
from transfer_plugins.object_store import (
    ObjectNotFoundError,
    ObjectStore,
    TransferRefusedError,
)

__all__ = ["DeltaListing", "PackedIds", "list_deltas", "pack_ids", "unpack_ids"]


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

    def all_keys(self, start: int = 0) -> Iterator[str]:
        """Give the keys in the order of their attempts, from a place on."""
        for first in range(start, len(self), _AT_ONCE):
            yield from self.keys(first, first + _AT_ONCE)

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
    prefix = names.delta_prefix(run)
    found = store.list_keys(prefix)
    parts, strangers = [_pack_keys([], prefix)], []
    while keys := list(itertools.islice(found, _AT_ONCE)):
        try:
            parts.append(_pack_keys(keys, prefix))
        except ValueError:
            # Some key is another's; the rest is packed without it.
            is_delta = [_is_delta_key(key, run) for key in keys]
            strangers += [key for key, is_one in zip(keys, is_delta, strict=True) if not is_one]
            parts.append(_pack_keys(list(itertools.compress(keys, is_delta)), prefix))
    pairs = np.concatenate(parts)
    pairs = pairs[np.lexsort((pairs["quantum"], pairs["attempt"]))]
    # A key may be listed twice.
    is_same = (pairs["attempt"][1:] == pairs["attempt"][:-1]) & (
        pairs["quantum"][1:] == pairs["quantum"][:-1]
    )
    pairs = np.delete(pairs, np.flatnonzero(is_same) + 1)
    listed = DeltaListing(run, pairs["attempt"].copy(), pairs["quantum"].copy())
    copies = _copies(store, listed)
    is_copy = np.zeros(len(listed), bool)
    is_copy[copies] = True
    strangers += [listed.keys(place, place + 1)[0] for place in copies]
    strangers = sorted(set(map(names.printable, strangers)))
    return DeltaListing(run, listed.attempts[~is_copy], listed.quanta[~is_copy], strangers)


def _copies(store: ObjectStore, listed: DeltaListing) -> list[int]:
    """Return the places of keys whose attempt another key has that is its delta's own.

    A copy under another name must not keep the delta out, so the deltas themselves are asked.
    If none or several say that the key is theirs, the first key counts.
    """
    attempts, copies = listed.attempts, []
    again = np.flatnonzero(attempts[1:] == attempts[:-1]) + 1
    for start in (int(a) - 1 for a in again if a == 1 or attempts[a - 2] != attempts[a]):
        stop = start + 1
        while stop < len(listed) and attempts[stop] == attempts[start]:
            stop += 1
        own = next((p for p in range(start, stop) if _is_own_key(store, listed, p)), start)
        copies += [place for place in range(start, stop) if place != own]
    return copies


def _is_own_key(store: ObjectStore, listed: DeltaListing, place: int) -> bool:
    (key,) = listed.keys(place, place + 1)
    try:
        read_delta(store.get(key), key)
    except (FormatError, ObjectNotFoundError, TransferRefusedError):
        return False
    return True


def _pack_keys(keys: Sequence[str], prefix: str) -> "np.ndarray[Any, Any]":
    """Return attempts and quanta of keys; ValueError if one is not that of a delta."""
    quantum, attempt, end = len(prefix), len(prefix) + 37, len(prefix) + 73
    if not all(k[end:] == ".json" and k[attempt - 1 : attempt] == "." for k in keys):
        raise ValueError("a key is not that of a delta")
    pairs = np.empty(len(keys), [("attempt", "S16"), ("quantum", "S16")])
    pairs["attempt"] = pack_ids([key[attempt:end] for key in keys])
    pairs["quantum"] = pack_ids([key[quantum : attempt - 1] for key in keys])
    return pairs


def _is_delta_key(key: str, run: str) -> bool:
    named = names.parse_delta_key(key)
    return named is not None and key == names.delta_key(run, *named)
