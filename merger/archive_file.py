# SPDX-License-Identifier: BSD-3-Clause
"""One Parquet file of archived deltas, read in ranges; nothing in it is believed unchecked."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from merger.archive_index import Flags, Rows, pack_rows
from merger.archive_schema import (
    ARCHIVE_FORMAT,
    FORMAT_FIELD,
    MAX_DELTA_BYTES,
    SCHEMA,
    row_digest,
)
from registry import names
from registry.errors import QuantumExecError
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_MAX_GROUP_ROWS = 1_000_000
_MAX_FOOTER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BadArchive:
    """An archive that cannot be used, or not all of it; ``is_newer`` if an upgrade will help."""

    key: str
    message: str
    is_newer: bool = False


class BadArchiveError(Exception):
    """An archive that cannot be used; caught where it is read, never shown as it is."""

    def __init__(self, bad: BadArchive) -> None:
        super().__init__(bad.message)
        self.bad = bad


class RowGroup:
    """Rows that are in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._digests = table.column("row_sha256").combine_chunks()
        self._contents = table.column("delta").combine_chunks()

    @classmethod
    def empty(cls) -> "RowGroup":
        """Return a group that has no row: what is left of a damaged one."""
        return cls(SCHEMA.empty_table())

    def row(self, number: int, key: str) -> tuple[bytes | None, bool]:
        """Return the bytes of a delta, and whether they were archived so under this key."""
        if number >= len(self._contents):
            return None, False
        content = self._contents[number].as_py()
        if content is None:
            return None, False
        return content, self._digests[number].as_py() == row_digest(key, content)


