# SPDX-License-Identifier: BSD-3-Clause
"""Ids and paths of many rows at once: what `registry.model` and `registry.names` give one by one.

A test holds both to the same answers. Arrow makes the texts; only the SHA-1 of each is a step of
Python, about a microsecond.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from registry import names
from registry.model import ID_NAMESPACE, DataId, DatasetType
from registry.typed_json import canonical

Ids = npt.NDArray[np.uint8]
"""One id of 16 bytes per row."""

Columns = Mapping[str, pa.ChunkedArray]
"""Dimension → its values, as many as there are rows."""


def derived_ids(kind: str, run: str, name: str, columns: Columns, n_rows: int) -> Ids:
    """The ids that `registry.model.derived_id` gives for kind, RUN, name and each data ID."""
    head = ID_NAMESPACE + canonical([kind, run, name])[:-1].encode()
    sha1 = hashlib.sha1
    digests = [
        sha1(head + b"," + text + b"]", usedforsecurity=False).digest()
        for chunk in canonical_data_ids(columns, n_rows).chunks
        for text in chunk.cast(pa.binary()).to_pylist()
    ]
    ids = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20)[:, :16].copy()
    ids[:, 6] = (ids[:, 6] & 0x0F) | 0x50
    ids[:, 8] = (ids[:, 8] & 0x3F) | 0x80
    return ids


def canonical_data_ids(columns: Columns, n_rows: int) -> pa.ChunkedArray:
    """Each data ID as `registry.typed_json.canonical` writes it."""
    pieces: list[pa.ChunkedArray | str] = []
    for name in sorted(columns):
        pieces += [f"{',' if pieces else '{'}{json.dumps(name)}:", _each(columns[name], _as_json)]
    return _joined([*pieces, "}" if pieces else "{}"], n_rows)


def dataset_paths(run: str, kind: DatasetType, columns: Columns, n_rows: int) -> pa.ChunkedArray:
    """The paths that `registry.names.dataset_path` gives for a RUN, a type and each data ID."""
    parts = [_each(columns[name], names.path_part) for name in kind.dimensions]
    name_pieces: list[pa.ChunkedArray | str] = [kind.name]
    for part in parts:
        name_pieces += ["_", part]
    above: list[pa.ChunkedArray | str] = [f"{run}/{kind.name}/"]
    for part in parts[:-1]:
        above += [part, "/"]
    paths = _joined([*above, *name_pieces, kind.extension], n_rows)
    long = pc.greater(pc.binary_length(_joined(name_pieces, n_rows)), names.MAX_PART_BYTES)
    rows = np.flatnonzero(long.to_numpy())
    if not len(rows):
        return paths
    mended = paths.to_pylist()
    for row in rows:
        data_id: DataId = {name: columns[name][int(row)].as_py() for name in kind.dimensions}
        mended[row] = names.dataset_path(run, kind.name, data_id, kind.extension)
    return pa.chunked_array([pa.array(mended, pa.string())])


def with_given_ids(ids: Ids, column: pa.ChunkedArray) -> Ids:
    """Ids with those that are given in a column in place of the derived ones."""
    given = np.flatnonzero(column.is_valid().to_numpy())
    if len(given):
        raw = b"".join(column.take(pa.array(given)).to_pylist())
        ids[given] = np.frombuffer(raw, np.uint8).reshape(-1, 16)
    return ids


def as_text(ids: Iterable[bytes]) -> list[str]:
    """Ids of 16 bytes as UUIDs are written."""
    texts = (raw.hex() for raw in ids)
    return [f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in texts]


def id_texts(ids: Ids) -> list[str]:
    """Rows of 16 bytes as UUIDs are written."""
    raw = ids.tobytes()
    return as_text(raw[at : at + 16] for at in range(0, len(raw), 16))


def id_bytes(text: str) -> bytes:
    """A UUID as 16 bytes; raises ValueError if it is none."""
    return uuid.UUID(text).bytes


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _each(column: pa.ChunkedArray, write: Callable[[object], str]) -> pa.ChunkedArray:
    """What a function makes of each value; it is called once for equal texts."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    chunks = []
    for chunk in column.chunks:
        encoded = chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()
        written = [write(value) for value in encoded.dictionary.to_pylist()]
        chunks.append(pa.array(written, pa.string()).take(encoded.indices))
    return pa.chunked_array(chunks, pa.string())


def _joined(pieces: Sequence[pa.ChunkedArray | str], n_rows: int) -> pa.ChunkedArray:
    if not any(isinstance(piece, pa.ChunkedArray) for piece in pieces):
        same = "".join(str(piece) for piece in pieces)
        return pa.chunked_array([pa.array([same] * n_rows, pa.string())])
    joined = pc.binary_join_element_wise(*pieces, "")
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined])
