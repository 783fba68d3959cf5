# SPDX-License-Identifier: BSD-3-Clause
"""Archiving: the deltas of a RUN as a few Parquet files beside them."""

import itertools
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from merger.archive_schema import MAX_DELTA_BYTES, SCHEMA, archive_table, is_understood
from merger.archived_deltas import ArchivedDeltaStore
from merger.delta_listing import DeltaListing, list_deltas
from merger.exit_codes import ExitCode
from merger.packed_ids import PackedIds, pack_ids
from merger.progress import Progress
from merger.settings import DEFAULT_ROWS_PER_FILE
from merger.whole_deltas import fetch
from registry import names
from registry.errors import QuantumExecError
from transfer_plugins.checksums import checksum_of_file
from transfer_plugins.object_store import (
    ChecksumMismatchError,
    ObjectNotFoundError,
    ObjectStore,
)
from transfer_plugins.s3_bulk_reading import for_bulk_reading

_GROUP_ROWS = 2000
_GROUP_BYTES = 16 * 1024 * 1024
"""Whoever reads deltas in order holds a few row groups in memory."""

_MOST_REFUSED = 100

Content = tuple[str, bytes]


class NoDeltasError(QuantumExecError, LookupError):
    """The RUN has no delta and no archive; its name or that of the datastore may be wrong."""

    error_type = "no_deltas"


@dataclass(frozen=True, slots=True)
class WrittenArchive:
    """A file that was added; size in bytes."""

    key: str
    n_deltas: int
    size_bytes: int


@dataclass(slots=True)
class ArchiveReport:
    """What was found and done."""

    run: str
    n_deltas: int
    """Deltas that are objects."""
    n_archived_before: int
    """Of these, the ones that a good archive has."""
    n_to_archive: int
    n_archived: int = 0
    n_undecoded: int = 0
    """Archived with key and bytes only: damaged, or of a newer format."""
    n_too_large: int = 0
    """Left as objects."""
    written: list[WrittenArchive] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """Messages about archives that do not count."""
    strangers: list[str] = field(default_factory=list)
    """Keys among the deltas that are not those of a delta; left alone."""
    unread: list[str] = field(default_factory=list)
    """Messages about deltas that the store did not let be read; the next archiving takes them."""
    wall_s: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """0, or 13 if archives are damaged, or 5 if deltas could not be read."""
        if self.damaged:
            return ExitCode.DIFFERENCES
        return ExitCode.NOT_PERMITTED if self.unread else ExitCode.OK


