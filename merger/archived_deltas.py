# SPDX-License-Identifier: BSD-3-Clause
"""Archived deltas of a RUN, read as if each were an object of its own."""

import heapq
import itertools
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from merger.archive_file import ArchiveFile, BadArchive, BadArchiveError, RowGroup
from merger.archive_index import ArchiveIndex, Place
from registry import names
from transfer_plugins.object_store import (
    NotDeleted,
    ObjectHead,
    ObjectNotFoundError,
    ObjectStore,
    StoredObject,
    TransferRefusedError,
    UnfinishedUpload,
)

_log = logging.getLogger(__name__)

_KEPT_GROUPS = 4
"""Row groups in memory, of 16 MB or so each: deltas are read about in the order of attempts."""


def with_archives(store: ObjectStore, run: str) -> "ArchivedDeltaStore":
    """Return the datastore with the archived deltas of a RUN among its objects.

    Nothing is read before it is asked for. May be opened in another process from the URI.
    """
    return ArchivedDeltaStore(store, run)


class ArchivedDeltaStore(ObjectStore):
    """A datastore in which each archived delta of a RUN can be listed and read under its key.

    Deltas are served from the archive, which takes few requests, and as objects where the archive
    is damaged, has them not, or has them as nobody could read them: somebody may have repaired the
    object since. All else is that of the datastore itself.
    """

    def __init__(self, inner: ObjectStore, run: str) -> None:
        self.inner = inner
        self.uri, self.endpoint_url, self.is_local = inner.uri, inner.endpoint_url, inner.is_local
        self._run = run
        self._prefix = names.delta_prefix(run)
        self._lock = threading.RLock()
        self._index: ArchiveIndex | None = None
        self._files: dict[str, ArchiveFile] = {}
        self._bad: dict[str, BadArchive] = {}
        self._groups: dict[tuple[str, int], RowGroup] = {}

    def bad_archives(self) -> list[BadArchive]:
        """Return the archives that could not be read, whole or in part, as far as was seen."""
        with self._lock:
            if self._index is None:
                self.refresh()
            return [self._bad[key] for key in sorted(self._bad)]

    def refresh(self) -> ArchiveIndex:
        """Look which archives are there now, and index those that are new.

        Raises
        ------
        transfer_plugins.object_store.TransferError
        """
        with self._lock:
            listed = {
                stored.key: stored.size_bytes
                for stored in self.inner.list_objects(names.archive_prefix(self._run))
            }
            index = ArchiveIndex() if self._index is None else self._index
            gone = [key for key in {**self._files, **self._bad} if key not in listed]
            for key in gone:
                self._files.pop(key, None)
                self._bad.pop(key, None)
            # Those that are damaged are looked at again: somebody may have put a whole one there.
            for key in sorted(listed.keys() - self._files.keys()):
                before = self._bad.pop(key, None)
                try:
                    file = ArchiveFile(self.inner, key, listed[key], self._run)
                    index = index.add(key, file.read_keys())
                    self._files[key] = file
                except BadArchiveError as error:
                    self._note(error.bad, is_known=error.bad == before)
            self._index = index.only(self._files.keys())
            return self._index

    def whole_archives(self) -> ArchiveIndex:
        """Read every archive whole; return the index of those that are as their names say.

        Raises
        ------
        transfer_plugins.object_store.TransferError
        """
        with self._lock:
            index = self.refresh()
            for file in self._files.values():
                try:
                    file.check_whole()
                except BadArchiveError as error:
                    self._note(error.bad)
            return index.only(self._files.keys() - self._bad.keys())

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object below, and below the prefix of deltas the archived ones, once each."""
        if not prefix.startswith(self._prefix):
            yield from self.inner.list_objects(prefix)
            return
        index = self.refresh()
        archived = index.objects(self._prefix, prefix)
        # Of equal keys the object comes first, so it is the one that is told.
        merged = heapq.merge(self.inner.list_objects(prefix), archived, key=_key)
        for _, same in itertools.groupby(merged, key=_key):
            yield next(same)

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Give the keys alone, those of deltas that are objects and archived twice."""
        archived = self.refresh() if prefix.startswith(self._prefix) else ArchiveIndex()
        below = (stored.key for stored in archived.objects(self._prefix, prefix))
        return itertools.chain(self.inner.list_keys(prefix), below)

    def get(self, key: str) -> bytes:
        """Return an object whole, a delta from its archive if it has one."""
        named = names.parse_delta_key(key) if key.startswith(self._prefix) else None
        if named is None:
            return self.inner.get(key)
        decoded = [place for place in self._places(named) if place.is_decoded]
        content, is_good = self._archived(key, decoded)
        if content is not None and is_good:
            return content
        try:
            return self.inner.get(key)
        except (ObjectNotFoundError, TransferRefusedError):
            if not self._places(named):
                self.refresh()
            places = self._places(named)
            if not places:
                raise
            content, _ = self._archived(key, places)
            # Of a delta that is damaged in the archive and nowhere else, the merger has to tell.
            return content or b""

    def _places(self, named: tuple[str, str]) -> list[Place]:
        with self._lock:
            index = self.refresh() if self._index is None else self._index
            return index.find(*named)

    def _archived(self, key: str, places: list[Place]) -> tuple[bytes | None, bool]:
        """Return the archived bytes of a delta, and whether they are what was archived."""
        found: bytes | None = None
        for place in places:
            content, is_good = self._group(place).row(place.row, key)
            if is_good:
                return content, True
            _log.warning("archive %s: its row of delta %s is damaged", place.archive, key)
            found = content if found is None else found
        return found, False

    def _group(self, place: Place) -> RowGroup:
        wanted = (place.archive, place.group)
        with self._lock:
            if (group := self._groups.pop(wanted, None)) is None:
                try:
                    group = self._files[place.archive].read_group(place.group)
                except BadArchiveError as error:
                    self._note(error.bad)
                    group = RowGroup.empty()
                while len(self._groups) >= _KEPT_GROUPS:
                    del self._groups[next(iter(self._groups))]
            # The one that was used last is the last to go.
            self._groups[wanted] = group
            return group

    def _note(self, bad: BadArchive, *, is_known: bool = False) -> None:
        if not is_known:
            _log.warning("%s", bad.message)
        self._bad[bad.key] = bad

    def head(self, key: str) -> ObjectHead:
        """Tell of an object, as the datastore does."""
        return self.inner.head(key)

    def measure(self, key: str) -> tuple[int, str]:
        """Read an object once, as the datastore does."""
        return self.inner.measure(key)

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self.inner.put(key, content)

    def delete(self, key: str) -> None:
        """Remove an object; what is archived stays so."""
        self.inner.delete(key)

    def delete_many(self, keys: Sequence[str]) -> list[NotDeleted]:
        """Remove objects; what is archived stays so."""
        return self.inner.delete_many(keys)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return bytes of an object."""
        return self.inner.get_range(key, start, length)

    def now_s(self) -> float:
        """Seconds by the clock of the datastore."""
        return self.inner.now_s()

    def list_unfinished(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """Give unfinished uploads."""
        return self.inner.list_unfinished(prefix)

    def abort(self, upload: UnfinishedUpload) -> None:
        """Remove an unfinished upload."""
        self.inner.abort(upload)

    def upload(self, path: Path, key: str, checksum: str) -> None:
        """Write an object from a file."""
        self.inner.upload(path, key, checksum)

    def reopen(self, uri: str) -> ObjectStore:
        """Open another root at the same service, without archives."""
        return self.inner.reopen(uri)

    def _fetch(self, key: str, path: Path) -> None:
        self.inner.download(key, path)


def _key(stored: StoredObject) -> str:
    return stored.key