class ArchiveFile:
    """An archive of a RUN in a datastore, opened when its keys are read."""

    def __init__(self, store: ObjectStore, key: str, size_bytes: int, run: str) -> None:
        self._file = _StoreFile(store, key, size_bytes)
        self._key = key
        self._run = run
        self._parquet: ParquetFile | None = None

    def read_keys(self) -> list[Rows]:
        """Open the archive, check its form, and return the rows of each row group.

        Raises
        ------
        BadArchiveError
        transfer_plugins.object_store.TransferError
        """
        if names.parse_archive_key(self._key) is None:
            raise self._bad(f"expected a name {names.archive_key('RUN', 'first', 'last', '…')!r}")
        with self._reading():
            self._parquet = self._open()
            self._check_form(self._parquet)
            return [self._keys_of(n) for n in range(self._parquet.num_row_groups)]

    def read_group(self, number: int) -> RowGroup:
        """Read the deltas of a row group; raises as `read_keys`."""
        assert self._parquet is not None, "its keys were read"
        with self._reading():
            columns = ["row_sha256", "delta"]
            table = self._parquet.read_row_group(number, columns=columns, use_threads=False)
            table.validate(full=True)
            return RowGroup(table)

    def check_whole(self) -> None:
        """Read the archive whole, and compare its bytes with its name; raises as `read_keys`."""
        with self._reading():
            _, found = self._file.measure()
            _, _, digits = names.parse_archive_key(self._key) or ("", "", "")
            if not found.startswith(f"sha256:{digits}"):
                raise self._bad(f"expected a checksum that begins with {digits}, found {found}")

    def _open(self) -> "ParquetFile":
        # 0.15 s to import, and most RUNs have no archive.
        from pyarrow.parquet import ParquetFile

        return ParquetFile(
            self._file,
            # Columns that lie side by side come with one request.
            pre_buffer=True,
            page_checksum_verification=True,
            thrift_string_size_limit=_MAX_FOOTER_BYTES,
            thrift_container_size_limit=_MAX_GROUP_ROWS,
        )

    def _check_form(self, parquet: "ParquetFile") -> None:
        schema = parquet.schema_arrow
        found = (schema.metadata or {}).get(FORMAT_FIELD, b"")
        if not found.isdigit():
            raise self._bad(f"expected {FORMAT_FIELD.decode()!r} in its metadata, found none")
        if int(found) > ARCHIVE_FORMAT:
            expected = f"expected format {ARCHIVE_FORMAT}, found {int(found)}"
            raise self._bad(f"{expected}; upgrade registry-merge", is_newer=True)
        for name in ("key", "size_bytes", "row_sha256", "delta"):
            wanted = SCHEMA.field(name).type
            columns = [column for column in schema if column.name == name]
            if [column.type for column in columns] != [wanted]:
                kinds = [str(column.type) for column in columns]
                raise self._bad(f"expected one column {name!r} of {wanted}, found {kinds}")
        for number in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(number)
            wanted_columns = {"key", "size_bytes", "row_sha256", "delta"}
            chunks = (group.column(c) for c in range(group.num_columns))
            size = sum(
                c.total_uncompressed_size for c in chunks if c.path_in_schema in wanted_columns
            )
            if not 0 <= group.num_rows <= _MAX_GROUP_ROWS or size > 2 * MAX_DELTA_BYTES:
                raise self._bad(
                    f"row group {number}: expected at most {_MAX_GROUP_ROWS} rows and "
                    f"{2 * MAX_DELTA_BYTES} bytes, found {group.num_rows} and {size}"
                )

    def _keys_of(self, number: int) -> Rows:
        assert self._parquet is not None
        columns = ["key", "size_bytes"]
        table = self._parquet.read_row_group(number, columns=columns, use_threads=False)
        table.validate(full=True)
        keys, sizes = table.column("key").to_pylist(), table.column("size_bytes").to_pylist()
        quanta, attempts = [], []
        for key, size in zip(keys, sizes, strict=True):
            named = names.parse_delta_key(key or "")
            if named is None or key != names.delta_key(self._run, *named) or size is None:
                raise self._bad(f"expected deltas of RUN {self._run!r} only, found {key!r}")
            quanta.append(named[0])
            attempts.append(named[1])
        return pack_rows(quanta, attempts, sizes, number, self._are_decoded(number))

    def _are_decoded(self, number: int) -> Flags | bool:
        """Tell of each delta of a row group whether the archiver understood it."""
        assert self._parquet is not None
        place = self._parquet.schema_arrow.get_field_index("attempt_id")
        if place < 0:
            return True
        group = self._parquet.metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            told = column.statistics if column.path_in_schema == "attempt_id" else None
            if told is not None and told.has_null_count and told.null_count == 0:
                return True
        table = self._parquet.read_row_group(number, columns=["attempt_id"], use_threads=False)
        return np.asarray(table.column(0).is_valid())

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except ObjectNotFoundError as error:
            raise self._bad("it has gone meanwhile") from error
        except (QuantumExecError, BadArchiveError):
            raise
        except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
            # A failure of the datastore says nothing about the archive.
            if self._file.error is not None:
                raise self._file.error from error
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise self._bad(f"it is damaged ({said[:200]})") from error

    def _bad(self, what: str, *, is_newer: bool = False) -> BadArchiveError:
        advice = "" if is_newer else "; run registry-merge archive, and remove it if it stays so"
        return BadArchiveError(
            BadArchive(
                names.printable(self._key),
                f"archive {self._key!r}: {what}{advice}",
                is_newer=is_newer,
            )
        )


class _StoreFile(io.RawIOBase):
    """An object as a file that can be read anywhere, one request for each read."""

    def __init__(self, store: ObjectStore, key: str, size_bytes: int) -> None:
        super().__init__()
        self.error: QuantumExecError | None = None
        self._store = store
        self._key = key
        self._size = size_bytes
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def size(self) -> int:
        return self._size

    def measure(self) -> tuple[int, str]:
        return self._store.measure(self._key)

    def read(self, size: int = -1) -> bytes:
        rest = max(0, self._size - self._place)
        wanted = rest if size < 0 else min(size, rest)
        try:
            found = self._store.get_range(self._key, self._place, wanted)
        except QuantumExecError as error:
            self.error = error
            raise
        self._place += len(found)
        return found
