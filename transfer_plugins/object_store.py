# SPDX-License-Identifier: BSD-3-Clause
"""Object stores: where datasets, jobs, logs and deltas lie, S3 or a directory.

Keys are relative to the root of the store. Every implementation passes the same contract tests.
"""

import os
import re
import shutil
import stat
import tempfile
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from registry.errors import QuantumExecError
from registry.names import check_key
from transfer_plugins.arriving_file import PART, ArrivingFile, is_part
from transfer_plugins.checksums import checksum_of_file
from transfer_plugins.file_walk import paths_in_any_order, walk_files

_READ_BYTES = 1 << 16

# What boto3 takes, but for ARNs; refused here it is a mistake in a URI, not a failed transfer.
_S3_ROOT = re.compile(r"s3://([A-Za-z0-9._-]{1,255})((?:/[^\x00-\x1f?#]*)?)\Z")


class TransferError(QuantumExecError):
    """An object could not be moved; the message names store, key, cause and number of tries.

    ``is_retryable`` tells whether the same transfer may succeed later.
    """

    error_type = "transfer"
    is_retryable = True


class TransferRefusedError(TransferError):
    """The service refused the request; it will refuse it again until somebody changes a right."""

    error_type = "transfer_refused"
    is_retryable = False


class NoCredentialsError(TransferError):
    """No credentials were found; a role of the machine may be asked for them in vain for a time."""

    error_type = "no_credentials"


class ObjectNotFoundError(TransferError, FileNotFoundError):
    """There is no object under this key."""

    error_type = "object_not_found"
    is_retryable = False


class BucketNotFoundError(TransferError):
    """There is no such bucket: a wrong name, or it was removed; no object says anything then."""

    error_type = "bucket_not_found"
    is_retryable = False


class ChecksumMismatchError(TransferError):
    """The bytes that arrived are not the ones that were recorded; they are not delivered."""

    error_type = "checksum_mismatch"


class InvalidDatastoreError(QuantumExecError, ValueError):
    """The URI of a datastore cannot be used; expected ``s3://bucket/prefix`` or ``file:///dir``."""

    error_type = "invalid_datastore"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it; size in bytes.

    ``modified_s`` are seconds since 1970 by the clock of the store, to be compared with its
    `ObjectStore.now_s` only.
    """

    key: str
    size_bytes: int
    modified_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """What an upload that never ended has left: it is no object, and takes space.

    ``upload_id`` tells several of one key apart; ``began_s`` as `StoredObject.modified_s`.
    """

    key: str
    upload_id: str
    size_bytes: int
    began_s: float


@dataclass(frozen=True, slots=True)
class NotDeleted:
    """An object that could not be removed, with the error that says why."""

    key: str
    error: "TransferError"


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What a store tells of an object without its bytes.

    ``checksum`` (``sha256:…``) is known if the object was written through us and the store keeps
    such facts; it goes when somebody else replaces the object.
    """

    size_bytes: int
    checksum: str | None = None


