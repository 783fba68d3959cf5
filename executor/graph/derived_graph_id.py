# SPDX-License-Identifier: BSD-3-Clause
"""The id of a graph from its columns: that of `executor.graph.quantum_graph.derive_graph_id`.

It is the SHA-1 of a JSON text of 400 MB for 1,000,000 quanta, which is made piece by piece.
"""

import hashlib
import uuid
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from executor.graph.column_codes import Integers
from executor.graph.derived_columns import Ids
from registry.model import ID_NAMESPACE
from registry.typed_json import canonical

_CHUNK = 65_536
_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint8)
_PLACES = [at for at in range(36) if at not in (8, 13, 18, 23)]


def derive_graph_id(
    run: str,
    quantum_ids: Ids,
    dataset_ids: Ids,
    inputs: tuple[Integers, Integers],
    outputs: tuple[Integers, Integers],
) -> str:
    """Derive the id of a graph.

    Parameters
    ----------
    inputs, outputs
        Where those of each quantum start (one more than quanta), and their rows in *datasets*.
    """
    text = hashlib.sha1(ID_NAMESPACE, usedforsecurity=False)
    text.update(canonical(["graph", run, []])[:-2].encode())
    order = sort_ids(quantum_ids)
    ranks = np.empty(len(dataset_ids), np.int64)
    ranks[sort_ids(dataset_ids)] = np.arange(len(dataset_ids))
    by_rank = np.argsort(ranks)
    separator = b""
    for at in range(0, len(order), _CHUNK):
        rows = order[at : at + _CHUNK]
        heads = _texts(quantum_ids[rows], b'["', b'",[')
        read, made = (
            _listed(rows, *part, ranks, by_rank, dataset_ids) for part in (inputs, outputs)
        )
        width = len(heads) // len(rows)
        pieces = (
            b"".join((heads[n * width : (n + 1) * width], one, b"],[", other, b"]]"))
            for n, (one, other) in enumerate(zip(read, made, strict=True))
        )
        text.update(separator + b",".join(pieces))
        separator = b","
    text.update(b"]]")
    return str(uuid.UUID(bytes=text.digest()[:16], version=5))


def sort_ids(ids: Ids) -> Integers:
    """The order of ids."""
    halves = np.ascontiguousarray(ids).view(">u8")
    order: Integers = np.lexsort((halves[:, 1], halves[:, 0]))
    return order


def _listed(
    rows: Integers,
    starts: Integers,
    datasets: Integers,
    ranks: Integers,
    by_rank: Integers,
    dataset_ids: Ids,
) -> Iterator[bytes]:
    """The ids of the datasets of each quantum, sorted, as JSON strings with commas between."""
    counts = starts[rows + 1] - starts[rows]
    ends = np.cumsum(counts)
    at = np.repeat(starts[rows] - (ends - counts), counts) + np.arange(counts.sum())
    # Sorting quantum and rank as one number sorts the ids of each quantum.
    n_datasets = max(1, len(ranks))
    both = np.sort(np.repeat(np.arange(len(rows)), counts) * n_datasets + ranks[datasets[at]])
    texts = _texts(dataset_ids[by_rank[both % n_datasets]], b'"', b'",')
    bounds = np.concatenate([[0], ends]) * 39
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield texts[start:end][:-1]


def _texts(ids: Ids, before: bytes, after: bytes) -> bytes:
    """Each id as text between other text."""
    width = len(before) + 36 + len(after)
    texts: npt.NDArray[np.uint8] = np.full((len(ids), width), ord("-"), np.uint8)
    texts[:, : len(before)] = np.frombuffer(before, np.uint8)
    texts[:, len(before) + 36 :] = np.frombuffer(after, np.uint8)
    places = np.array(_PLACES) + len(before)
    texts[:, places] = _HEX.reshape(256, 2)[ids].reshape(len(ids), 32)
    return texts.tobytes()
