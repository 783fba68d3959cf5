# SPDX-License-Identifier: BSD-3-Clause
"""Objects below a RUN, a million or more: their keys on disk, 41 bytes of each in memory."""

import hashlib
import os
import re
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from registry import names
from transfer_plugins.object_store import StoredObject

_SHORT_ATTEMPT = re.compile(r"\.([0-9a-f]{20})(?=\.|\Z)")
_MARKED_AT_ONCE = 100_000


def short_attempt_in(key: str) -> str | None:
    """Return the short form of the attempt that the key of a dataset carries, if any."""
    found = _SHORT_ATTEMPT.findall(key.rpartition("/")[2])
    return found[-1] if found else None


def without_attempt(key: str) -> str:
    """Return the key of a dataset without its attempt: the same for all attempts."""
    directory, slash, name = key.rpartition("/")
    return directory + slash + _SHORT_ATTEMPT.sub("", name)


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object with its place in the listing."""

    number: int
    key: str
    size_bytes: int
    modified_s: float | None
    is_log: bool


class ListedObjects:
    """Objects that can be marked as protected, by key or by the attempt that their keys carry.

    Keys are compared by 64 bits of a hash. Where two have the same, one may be protected for
    nothing; none is left unprotected.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="registry-merge-")
        self._starts, self._sizes, self._times = array("q", [0]), array("q"), array("d")
        self._keys, self._attempts = array("Q"), array("Q")
        self._logs, self._uploads = bytearray(), bytearray()
        self._by_key = self._by_attempt = np.zeros(0, np.int64)
        self.is_protected = np.zeros(0, bool)

    def __enter__(self) -> "ListedObjects":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, stored: StoredObject, *, is_log: bool = False, is_upload: bool = False) -> None:
        """Add an object of a listing, or what an unfinished upload left under a key."""
        self._file.write(written := stored.key.encode(errors="surrogateescape"))
        self._starts.append(self._starts[-1] + len(written))
        self._sizes.append(stored.size_bytes)
        self._times.append(np.nan if stored.modified_s is None else stored.modified_s)
        self._keys.append(_hash(stored.key))
        attempt = _log_attempt(stored.key) if is_log else short_attempt_in(stored.key)
        self._attempts.append(0 if attempt is None else _hash(attempt))
        self._logs.append(is_log)
        self._uploads.append(is_upload)

    def seal(self) -> None:
        """Make the objects ready to be marked; none is added any more."""
        self._file.flush()
        self._by_key = np.argsort(_array(self._keys))
        self._by_attempt = np.argsort(_array(self._attempts))
        self.is_protected = np.zeros(len(self), bool)

    def protect_keys(self, keys: Iterable[str]) -> None:
        """Mark the objects under these keys."""
        self._mark(keys, _array(self._keys), self._by_key)

    def protect_attempts(self, attempts: Iterable[str]) -> None:
        """Mark the objects whose keys carry one of these attempts, in their short forms."""
        self._mark(attempts, _array(self._attempts), self._by_attempt)

    def protect_logs_of(self, attempts: Iterable[str]) -> None:
        """Mark the logs of these attempts."""
        self.protect_attempts(map(_of_log, attempts))

    def protect_without_attempt(self) -> None:
        """Mark all datasets whose keys carry no attempt."""
        self.is_protected |= self.without_attempt()

    def without_attempt(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Tell of each object whether it is a dataset whose key carries no attempt."""
        is_log = np.frombuffer(self._logs, np.uint8) != 0
        return np.asarray((_array(self._attempts) == 0) & ~is_log)

    def are_uploads(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Tell of each object whether it is what an unfinished upload left."""
        return np.frombuffer(self._uploads, np.bool_)

    def _mark(
        self,
        texts: Iterable[str],
        hashes: "np.ndarray[tuple[int], np.dtype[np.uint64]]",
        order: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    ) -> None:
        ordered, wanted = hashes[order], array("Q")
        for text in texts:
            wanted.append(_hash(text))
            if len(wanted) >= _MARKED_AT_ONCE:
                self._mark_hashes(wanted, ordered, order)
                wanted = array("Q")
        if wanted:
            self._mark_hashes(wanted, ordered, order)

    def _mark_hashes(
        self,
        wanted: "array[int]",
        ordered: "np.ndarray[tuple[int], np.dtype[np.uint64]]",
        order: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    ) -> None:
        looked_for = np.unique(_array(wanted))
        first = np.searchsorted(ordered, looked_for)
        last = np.searchsorted(ordered, looked_for, "right")
        for start, stop in zip(first[last > first], last[last > first], strict=True):
            self.is_protected[order[start:stop]] = True

    def older_than(self, before_s: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Tell of each object whether it was last written before a time; unknown ones were not."""
        return np.asarray(np.frombuffer(self._times, np.float64) < before_s)

    def sizes(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the size of each object in bytes."""
        return np.frombuffer(self._sizes, np.int64)

    def read(self, numbers: Iterable[int]) -> Iterator[ListedObject]:
        """Give some objects."""
        for number in numbers:
            start, stop = self._starts[number], self._starts[number + 1]
            key = os.pread(self._file.fileno(), stop - start, start)
            time_s = self._times[number]
            yield ListedObject(
                int(number),
                key.decode(errors="surrogateescape"),
                self._sizes[number],
                None if np.isnan(time_s) else time_s,
                bool(self._logs[number]),
            )


def _log_attempt(key: str) -> str | None:
    named = names.parse_log_key(key)
    return None if named is None else _of_log(named[1])


def _of_log(attempt_id: str) -> str:
    """What stands for the attempt of a log: not what stands for it in keys of datasets."""
    return f"log {attempt_id}"


def _hash(text: str) -> int:
    """64 bits of a text, never 0."""
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def _array(numbers: "array[int]") -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    return np.frombuffer(numbers, np.uint64)
