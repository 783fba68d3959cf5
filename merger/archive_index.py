# SPDX-License-Identifier: BSD-3-Clause
"""Where each archived delta of a RUN is: packed, 53 bytes for each."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from merger.packed_ids import PackedIds, pack_ids, unpack_ids
from transfer_plugins.object_store import StoredObject

_ROW = np.dtype(
    [
        *(("attempt", "S16"), ("quantum", "S16")),
        *(("archive", "i4"), ("group", "i4"), ("row", "i4"), ("size", "i8"), ("decoded", "?")),
    ]
)
_AT_ONCE = 10_000

Rows = np.ndarray[Any, np.dtype[np.void]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Place:
    """A row of an archive: its key, number of the row group, number of the row in that.

    ``is_decoded`` tells whether the archiver understood the delta; if not, it may be damaged.
    """

    archive: str
    group: int
    row: int
    is_decoded: bool


def pack_rows(
    quanta: list[str],
    attempts: list[str],
    sizes: Sequence[int],
    group: int,
    are_decoded: Flags | bool = True,
) -> Rows:
    """Return the index of one row group; the archive is not known yet."""
    rows = np.zeros(len(attempts), _ROW)
    rows["quantum"], rows["attempt"] = pack_ids(quanta), pack_ids(attempts)
    rows["size"], rows["group"], rows["row"] = sizes, group, np.arange(len(attempts))
    rows["decoded"] = are_decoded
    return rows


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """Rows of all archives of a RUN, by attempt; one attempt may be in several."""

    archives: list[str] = field(default_factory=list)
    rows: Rows = field(default_factory=lambda: np.zeros(0, _ROW))

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, archive: str, rows: Sequence[Rows]) -> "ArchiveIndex":
        """Return the index with the rows of another archive."""
        for some in rows:
            some["archive"] = len(self.archives)
        joined = np.concatenate([self.rows, *rows])
        order = np.argsort(joined["attempt"], kind="stable")
        return ArchiveIndex([*self.archives, archive], joined[order])

    def only(self, archives: Collection[str]) -> "ArchiveIndex":
        """Return the index without the archives that are gone."""
        gone = [n for n, archive in enumerate(self.archives) if archive not in archives]
        if not gone:
            return self
        kept = [archive for archive in self.archives if archive in archives]
        numbers = np.full(len(self.archives), -1, "i4")
        numbers[[n for n in range(len(self.archives)) if n not in gone]] = np.arange(len(kept))
        rows = self.rows[~np.isin(self.rows["archive"], gone)]
        rows["archive"] = numbers[rows["archive"]]
        return ArchiveIndex(kept, rows)

    def find(self, quantum_id: str, attempt_id: str) -> list[Place]:
        """Return where the delta of an attempt is archived, where it was understood first."""
        if not len(self.rows):
            return []
        quantum, attempt = pack_ids([quantum_id]), pack_ids([attempt_id])
        first = int(np.searchsorted(self.rows["attempt"], attempt)[0])
        last = int(np.searchsorted(self.rows["attempt"], attempt, "right")[0])
        places = [
            Place(
                self.archives[row["archive"]],
                int(row["group"]),
                int(row["row"]),
                bool(row["decoded"]),
            )
            for row in self.rows[first:last]
            if row["quantum"] == quantum[0]
        ]
        return sorted(places, key=lambda place: not place.is_decoded)

    def undecoded(self) -> PackedIds:
        """Return the attempts whose deltas no archiver understood."""
        is_decoded = self.rows["decoded"]
        return np.setdiff1d(self.rows["attempt"][~is_decoded], self.rows["attempt"][is_decoded])

    def objects(self, above: str, prefix: str) -> Iterator[StoredObject]:
        """Give the archived deltas below a prefix as a listing has them: by key, each once.

        Parameters
        ----------
        above
            Prefix of all deltas of the RUN.
        """
        by_key = np.lexsort((self.rows["attempt"], self.rows["quantum"]))
        before = ""
        for start in range(0, len(by_key), _AT_ONCE):
            some = self.rows[by_key[start : start + _AT_ONCE]]
            quanta, attempts = unpack_ids(some["quantum"]), unpack_ids(some["attempt"])
            for quantum, attempt, size in zip(quanta, attempts, some["size"], strict=True):
                key = f"{above}{quantum}.{attempt}.json"
                if key != before and key.startswith(prefix):
                    yield StoredObject(key, int(size))
                before = key
