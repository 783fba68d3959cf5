# SPDX-License-Identifier: BSD-3-Clause
"""Tables that people bring: CSV or Parquet, told by content, read in batches of rows.

Rows are counted from 1, the first below the names of the columns. A table may be read several
times, and may not change meanwhile. Memory does not grow with the number of rows.
"""

import array
import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from registry.errors import QuantumExecError

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_BATCH_ROWS = 20_000
_BLOCK_BYTES = 1 << 22
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_SHOWN = 20


class SourceTableError(QuantumExecError, ValueError):
    """A table cannot be read, or has rows that cannot be taken; the message names them."""

    error_type = "source_table"


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a table: their numbers, and their values by column, all of one length."""

    numbers: Numbers
    columns: dict[str, pa.Array]

    def kept(self, keep: Mask) -> "Rows":
        """Leave out rows."""
        if keep.all():
            return self
        chosen = pa.array(keep)
        return Rows(self.numbers[keep], {n: c.filter(chosen) for n, c in self.columns.items()})


@dataclass(slots=True)
class BadRows:
    """Rows that cannot be taken: the numbers of all, and what is wrong with the first."""

    numbers: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    messages: list[str] = field(default_factory=list)
    n_problems: int = 0

    def add(self, number: int, column: str | None, expected: str, found: object) -> None:
        """Record one problem of a row."""
        self.n_problems += 1
        if not self.numbers or self.numbers[-1] != number:
            self.numbers.append(number)
        if len(self.messages) < _SHOWN:
            place = f"row {number}, column {column!r}" if column else f"row {number}"
            text = found if isinstance(found, str) and column is None else repr(found)
            text = text if len(text) <= 80 else text[:79] + "…"
            self.messages.append(f"{place}: expected {expected}, found {text}")

    def add_all(
        self, wrong: Mask, numbers: Numbers, column: str, expected: str, values: pa.Array
    ) -> None:
        """Record a problem of each row that a mask marks."""
        for place in np.flatnonzero(wrong):
            self.add(int(numbers[place]), column, expected, values[int(place)].as_py())

    def sorted_numbers(self) -> Numbers:
        """Return the rows, each once, in order."""
        return np.unique(np.frombuffer(self.numbers, np.int64))

    def text(self, name: str) -> str:
        """Return one message about all of them."""
        lines = "\n".join(f"  {message}" for message in self.messages)
        more = self.n_problems - len(self.messages)
        rest = f"\n  … and {more} more" if more else ""
        return f"table {name!r}: {len(self.sorted_numbers())} bad rows:\n{lines}{rest}"


class SourceTable:
    """A CSV or Parquet file, or CSV on standard input (``-``); a context.

    CSV has no types: all its values are text, an empty one is null. It may be gzipped.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._stack = ExitStack()
        self._path = Path(name)
        self.columns: list[str] = []
        self.is_parquet = False
        self.bad = BadRows()
        """Rows that have too many values or too few, as the last reading found them."""

    def __enter__(self) -> "SourceTable":
        try:
            with self._stack:
                self._file = self._open()
                self._state = self._look()
                self._read_names()
                self._stack = self._stack.pop_all()
        except (OSError, EOFError) as error:
            raise SourceTableError(f"table {self.name!r}: {error}") from error
        except pa.ArrowException as error:
            raise SourceTableError(f"table {self.name!r}: {_first_line(error)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> BinaryIO:
        source: BinaryIO = sys.stdin.buffer
        if self.name != "-":
            source = self._stack.enter_context(self._path.open("rb"))
            if source.seekable() and os.fstat(source.fileno()).st_size:
                begin = source.read(4)
                source.seek(0)
                if not begin.startswith(_GZIP):
                    self.is_parquet = begin == _PARQUET
                    return source
        return self._spooled(source)

    def _spooled(self, source: BinaryIO) -> BinaryIO:
        """What can be read only once, or not from its middle, as a file of its own."""
        spool = self._stack.enter_context(tempfile.TemporaryFile(prefix="registry-merge-"))
        begin = source.read(2)
        spool.write(begin)
        shutil.copyfileobj(source, spool)
        if begin == _GZIP:
            spool.seek(0)
            whole = self._stack.enter_context(tempfile.TemporaryFile(prefix="registry-merge-"))
            with gzip.open(spool) as content:
                shutil.copyfileobj(content, whole)
            spool = whole
        spool.seek(0)
        self.is_parquet = spool.read(4) == _PARQUET
        return spool

    def _look(self) -> tuple[int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    def _read_names(self) -> None:
        self._file.seek(0)
        if self.is_parquet:
            schema = pa.parquet.ParquetFile(self._file).schema_arrow
            self.columns = schema.names
        else:
            line = self._file.readline(_BLOCK_BYTES)
            if not line.strip():
                raise SourceTableError(
                    f"table {self.name!r}: expected CSV with names of columns, or Parquet, found "
                    "nothing"
                )
            if b"\0" in line:
                raise SourceTableError(
                    f"table {self.name!r}: expected CSV or Parquet, found another kind of file"
                )
            self._file.seek(0)
            self.columns = self._csv_reader(self._file, {}, lambda row: "skip").schema.names
        if twice := sorted({n for n in self.columns if self.columns.count(n) > 1}):
            raise SourceTableError(f"table {self.name!r}: expected each column once, found {twice}")

    def batches(self, names: Sequence[str]) -> Iterator[Rows]:
        """Read the table from its begin, some columns only.

        Raises
        ------
        SourceTableError
            If it is damaged, no text in UTF-8, or has changed since it was opened.
        """
        self.bad = BadRows()
        try:
            self._file.seek(0)
            yield from self._parquet_rows(names) if self.is_parquet else self._csv_rows(names)
        except (OSError, pa.ArrowException) as error:
            raise SourceTableError(f"table {self.name!r}: {_first_line(error)}") from error
        if self._look() != self._state:
            raise SourceTableError(f"table {self.name!r}: it was changed while it was read")

    def _parquet_rows(self, names: Sequence[str]) -> Iterator[Rows]:
        number = 1
        file = pa.parquet.ParquetFile(self._file, pre_buffer=False)
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(names)):
            columns = {name: _plain(batch.column(name)) for name in names}
            numbers = np.arange(number, number + batch.num_rows)
            number += batch.num_rows
            yield Rows(numbers, columns)

    def _csv_rows(self, names: Sequence[str]) -> Iterator[Rows]:
        malformed: list[int] = []

        def refuse(row: Any) -> str:
            # The line of the names counts for Arrow, and not for us.
            malformed.append(row.number - 1)
            expected = f"{row.expected_columns} values"
            self.bad.add(row.number - 1, None, expected, f"{row.actual_columns}: {row.text!r}")
            return "skip"

        number = 1
        types = dict.fromkeys(self.columns, pa.binary())
        for whole in self._csv_reader(self._file, types, refuse):
            for batch in _slices(whole):
                numbers = _numbered(number, batch.num_rows, malformed)
                number = int(numbers[-1]) + 1
                is_blank = np.ones(batch.num_rows, bool)
                for column in batch.columns:
                    is_blank &= column.is_null().to_numpy(zero_copy_only=False)
                columns = {n: self._text(batch.column(n), numbers, n) for n in names}
                yield Rows(numbers, columns).kept(~is_blank)

    def _csv_reader(
        self, file: BinaryIO, types: dict[str, pa.DataType], refuse: Callable[[Any], str]
    ) -> Any:
        return pa.csv.open_csv(
            file,
            # Only a reader in one thread knows the number of a row that it refuses.
            pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            pa.csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=refuse
            ),
            pa.csv.ConvertOptions(
                column_types=types, strings_can_be_null=True, null_values=[""], check_utf8=False
            ),
        )

    def _text(self, column: pa.Array, numbers: Numbers, name: str) -> pa.Array:
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:
            pass
        texts: list[str | None] = []
        for number, raw in zip(numbers, column.to_pylist(), strict=True):
            try:
                texts.append(raw if raw is None else raw.decode())
            except UnicodeDecodeError:
                self.bad.add(int(number), name, "text in UTF-8", raw)
                texts.append("\ufffd")
        return pa.array(texts, pa.string())


def _numbered(first: int, n_rows: int, malformed: Sequence[int]) -> Numbers:
    """Numbers of the next rows, without those that Arrow left out."""
    if not malformed or malformed[-1] < first:
        return np.arange(first, first + n_rows)
    skipped = np.asarray(malformed)
    numbers = np.arange(first, first + n_rows + int((skipped >= first).sum()))
    return numbers[~np.isin(numbers, skipped)][:n_rows]


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, _BATCH_ROWS):
        yield batch.slice(start, _BATCH_ROWS)


def _plain(column: pa.Array) -> pa.Array:
    """A column without dictionaries and without the types that only differ in width."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return column.cast(pa.int64())
    if pa.types.is_uint64(kind) and not pc.any(pc.greater(column, 2**63 - 1)).as_py():
        return column.cast(pa.int64())
    return column


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