class ObjectStore(ABC):
    """A flat space of immutable objects below one root URI.

    Methods raise `ObjectNotFoundError` where an object is missing and `TransferError` for every
    other failure, after the retries of the implementation. They may be called from many threads.
    """

    uri: str
    """URI of the root, without a slash at its end."""

    endpoint_url: str | None = None
    """Address of the service, if it is not the one that its client finds by itself."""

    is_local: bool = False
    """Whether objects are files, read faster than a thread is told to."""

    @abstractmethod
    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object whose key begins with ``prefix``, ordered by key."""

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Give the keys alone, in any order, some perhaps twice; faster where it can be."""
        return (stored.key for stored in self.list_objects(prefix))

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return a small object whole."""

    @abstractmethod
    def head(self, key: str) -> ObjectHead:
        """Tell the size of an object, and its checksum if the store knows it."""

    @abstractmethod
    def measure(self, key: str) -> tuple[int, str]:
        """Read an object once, without keeping it; returns size (bytes) and checksum."""

    @abstractmethod
    def put(self, key: str, content: bytes) -> None:
        """Write a small object whole, replacing what is there."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def delete_many(self, keys: Sequence[str]) -> list[NotDeleted]:
        """Remove objects; returns those still there. A failure that may pass ends it."""
        failed: list[NotDeleted] = []
        for place, key in enumerate(keys):
            try:
                self.delete(key)
            except TransferError as error:
                failed.append(NotDeleted(key, error))
                if error.is_retryable:
                    failed += [NotDeleted(other, error) for other in keys[place + 1 :]]
                    break
        return failed

    @abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return bytes of an object, from an offset on; fewer than asked for at its end."""

    @abstractmethod
    def now_s(self) -> float:
        """Seconds since 1970 by the clock that dates the objects of this store."""

    @abstractmethod
    def list_unfinished(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """Give what uploads below a prefix left that did not end, or not yet; in no order."""

    @abstractmethod
    def abort(self, upload: UnfinishedUpload) -> None:
        """Remove what an unfinished upload left; one that is gone is no error."""

    @abstractmethod
    def upload(self, path: Path, key: str, checksum: str) -> None:
        """Write an object from a file; visible whole or not at all."""

    def reopen(self, uri: str) -> "ObjectStore":
        """Open another root at the same service, with the connections of this one."""
        return open_store(uri)

    @abstractmethod
    def _fetch(self, key: str, path: Path) -> None:
        """Write the bytes of an object to a path of its own, which nobody else reads."""

    def download(self, key: str, path: Path, *, checksum: str | None = None) -> tuple[int, str]:
        """Fetch an object to ``path`` through a temporary name beside it.

        Returns
        -------
        size_bytes, checksum
            Of the bytes that arrived.

        Raises
        ------
        ChecksumMismatchError
            If ``checksum`` is given and the bytes have another; nothing is left at ``path``.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=PART, dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            self._fetch(key, part)
            found = checksum_of_file(part)
            if checksum is not None and found != checksum:
                raise ChecksumMismatchError(
                    f"{self.uri}/{key}: expected {checksum}, found {found} "
                    f"({part.stat().st_size} bytes)"
                )
            size = part.stat().st_size
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return size, found


