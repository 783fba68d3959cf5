# SPDX-License-Identifier: BSD-3-Clause
"""Arrow tables as PostgreSQL's binary COPY format.

(PostgreSQL documentation, "COPY", section "Binary Format".) A row is a count of fields, then for
each field its length in bytes, -1 for null, and its value, all big-endian. Runs of columns with
fixed width become numpy records; Arrow joins these with the columns of varying width row by row,
without a Python object per value: several times faster than rows from Python, and the server
parses no text.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merger import statements

if TYPE_CHECKING:
    # The reading process needs no database driver, and starts twice as fast without.
    from psycopg import Cursor

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = _SIGNATURE + bytes(8)
TRAILER = b"\xff\xff"

# PostgreSQL counts microseconds from 2000-01-01.
_EPOCH_MICROSECONDS = 946_684_800_000_000
_JSONB_VERSION = 1
_BYTES = pa.large_binary()
_VERSION, _NOTHING = pa.scalar(bytes([_JSONB_VERSION])), pa.scalar(b"")


Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class CopyRows:
    """Rows of a table, ready to be sent; ``pieces`` together are one COPY in binary format."""

    n_rows: int
    pieces: list[Piece]

    @classmethod
    def encode(cls, table: pa.Table) -> "CopyRows":
        """Encode an Arrow table.

        Column types: 16 bytes are a uuid, strings are text, bytes are jsonb; booleans, integers,
        doubles and timestamps are what they are called.
        """
        if table.num_rows == 0:
            return cls(0, [])
        rows = _Rows(table.num_rows)
        rows.add_fixed(">i2", table.num_columns)
        for column in table.combine_chunks().columns:
            _add_column(rows, column.chunk(0))
        return cls(table.num_rows, [HEADER, rows.joined(), TRAILER])

    def copy_into(self, cursor: "Cursor", table_name: str) -> None:
        """COPY the rows into a table; nothing is sent if there are none."""
        if self.n_rows:
            with cursor.copy(statements.copy_binary(table_name)) as copy:
                for piece in self.pieces:
                    copy.write(piece)


@dataclass
class _Rows:
    """Rows that grow to the right: fixed parts are gathered until a varying one comes."""

    n_rows: int
    pieces: list[pa.Array] = field(default_factory=list)
    fixed: list[tuple[str, Any]] = field(default_factory=list)

    def add_fixed(self, kind: str, values: Any) -> None:
        self.fixed.append((kind, values))

    def add_varying(self, values: pa.Array) -> None:
        self._flush()
        self.pieces.append(pc.fill_null(values.cast(_BYTES), pa.scalar(b"", _BYTES)))

    def _flush(self) -> None:
        if self.fixed:
            layout = [(f"f{i}", kind) for i, (kind, _) in enumerate(self.fixed)]
            record = np.empty(self.n_rows, dtype=layout)
            for (name, _), (_, values) in zip(layout, self.fixed, strict=True):
                record[name] = values
            self.pieces.append(_fixed_bytes(record).cast(_BYTES))
            self.fixed = []

    def joined(self) -> memoryview:
        self._flush()
        rows = pc.binary_join_element_wise(*self.pieces, pa.scalar(b"", _BYTES))
        return memoryview(rows.buffers()[2])


def _add_column(rows: _Rows, column: pa.Array) -> None:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        if column.null_count == len(column):
            rows.add_fixed(">i4", -1)
            return
        is_json = pa.types.is_binary(kind)
        if is_json and column.null_count:
            # The version stands before documents only, so it is no column of fixed width here.
            column = pc.binary_join_element_wise(_VERSION, column, _NOTHING)
            is_json = False
        lengths = pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False)
        rows.add_fixed(">i4", lengths + 1 if is_json else lengths)
        if is_json:
            rows.add_fixed("u1", _JSONB_VERSION)
        rows.add_varying(column)
        return
    numpy_kind, values = _numbers(column)
    width = np.dtype(numpy_kind).itemsize
    if column.null_count == 0:
        rows.add_fixed(">i4", width)
        rows.add_fixed(numpy_kind, values)
    else:
        is_valid = column.is_valid().to_numpy(zero_copy_only=False)
        rows.add_fixed(">i4", np.where(is_valid, width, -1))
        whole = _fixed_bytes(np.ascontiguousarray(values, dtype=numpy_kind), column.buffers()[0])
        rows.add_varying(whole)


def _numbers(column: pa.Array) -> tuple[str, np.ndarray[Any, Any]]:
    """Return the numpy type of a column on the wire, and its values; anything where it is null."""
    kind, n_rows = column.type, len(column)
    if pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
        return f"V{width}", np.frombuffer(column.buffers()[1], f"V{width}", n_rows)
    if pa.types.is_timestamp(kind):
        since_1970 = np.frombuffer(column.buffers()[1], np.int64, n_rows)
        return ">i8", since_1970 - _EPOCH_MICROSECONDS
    filled = pc.fill_null(column, False if pa.types.is_boolean(kind) else 0)
    values = filled.to_numpy(zero_copy_only=False)
    wire = {"bool": "u1", "int32": ">i4", "int64": ">i8", "double": ">f8"}[str(kind)]
    return wire, values


def _fixed_bytes(record: np.ndarray[Any, Any], validity: pa.Buffer | None = None) -> pa.Array:
    width = record.dtype.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(record), [validity, pa.py_buffer(record)])
