# SPDX-License-Identifier: BSD-3-Clause
"""Sizes and checksums that a table of files does not have, asked of the store."""

import array
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merger.source_table import BadRows, Numbers
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore, open_store

_THREADS = 16
_N_HEX = 64


class Measured:
    """What was found, in some 50 bytes per row.

    Parameters
    ----------
    store
        Where keys lie that are no URI.
    reads_bytes
        Read an object whose checksum the store does not know.
    """

    def __init__(self, store: ObjectStore | None, reads_bytes: bool) -> None:
        self._store = store
        self._reads_bytes = reads_bytes
        self._others: dict[str, ObjectStore] = {}
        self._numbers = array.array("q")
        self._sizes = array.array("q")
        self._digests = bytearray()

    def measure(
        self,
        numbers: Numbers,
        keys: pa.Array,
        sizes: pa.Array,
        checksums: pa.Array,
        bad: BadRows,
    ) -> None:
        """Ask for what some rows lack; an object that is not there makes a bad row.

        Raises
        ------
        transfer_plugins.object_store.TransferError
            If the store cannot be asked.
        """
        lacks = pc.or_(sizes.is_null(), checksums.is_null()).to_numpy(zero_copy_only=False)
        wanted = [
            (int(numbers[place]), keys[int(place)].as_py()) for place in np.flatnonzero(lacks)
        ]
        for _, key in wanted:
            self._place_of(key)
        with ThreadPoolExecutor(_THREADS, "measure") as pool:
            found = pool.map(lambda row: self._ask(row[1]), wanted)
            for (number, key), facts in zip(wanted, found, strict=True):
                if facts is None:
                    bad.add(number, None, "an object that exists", repr(key))
                    continue
                self._numbers.append(number)
                self._sizes.append(facts[0])
                self._digests += bytes.fromhex(facts[1][-_N_HEX:]) if facts[1] else bytes(32)

    def complete(
        self, numbers: Numbers, sizes: pa.Array, checksums: pa.Array
    ) -> tuple[pa.Array, pa.Array]:
        """Fill in what was found for these rows; the table goes before the store."""
        if not len(self._numbers):
            return sizes, checksums
        known = np.frombuffer(self._numbers, np.int64)
        places = np.searchsorted(known, numbers).clip(max=len(known) - 1)
        is_known = known[places] == numbers
        found = np.frombuffer(self._sizes, np.int64)[places]
        sizes = pc.coalesce(sizes, pa.array(found, pa.int64(), mask=~is_known))
        texts = [
            self._checksum(int(p)) if k else None for p, k in zip(places, is_known, strict=True)
        ]
        return sizes, pc.coalesce(checksums, pa.array(texts, pa.string()))

    def _checksum(self, place: int) -> str | None:
        digest = self._digests[place * 32 : place * 32 + 32]
        return f"sha256:{digest.hex()}" if any(digest) else None

    def _ask(self, key: str) -> tuple[int, str | None] | None:
        store, relative = self._place_of(key)
        try:
            head = store.head(relative)
            if head.checksum is None and self._reads_bytes:
                return store.measure(relative)
            return head.size_bytes, head.checksum
        except ObjectNotFoundError:
            return None

    def _place_of(self, key: str) -> tuple[ObjectStore, str]:
        """The store and the key in it; a bucket that is no datastore is opened once."""
        if "://" not in key:
            if self._store is None:
                from merger.outside_entries import OutsideEntryError

                raise OutsideEntryError(
                    f"key {key!r}: expected --datastore to measure objects below it, found none"
                )
            return self._store, key
        scheme, _, rest = key.partition("://")
        bucket, _, relative = rest.partition("/")
        root = f"{scheme}://{bucket}" if bucket else "file:///"
        if root not in self._others:
            endpoint_url = self._store.endpoint_url if self._store is not None else None
            self._others[root] = open_store(root, endpoint_url=endpoint_url)
        return self._others[root], relative
