# SPDX-License-Identifier: BSD-3-Clause
"""Tables of Parquet that are read by row groups, every page verified."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from executor.graph.column_codes import Integers
from executor.graph.placed_yaml import GraphError


class ParquetRows:
    """A table in a member of a columnar file; only the row groups that are asked for are read."""

    def __init__(self, content: memoryview, name: str, schema: pa.Schema, n_rows: object) -> None:
        self._name = name
        self._file = self._guarded(
            lambda: pq.ParquetFile(
                pa.BufferReader(pa.py_buffer(content)), page_checksum_verification=True
            )
        )
        found = self._file.schema_arrow
        if not found.equals(schema):
            shown = [f"{f.name}: {f.type}" for f in found if f not in list(schema)]
            missing = [f"{f.name}: {f.type}" for f in schema if f not in list(found)]
            raise GraphError(f"{name}: expected columns {missing}, found {shown} in their place")
        if self.n_rows != n_rows:
            raise GraphError(f"{name}: expected {n_rows} rows, found {self.n_rows}")
        groups = range(self._file.metadata.num_row_groups)
        sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._group = lru_cache(maxsize=16)(self._read_group)

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self._file.metadata.num_rows)

    def take(self, rows: Integers, columns: Sequence[str] | None = None) -> pa.Table:
        """Some rows, in the order asked for; raises `GraphError`."""
        names = tuple(columns) if columns is not None else None
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        bounds = np.searchsorted(ordered, self._ends)
        parts, start, first = [], 0, 0
        for group, (bound, end) in enumerate(zip(bounds, self._ends, strict=True)):
            if bound > start:
                part = self._group(group, names)
                parts.append(part.take(pa.array(ordered[start:bound] - first)))
            start, first = bound, end
        if not parts:
            return self._file.schema_arrow.empty_table().select(columns or self._names())
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_tables(parts).take(pa.array(back))

    def whole(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows; raises `GraphError`."""
        table = self._guarded(lambda: self._file.read(columns=columns))
        self._guarded(lambda: table.validate(full=True))
        return table

    def candidates(self, quantum_id: bytes) -> Integers:
        """Rows of *quanta* whose id begins like this one, from the table `INDEX`."""
        prefix = int.from_bytes(quantum_id[:4], "big")
        found = [np.empty(0, np.int64)]
        for group in range(self._file.metadata.num_row_groups):
            bounds = self._file.metadata.row_group(group).column(0).statistics
            if bounds is None or bounds.min <= prefix <= bounds.max:
                table = self._group(group, None)
                hits = table["prefix"].to_numpy() == prefix
                found.append(table["row"].to_numpy()[hits].astype(np.int64))
        return np.concatenate(found)

    def _names(self) -> list[str]:
        return list(self._file.schema_arrow.names)

    def _read_group(self, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        names = list(columns) if columns is not None else None
        table = self._guarded(lambda: self._file.read_row_group(group, columns=names))
        self._guarded(lambda: table.validate(full=True))
        return table

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            told = " ".join(str(error).split())
            raise GraphError(
                f"{self._name}: expected a whole table, found damage: {told}"
            ) from error
