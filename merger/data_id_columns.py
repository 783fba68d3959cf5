# SPDX-License-Identifier: BSD-3-Clause
"""Data IDs from columns of a table: which are numbers and which text, and the ids they give.

A value of a dimension is an integer or text, and ``5`` is another data ID than ``"5"``. Parquet
says which it is. In CSV a column is text if the command line says so, else what data IDs in the
central registry have (`known_kinds`), else integers if every value of it is one as people write it
(no leading zeros, no plus, at most 18 digits), else text.
"""

import enum
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merger.source_table import BadRows, Mask, Numbers, Rows, SourceTable, SourceTableError
from merger.uuid_arrays import UUID
from registry.model import ID_NAMESPACE
from registry.typed_json import canonical

INTEGER_TEXT = r"^(?:0|-?[1-9][0-9]{0,17})$"
_INTEGER_EXPECTED = "an integer of at most 18 digits, without leading zeros"
_TEXT_EXPECTED = "text without NUL"

MAX_DATA_ID_BYTES = 2000
"""As canonical JSON: it is in a key of the central registry, where an entry has 2704 bytes."""


class ValueKind(enum.Enum):
    """What the values of a dimension are."""

    INTEGER = "integers"
    TEXT = "text"


class DataIdColumns:
    """The columns of a table that are dimensions.

    Parameters
    ----------
    as_text
        Columns that are text, whatever they look like.
    known
        What data IDs in the central registry have.

    Raises
    ------
    SourceTableError
        If a column has another type than data IDs have.
    """

    def __init__(
        self,
        table: SourceTable,
        dimensions: Sequence[str],
        as_text: Collection[str],
        known: Mapping[str, ValueKind],
    ) -> None:
        self._table = table
        self.dimensions = sorted(dimensions)
        self._as_text = frozenset(as_text)
        self.kinds: dict[str, ValueKind] = {}
        """Of the columns that it is known of; of the others when the table was read once."""
        self._undecided: set[str] = set()
        for name in self.dimensions:
            if name in self._as_text:
                self.kinds[name] = ValueKind.TEXT
            elif not table.is_parquet and name in known:
                self.kinds[name] = known[name]
            elif not table.is_parquet:
                self._undecided.add(name)
        self._known = known

    def check(self, rows: Rows, bad: BadRows) -> tuple[dict[str, pa.Array], Mask]:
        """Return the values of some rows by dimension, and which rows are bad."""
        is_bad = np.zeros(len(rows.numbers), bool)
        values = {}
        for name in self.dimensions:
            values[name], wrong = self._check(name, rows.columns[name], rows.numbers, bad)
            is_bad |= wrong
        return values, is_bad

    def decide(self) -> None:
        """Fix the kind of each column, when the whole table has been checked."""
        for name in self.dimensions:
            self.kinds.setdefault(name, ValueKind.INTEGER)
        self._undecided.clear()

    def _check(
        self, name: str, column: pa.Array, numbers: Numbers, bad: BadRows
    ) -> tuple[pa.Array, Mask]:
        if self._table.is_parquet and name not in self.kinds:
            self._meet_type(name, column.type)
        if name in self._undecided:
            if not pc.all(pc.match_substring_regex(column, INTEGER_TEXT)).as_py():
                self.kinds[name] = ValueKind.TEXT
                self._undecided.remove(name)
        is_text = self.kinds.get(name) is not ValueKind.INTEGER
        if is_text:
            column = column.cast(pa.string())
            wrong = pc.match_substring(column, "\0")
        elif pa.types.is_string(column.type):
            wrong = pc.invert(pc.match_substring_regex(column, INTEGER_TEXT))
        else:
            wrong = pa.array(np.zeros(len(column), bool))
        expected = _TEXT_EXPECTED if is_text else _INTEGER_EXPECTED
        is_wrong = pc.fill_null(wrong, False).to_numpy(zero_copy_only=False)
        bad.add_all(is_wrong, numbers, name, expected, column)
        is_null = column.is_null().to_numpy(zero_copy_only=False)
        bad.add_all(is_null, numbers, name, "a value", column)
        return column, is_wrong | is_null

    def _meet_type(self, name: str, kind: pa.DataType) -> None:
        if pa.types.is_string(kind):
            found = ValueKind.TEXT
        elif pa.types.is_int64(kind):
            found = ValueKind.INTEGER
        else:
            raise SourceTableError(
                f"table {self._table.name!r}, column {name!r}: expected integers or text as values "
                f"of a dimension, found {kind}"
            )
        if self._known.get(name, found) is not found:
            raise SourceTableError(
                f"table {self._table.name!r}, column {name!r}: expected {self._known[name].value}, "
                f"as data IDs in the central registry have, found {found.value}"
            )
        self.kinds[name] = found


def canonical_data_ids(
    values: Mapping[str, pa.Array], kinds: Mapping[str, ValueKind], n_rows: int
) -> pa.Array:
    """Return each data ID as canonical JSON; a value may be null where its row is bad."""
    pieces: list[pa.Array | str] = []
    for name in sorted(values):
        pieces.append(f"{',' if pieces else '{'}{json.dumps(name, ensure_ascii=False)}:")
        is_text = kinds.get(name) is not ValueKind.INTEGER
        pieces.append(_as_json(values[name]) if is_text else values[name].cast(pa.string()))
    if not pieces:
        return pa.array(["{}"] * n_rows, pa.string())
    return pc.binary_join_element_wise(*pieces, "}", "")


def _as_json(column: pa.Array) -> pa.Array:
    """Each text as JSON has it; equal ones are written once."""
    encoded = column.cast(pa.string()).dictionary_encode()
    texts = [json.dumps(text, ensure_ascii=False) for text in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def derived_ids(run: str, dataset_type: str, data_ids: pa.Array) -> pa.Array:
    """Return the ids that a graph gives to inputs which it names without one.

    A test holds this to `registry.model.derived_id`, one by one.
    """
    start = ID_NAMESPACE + canonical(["dataset", run, dataset_type])[:-1].encode() + b","
    begun = hashlib.sha1(start, usedforsecurity=False)
    digests = []
    for text in data_ids.cast(pa.binary()).to_pylist():
        digest = begun.copy()
        digest.update(text + b"]")
        digests.append(digest.digest())
    ids = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20)[:, :16].copy()
    ids[:, 6] = (ids[:, 6] & 0x0F) | 0x50
    ids[:, 8] = (ids[:, 8] & 0x3F) | 0x80
    return pa.Array.from_buffers(UUID, len(digests), [None, pa.py_buffer(ids)])
