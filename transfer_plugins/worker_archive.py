# SPDX-License-Identifier: BSD-3-Clause
"""The worker archive of a bundle, brought into a sandbox from a cache of this machine or from S3.

A job of a bundle carries only the plugin. The submit file names the archive and its SHA-256, and
nothing is used that has another: neither what S3 gives, nor what the cache holds, which is compared
anew for each job. A task runs as the user who owns the cache, so a file of it may be anything.
"""

import fcntl
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from registry import names
from registry.errors import FormatError, QuantumExecError
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import open_store

CACHE_VARIABLE = "QUANTUM_EXEC_WORKER_CACHE"
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
_KEPT_ARCHIVES = 8
_KEPT_S = 30 * 86_400
_LARGEST_BYTES = 64 * 1024 * 1024
_LOCK_PATIENCE_S = 60.0
_LOCK_POLL_S = 0.02


class UnusableCacheError(QuantumExecError):
    """The cache of worker archives cannot be used; jobs fetch theirs from S3 each time."""

    error_type = "unusable_cache"


@dataclass(frozen=True, slots=True)
class WorkerArchive:
    """Where the archive lies, and the checksum (``sha256:…``) that it must have.

    Raises
    ------
    FormatError
        If the checksum has another form: it names files.
    """

    uri: str
    checksum: str

    def __post_init__(self) -> None:
        if not _CHECKSUM.match(self.checksum):
            raise FormatError(
                f"worker archive {self.uri}: expected sha256:<64 hex digits>, found "
                f"{self.checksum!r}"
            )

    @property
    def cached_name(self) -> str:
        """Its name in the cache."""
        return f"{self.checksum.removeprefix('sha256:')}.pyz"


def cache_directory(named: str | None) -> Path:
    """The cache of this user on this machine: as named, as the environment says, or the usual."""
    usual = f"/var/tmp/quantum-exec-{os.geteuid()}"
    return Path(named or os.environ.get(CACHE_VARIABLE) or usual)


def place_archive(
    archive: WorkerArchive, sandbox: Path, cache: Path, *, endpoint_url: str | None = None
) -> int:
    """Put the archive into a sandbox; returns how many bytes were fetched for it.

    A copy, so that a task cannot change the cached one through it. Without a usable cache the
    archive is fetched, and standard error says why.

    Raises
    ------
    TransferError
        If it is not there, differs from its checksum, or cannot be fetched.
    """
    path = sandbox / names.WORKER_ARCHIVE
    try:
        with _opened(cache) as directory:
            if _copy(directory, archive, path):
                return 0
            with _locked(directory, archive):
                if _copy(directory, archive, path):
                    return 0
                size = _fetch(archive, path, endpoint_url)
                _keep(directory, archive, path)
                return size
    except UnusableCacheError as error:
        print(f"quantum-exec: {error}; fetching the worker archive", file=sys.stderr)
    return _fetch(archive, path, endpoint_url)


def _fetch(archive: WorkerArchive, path: Path, endpoint_url: str | None) -> int:
    holder, _, name = archive.uri.rpartition("/")
    store = open_store(holder, endpoint_url=endpoint_url)
    size, _ = store.download(name, path, checksum=archive.checksum)
    path.chmod(0o444)
    return size


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open the directory of the cache, made if need be; only ours, and no link to another."""
    try:
        if not path.is_absolute():
            raise UnusableCacheError(f"cache {path}: expected an absolute path")
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        told = "a link or no directory" if path.is_symlink() else error.strerror
        raise UnusableCacheError(
            f"cache {path}: expected a directory of this user, found: {told}"
        ) from error
    try:
        found = os.fstat(directory)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise UnusableCacheError(
                f"cache {path}: expected a directory of user {os.geteuid()} with mode 0700, found "
                f"user {found.st_uid} and mode {stat.S_IMODE(found.st_mode):04o}"
            )
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _locked(directory: int, archive: WorkerArchive) -> Iterator[None]:
    """One process at a time fetches an archive; the kernel gives the lock back if it is killed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lock = os.open(f"{archive.cached_name}.lock", flags, 0o600, dir_fd=directory)
    except OSError as error:
        raise UnusableCacheError(f"cache: no lock can be made ({error.strerror})") from error
    try:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while not _is_taken(lock):
            if time.monotonic() > deadline:
                raise UnusableCacheError(
                    f"cache: another job has been fetching for {_LOCK_PATIENCE_S:g} s"
                )
            time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(lock)


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UnusableCacheError(f"cache: no lock can be taken ({error.strerror})") from error
    return True


def _copy(directory: int, archive: WorkerArchive, path: Path) -> bool:
    """Copy the cached archive; false if there is none, or another than the checksum says."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(archive.cached_name, flags, dir_fd=directory), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_BYTES:
                return False
            content = file.read(_LARGEST_BYTES)
            if checksum_of_bytes(content) != archive.checksum:
                return False
            with suppress(OSError):
                # When it was used last decides what is removed.
                os.utime(file.fileno())
    except OSError:
        return False
    _write(content, path)
    return True


def _write(content: bytes, path: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=".worker-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o444)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _keep(directory: int, archive: WorkerArchive, path: Path) -> None:
    """Put a fetched archive into the cache, whole or not at all; what fails here harms no job."""
    part = f".part-{os.getpid()}-{archive.cached_name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        content = path.read_bytes()
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=directory)
        with os.fdopen(os.open(part, flags, 0o400, dir_fd=directory), "wb") as file:
            file.write(content)
        _make_room(directory, archive)
        os.rename(part, archive.cached_name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        print(f"quantum-exec: cache: {error.strerror}; nothing kept", file=sys.stderr)
        with suppress(OSError):
            os.unlink(part, dir_fd=directory)


def _make_room(directory: int, archive: WorkerArchive) -> None:
    """Remove archives unused for 30 days, all but the 7 used last, and what killed jobs left."""
    now = time.time()
    used: list[tuple[float, str]] = []
    for entry in os.scandir(directory):
        with suppress(OSError):
            age_s = now - entry.stat(follow_symlinks=False).st_mtime
            if entry.name.startswith(".part-") and age_s > 3600:
                os.unlink(entry.name, dir_fd=directory)
            elif entry.name.endswith(".pyz") and not entry.name.startswith(".part-"):
                used.append((age_s, entry.name))
    others = sorted(found for found in used if found[1] != archive.cached_name)
    for place, (age_s, name) in enumerate(others):
        if place >= _KEPT_ARCHIVES - 1 or age_s > _KEPT_S:
            for left in (name, f"{name}.lock"):
                with suppress(OSError):
                    os.unlink(left, dir_fd=directory)