class DirectoryObjectStore(ObjectStore):
    """A ``file://`` datastore: a directory on this machine or on a shared file system."""

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = f"file://{urllib.parse.quote(str(root))}"

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object below; files under a temporary name are no objects."""
        for key, found in self._files(prefix, are_parts=False):
            yield StoredObject(key, found.st_size, found.st_mtime)

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Give the paths of all files below, without looking at the files."""
        with _naming(self, prefix):
            for key in paths_in_any_order(self.root, prefix):
                if PART not in key or not is_part(key):
                    yield key

    def _files(self, prefix: str, *, are_parts: bool) -> Iterator[tuple[str, os.stat_result]]:
        with _naming(self, prefix):
            yield from (f for f in walk_files(self.root, prefix) if is_part(f[0]) == are_parts)

    def get(self, key: str) -> bytes:
        """Return an object whole."""
        name = f"{self.root}/{check_key(key, f'datastore {self.uri}')}"
        # System calls alone, and few: twice as fast as a file object for the few kB of a delta.
        with _naming(self, key):
            file = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                pieces = [os.read(file, _READ_BYTES)]
                while more := os.read(file, _READ_BYTES):
                    pieces.append(more)
            finally:
                os.close(file)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return bytes of a file."""
        with _naming(self, key), open(self.path(key), "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, start)

    def now_s(self) -> float:
        """Ask the file system by making a file: on a network it has a clock of its own."""
        with _naming(self, ""), tempfile.TemporaryFile(prefix=PART, dir=self.root) as file:
            file.write(b"now")
            file.flush()
            return os.fstat(file.fileno()).st_mtime

    def list_unfinished(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """Give the files under a temporary name; the key is that of the file."""
        for key, found in self._files(prefix, are_parts=True):
            yield UnfinishedUpload(key, "", found.st_size, found.st_mtime)

    def abort(self, upload: UnfinishedUpload) -> None:
        """Remove a file under a temporary name."""
        self.delete(upload.key)

    def head(self, key: str) -> ObjectHead:
        """Tell the size of a file; a directory keeps no checksums."""
        with _naming(self, key):
            found = os.stat(self.path(key))
            if not stat.S_ISREG(found.st_mode):
                raise IsADirectoryError(key)
            return ObjectHead(found.st_size)

    def measure(self, key: str) -> tuple[int, str]:
        """Read a file once."""
        with _naming(self, key):
            return self.head(key).size_bytes, checksum_of_file(self.path(key))

    def put(self, key: str, content: bytes) -> None:
        """Write an object under a temporary name, then rename it."""
        with _naming(self, key), self._arriving(key) as part:
            part.write_bytes(content)

    def delete(self, key: str) -> None:
        """Remove a file."""
        with _naming(self, key):
            self.path(key).unlink(missing_ok=True)

    def upload(self, path: Path, key: str, checksum: str) -> None:
        """Copy a file under a temporary name, compare it, rename it."""
        with _naming(self, key), self._arriving(key) as part:
            try:
                shutil.copyfile(path, part)
            except FileNotFoundError as error:
                raise TransferError(f"{self.uri}/{key}: no file to upload at {path}") from error
            found = checksum_of_file(part)
            if found != checksum:
                raise ChecksumMismatchError(
                    f"{path}: expected {checksum}, found {found} while copying it to {key!r}"
                )

    def _fetch(self, key: str, path: Path) -> None:
        with _naming(self, key):
            shutil.copyfile(self.path(key), path)

    def path(self, key: str) -> Path:
        """Path of the file that is an object."""
        return self.root / check_key(key, f"datastore {self.uri}")

    def _arriving(self, key: str) -> ArrivingFile:
        return ArrivingFile(self.path(key))


class _naming:
    """Turn errors of the file system into ours, with the store and the key."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self.where = f"{store.uri}/{key}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, QuantumExecError):
            return
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            raise ObjectNotFoundError(f"{self.where}: not found ({error.strerror})") from error
        if isinstance(error, PermissionError):
            raise TransferRefusedError(f"{self.where}: {error.strerror or error}") from error
        if isinstance(error, OSError):
            raise TransferError(f"{self.where}: {error.strerror or error}") from error


def open_store(uri: str, *, endpoint_url: str | None = None) -> ObjectStore:
    """Open the datastore with this URI; nothing is contacted yet.

    Parameters
    ----------
    uri
        ``s3://bucket[/prefix]`` or ``file:///directory``.
    endpoint_url
        Address of the S3 service, if it is not the one that the environment or boto3's
        configuration names.

    Raises
    ------
    InvalidDatastoreError
        If the URI has another form.
    """
    if found := _S3_ROOT.match(uri):
        from transfer_plugins.s3_object_store import S3ObjectStore

        bucket, prefix = found[1], found[2].strip("/")
        if not {"", ".", ".."} & set(prefix.split("/")) or not prefix:
            return S3ObjectStore(bucket, prefix, endpoint_url=endpoint_url)
    path = uri.removeprefix("file://")
    if path != uri and path.startswith("/") and not {"?", "#"} & set(path) and "%00" not in path:
        return DirectoryObjectStore(Path(urllib.parse.unquote(path).rstrip("/") or "/"))
    # Some tools take keys in the URI; one that is given here by mistake is shown to nobody.
    shown = re.sub(r"//[^/]*@", "//…@", uri)
    raise InvalidDatastoreError(
        f"expected s3://bucket/prefix or file:///directory as datastore, found {shown!r}"
    )