def archive_run(
    store: ObjectStore,
    run: str,
    *,
    rows_per_file: int = DEFAULT_ROWS_PER_FILE,
    threads: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ArchiveReport:
    """Add every delta of a RUN that no whole archive has to a new one; nothing is removed.

    May be repeated, killed, or run several times at once: a file is there whole or not at all,
    and a delta that is in two of them is read from either.

    Raises
    ------
    NoDeltasError
        If there is nothing to archive, and nothing archived.
    transfer_plugins.object_store.TransferError
    """
    began, progress = time.monotonic(), progress or Progress()
    names.check_run(run)
    listing = list_deltas(store, run)
    archives = ArchivedDeltaStore(store, run)
    archived = archives.whole_archives()
    repaired = _repaired(store, listing.only(archived.undecoded()), threads)
    missing = listing.without(np.setdiff1d(archived.rows["attempt"], repaired))
    damaged = [bad.message for bad in archives.bad_archives()]
    n_before = len(listing) - len(missing)
    report = ArchiveReport(run, len(listing), n_before, len(missing), damaged=damaged)
    report.strangers = listing.strangers
    if not len(listing) and not len(archives.refresh()) and not damaged:
        raise NoDeltasError(
            f"RUN {run!r}: expected deltas below {store.uri}/{names.delta_prefix(run)}, found "
            "none; check the names of datastore and RUN"
        )
    if not dry_run:
        progress.start(len(missing))
        _write_all(store, missing, rows_per_file, threads, report, progress)
    report.wall_s = time.monotonic() - began
    return report


def _repaired(store: ObjectStore, undecoded: DeltaListing, threads: int | None) -> PackedIds:
    """Return the attempts whose deltas no archiver understood, and which can be read by now."""
    found = (
        _attempt_of(key)
        for key, content in fetch(store, undecoded.all_keys(), threads)
        if isinstance(content, bytes) and is_understood(key, content)
    )
    return pack_ids(list(found))


def _write_all(
    store: ObjectStore,
    missing: DeltaListing,
    rows_per_file: int,
    threads: int | None,
    report: ArchiveReport,
    progress: Progress,
) -> None:
    reading = for_bulk_reading(store)
    for start in range(0, len(missing), rows_per_file):
        keys = itertools.islice(missing.all_keys(start), rows_per_file)
        with tempfile.TemporaryDirectory(prefix="registry-merge-") as directory:
            path = Path(directory) / "archive.parquet"
            contents = _fetched(reading, keys, threads, report)
            keys_of_file = _write(path, _grouped(contents, report), report, progress)
            if keys_of_file.n_keys:
                report.written.append(_upload(store, report.run, path, keys_of_file))
                report.n_archived += keys_of_file.n_keys


def _fetched(
    store: ObjectStore, keys: Iterable[str], threads: int | None, report: ArchiveReport
) -> Iterator[Content]:
    """Give the bytes of deltas; one that is gone or refused is left out.

    Raises
    ------
    transfer_plugins.object_store.TransferRefusedError
        If the first many are refused: then the others would be, too.
    """
    n_read = 0
    for key, content in fetch(store, keys, threads):
        if isinstance(content, bytes):
            n_read += 1
            yield key, content
        elif not isinstance(content, ObjectNotFoundError):
            report.unread.append(str(content))
            if len(report.unread) == _MOST_REFUSED and not n_read:
                raise content


def _grouped(contents: Iterator[Content], report: ArchiveReport) -> Iterator[list[Content]]:
    """Make row groups: as many deltas as one may have, by number and by bytes."""
    group: list[Content] = []
    size = 0
    for key, content in contents:
        if len(content) > MAX_DELTA_BYTES:
            report.n_too_large += 1
            continue
        if group and (len(group) == _GROUP_ROWS or size + len(content) > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append((key, content))
        size += len(content)
    if group:
        yield group


@dataclass(slots=True)
class _KeysOfFile:
    n_keys: int = 0
    first: str = ""
    last: str = ""


def _write(
    path: Path, groups: Iterator[list[Content]], report: ArchiveReport, progress: Progress
) -> _KeysOfFile:
    """Write the rows of a file, which come in the order of their attempts."""
    from pyarrow.parquet import ParquetWriter

    written = _KeysOfFile()
    # Bytes of deltas are all different, so a dictionary of them only takes memory.
    repeated = [f.name for f in SCHEMA if f.name not in ("key", "row_sha256", "delta")]
    with ParquetWriter(
        path,
        SCHEMA,
        compression="zstd",
        use_dictionary=repeated,
        write_statistics=["attempt_id", "key"],
        write_page_checksum=True,
    ) as writer:
        for group in groups:
            table, n_undecoded = archive_table(group)
            writer.write_table(table)
            report.n_undecoded += n_undecoded
            written.n_keys += len(group)
            written.first, written.last = written.first or group[0][0], group[-1][0]
            progress.advance(len(group))
    return written


def _attempt_of(key: str) -> str:
    named = names.parse_delta_key(key)
    assert named is not None, "only keys of deltas are listed"
    return named[1]


def _upload(store: ObjectStore, run: str, path: Path, written: _KeysOfFile) -> WrittenArchive:
    checksum = checksum_of_file(path)
    first, last = _attempt_of(written.first), _attempt_of(written.last)
    key = names.archive_key(run, first, last, checksum)
    store.upload(path, key, checksum)
    size, found = store.measure(key)
    if found != checksum:
        store.delete(key)
        raise ChecksumMismatchError(
            f"{store.uri}/{key}: expected {checksum} after the upload, found {found} ({size} "
            "bytes); it was removed again"
        )
    return WrittenArchive(key, written.n_keys, size)
