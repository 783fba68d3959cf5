# SPDX-License-Identifier: BSD-3-Clause
"""Columns of a table of files: where each lies, its size, its checksum, its id."""

from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merger.source_table import BadRows, Mask, Rows
from merger.uuid_arrays import UUID, uuid_array
from registry import names
from transfer_plugins.object_store import DirectoryObjectStore, ObjectStore

MAX_KEY_BYTES = 1024
"""What S3 allows; a file system allows about as much."""

_URI = r"^[A-Za-z][A-Za-z0-9+.-]*://"
_ABSOLUTE = r"^(?:s3://[A-Za-z0-9._-]{1,255}/|file:///)"
_BAD_PARTS = r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f]"
_SIZE = r"^[0-9]{1,18}$"
_CHECKSUM = r"^(?:sha256:)?[0-9a-f]{64}$"
_UUID = r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

_KEY_EXPECTED = (
    "s3://bucket/key, file:///path, or a key relative to the datastore, of at most "
    f"{MAX_KEY_BYTES} bytes, without empty, '.' or '..' parts, none of them {names.CONTROL!r}"
)


class Places:
    """Turns URIs into what a datastore record has: keys below the root of the datastore.

    What lies elsewhere stays an absolute URI: quanta cannot read it, and no merge looks after it.
    """

    def __init__(self, store: ObjectStore | None, prefix: str) -> None:
        self._prefix = prefix
        self._is_directory = isinstance(store, DirectoryObjectStore)
        self._root: str | None = None
        if store is not None:
            self._root = store.uri if not self._is_directory else f"file://{unquote(store.uri[7:])}"

    def check(self, rows: Rows, name: str, bad: BadRows) -> tuple[pa.Array, Mask]:
        """Return the keys of some rows, and which are bad."""
        column = rows.columns[name]
        if not pa.types.is_string(column.type):
            wrong = np.ones(len(column), bool)
            bad.add_all(wrong, rows.numbers, name, "text", column)
            return pa.nulls(len(column), pa.string()), wrong
        is_uri = pc.match_substring_regex(column, _URI)
        keys = pc.binary_join_element_wise(self._prefix, column, "") if self._prefix else column
        is_absolute = pa.array(np.zeros(len(column), bool))
        if pc.any(is_uri).as_py():
            keys, is_absolute = self._relative(column, keys, is_uri)
        parts = pc.replace_substring_regex(keys, _ABSOLUTE, "")
        wrong = pc.or_(
            pc.match_substring_regex(parts, _BAD_PARTS),
            pc.greater(pc.binary_length(keys), MAX_KEY_BYTES),
        )
        is_control = pc.match_substring_regex(keys, rf"(?:^|/){names.CONTROL}(?:/|$)")
        wrong = pc.or_(wrong, pc.and_(is_control, pc.invert(is_absolute)))
        is_other = pc.and_(is_absolute, pc.invert(pc.match_substring_regex(keys, _ABSOLUTE)))
        is_wrong = pc.fill_null(pc.or_(wrong, is_other), True).to_numpy(zero_copy_only=False)
        bad.add_all(is_wrong, rows.numbers, name, _KEY_EXPECTED, column)
        return keys, is_wrong

    def _relative(
        self, column: pa.Array, keys: pa.Array, is_uri: pa.Array
    ) -> tuple[pa.Array, pa.Array]:
        """Cut the root off URIs that lie below it; tell which ones do not."""
        uris = column
        if self._is_directory and pc.any(pc.match_substring(column, "%")).as_py():
            texts = column.to_pylist()
            plain = [t if t is None or not t.startswith("file://") else unquote(t) for t in texts]
            uris = pa.array(plain, pa.string())
        if self._root is None:
            return pc.if_else(is_uri, column, keys), is_uri
        start = self._root.rstrip("/") + "/"
        is_below = pc.and_(is_uri, pc.starts_with(uris, start))
        below = pc.utf8_slice_codeunits(uris, len(start))
        is_absolute = pc.and_(is_uri, pc.invert(is_below))
        return pc.if_else(is_below, below, pc.if_else(is_uri, column, keys)), is_absolute


def check_sizes(rows: Rows, name: str, bad: BadRows) -> tuple[pa.Array, Mask]:
    """Return sizes in bytes, null where not known, and which rows are bad."""
    column = rows.columns[name]
    if pa.types.is_string(column.type):
        right = pc.match_substring_regex(column, _SIZE)
        numbers = pc.if_else(right, column, pa.scalar(None, pa.string())).cast(pa.int64())
    elif pa.types.is_int64(column.type) or pa.types.is_null(column.type):
        numbers = column.cast(pa.int64())
        right = pc.greater_equal(numbers, 0)
    else:
        numbers = pa.nulls(len(column), pa.int64())
        right = pa.array(np.zeros(len(column), bool))
    return numbers, _refuse(right, rows, name, "a number of bytes", bad)


def check_checksums(rows: Rows, name: str, bad: BadRows) -> tuple[pa.Array, Mask]:
    """Return checksums with their prefix, null where not known, and which rows are bad."""
    column = rows.columns[name]
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_string(column.type):
        right = pa.array(np.zeros(len(column), bool))
        whole = pa.nulls(len(column), pa.string())
    else:
        lower = pc.ascii_lower(column)
        right = pc.match_substring_regex(lower, _CHECKSUM)
        digits = pc.utf8_slice_codeunits(lower, -64)
        whole = pc.binary_join_element_wise("sha256:", digits, "")
    expected = "sha256:<64 hexadecimal digits>, or the digits alone"
    return whole, _refuse(right, rows, name, expected, bad)


def check_ids(rows: Rows, name: str, bad: BadRows) -> tuple[pa.Array, Mask]:
    """Return ids as 16 bytes, null where none is given, and which rows are bad."""
    column = rows.columns[name]
    if column.type == UUID:
        return column, np.zeros(len(column), bool)
    if pa.types.is_null(column.type):
        return column.cast(UUID), np.zeros(len(column), bool)
    if not pa.types.is_string(column.type):
        right = pa.array(np.zeros(len(column), bool))
        return pa.nulls(len(column), UUID), _refuse(right, rows, name, "a UUID", bad)
    lower = pc.ascii_lower(column)
    right = pc.match_substring_regex(lower, _UUID)
    texts = pc.if_else(right, lower, pa.scalar(None, pa.string())).to_pylist()
    return uuid_array(texts), _refuse(right, rows, name, "a UUID with hyphens", bad)


def _refuse(right: pa.Array, rows: Rows, name: str, expected: str, bad: BadRows) -> Mask:
    """Mark and record the rows that are not right; null is right."""
    wrong: Mask = ~pc.fill_null(right, True).to_numpy(zero_copy_only=False)
    column = rows.columns[name]
    wrong &= column.is_valid().to_numpy(zero_copy_only=False)
    bad.add_all(wrong, rows.numbers, name, expected, column)
    return wrong
