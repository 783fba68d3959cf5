# SPDX-License-Identifier: BSD-3-Clause
"""The tables of a columnar graph: their columns, and rows of them from memory.

*quanta*, sorted by task label: ``task_label``, ``position`` (the place in the graph's order), one
column ``dim_<dimension>`` each, ``quantum_id`` unless derived, ``first_output`` and ``n_outputs``
(rows of *datasets*), ``reads`` (rows of *datasets*).

*datasets*, first those that quanta make, in the order of these, then those from outside:
``dataset_type``, ``dim_<dimension>``, ``dataset_id`` unless derived, ``producer_row`` (row of
*quanta*) or, from outside, ``run``, ``key`` or ``producer``, ``size_bytes``, ``checksum``.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from executor.graph.column_codes import Integers

DIMENSION_PREFIX = "dim_"
_NAME = pa.dictionary(pa.int32(), pa.string())
_KINDS = {"int": pa.int64(), "str": pa.string()}

QUANTUM_NAMES = ("task_label", "quantum_id")
"""What the id of a quantum is derived from, or is, beside its dimensions."""

RECORDS = pa.schema([("dimension", pa.string()), ("data_id", pa.string()), ("record", pa.string())])
"""Dimension records; data ID and facts as JSON, since facts may be anything."""

INDEX = pa.schema([("prefix", pa.int64()), ("row", pa.int32())])
"""The first four bytes of each quantum id, sorted, and the row of the quantum."""


OUTSIDE = pa.schema(
    [
        ("run", pa.string()),
        ("key", pa.string()),
        ("producer", pa.binary(16)),
        ("dataset_id", pa.binary(16)),
        ("size_bytes", pa.int64()),
        ("checksum", pa.binary(32)),
    ]
)
"""What is known of a dataset from outside; of an output only the id may be given."""


class Rows(Protocol):
    """A table that need not be in memory."""

    @property
    def n_rows(self) -> int:
        """The number of rows."""

    def take(self, rows: Integers, columns: Sequence[str] | None = None) -> pa.Table:
        """Some rows, in the order asked for; of all columns, or of some."""

    def whole(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows."""


class IndexRows(Rows, Protocol):
    """The table `INDEX`."""

    def candidates(self, quantum_id: bytes) -> Integers:
        """Rows of *quanta* whose id begins like this one."""


class TableRows:
    """A table in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self._table.num_rows)

    def take(self, rows: Integers, columns: Sequence[str] | None = None) -> pa.Table:
        """Some rows, in the order asked for; of all columns, or of some."""
        return self.whole(columns).take(pa.array(rows))

    def whole(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows."""
        return self._table if columns is None else self._table.select(columns)

    def candidates(self, quantum_id: bytes) -> Integers:
        """Rows of *quanta* whose id begins like this one, if the table is `INDEX`."""
        prefix = int.from_bytes(quantum_id[:4], "big")
        is_hit = self._table["prefix"].to_numpy() == prefix
        found: Integers = self._table["row"].to_numpy()[is_hit].astype(np.int64)
        return found


def quanta_schema(dimensions: Mapping[str, str]) -> pa.Schema:
    """The columns of *quanta*."""
    return pa.schema(
        [
            ("task_label", _NAME),
            ("position", pa.int64()),
            *_dimension_fields(dimensions),
            ("quantum_id", pa.binary(16)),
            ("first_output", pa.int64()),
            ("n_outputs", pa.int64()),
            ("reads", pa.list_(pa.field("element", pa.int32()))),
        ]
    )


def datasets_schema(dimensions: Mapping[str, str]) -> pa.Schema:
    """The columns of *datasets*."""
    return pa.schema(
        [
            ("dataset_type", _NAME),
            *_dimension_fields(dimensions),
            ("producer_row", pa.int32()),
            ("dataset_id", pa.binary(16)),
            ("run", _NAME),
            ("key", pa.string()),
            ("producer", pa.binary(16)),
            ("size_bytes", pa.int64()),
            ("checksum", pa.binary(32)),
        ]
    )


def _dimension_fields(dimensions: Mapping[str, str]) -> list[tuple[str, pa.DataType]]:
    return [(DIMENSION_PREFIX + name, _KINDS[kind]) for name, kind in dimensions.items()]


def dimension_columns(names: Sequence[str]) -> list[str]:
    """The names of the columns of some dimensions."""
    return [DIMENSION_PREFIX + name for name in names]
