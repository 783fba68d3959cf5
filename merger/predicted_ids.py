# SPDX-License-Identifier: BSD-3-Clause
"""The ids of predicted quanta and who reads outputs of whom, packed: follow mode keeps them."""

import gzip
import io
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from merger.packed_ids import PackedIds, find_ids, pack_ids
from registry import names
from registry.errors import FormatError
from transfer_plugins.object_store import ObjectStore

Places = np.ndarray[Any, np.dtype[np.int64]]
Edges = np.ndarray[Any, np.dtype[np.int32]]

_AT_ONCE = 20_000


class _Links(msgspec.Struct):
    """What is kept of a predicted quantum."""

    quantum_id: str
    parents: list[str] = []


@dataclass(frozen=True, slots=True)
class PredictedIds:
    """The quanta that the graphs of a RUN predict, sorted, and who reads outputs of whom.

    ``parents[i]`` and ``children[i]`` are places in ``quanta``, one pair for each edge.
    """

    quanta: PackedIds
    parents: Edges
    children: Edges

    def __len__(self) -> int:
        return len(self.quanta)

    def places(self, quanta: PackedIds) -> Places:
        """Return where some quanta are; those that are not predicted are left out."""
        places = find_ids(self.quanta, quanta)
        return places[places >= 0]

    @classmethod
    def none(cls) -> "PredictedIds":
        """No quanta."""
        return cls(np.zeros(0, "S16"), np.zeros(0, np.int32), np.zeros(0, np.int32))

    @classmethod
    def link(cls, quanta: PackedIds, parents: PackedIds, children: PackedIds) -> "PredictedIds":
        """Sort quanta and find the places of both ends of each edge.

        Quanta may be there twice, in two graphs; an edge from outside of the RUN is left out.
        """
        ordered = np.unique(quanta)
        above, below = find_ids(ordered, parents), find_ids(ordered, children)
        is_inside = above >= 0
        return cls(ordered, above[is_inside].astype(np.int32), below[is_inside].astype(np.int32))


def read_predicted_ids(store: ObjectStore, run: str, graphs: Collection[str]) -> PredictedIds:
    """Read the ids of all quanta of some graphs.

    Raises
    ------
    registry.errors.FormatError
    transfer_plugins.object_store.TransferError
    """
    decoder = msgspec.json.Decoder(_Links)
    quanta, parents, children = [], [], []
    for graph_id in sorted(graphs):
        for batch in _batches(store, names.predicted_quanta_key(run, graph_id), decoder):
            packed = pack_ids([links.quantum_id for links in batch])
            quanta.append(packed)
            parents.append(pack_ids([parent for links in batch for parent in links.parents]))
            children.append(np.repeat(packed, [len(links.parents) for links in batch]))
    empty = np.zeros(0, "S16")
    return PredictedIds.link(
        np.concatenate([empty, *quanta]),
        np.concatenate([empty, *parents]),
        np.concatenate([empty, *children]),
    )


def _batches(
    store: ObjectStore, key: str, decoder: "msgspec.json.Decoder[Any]"
) -> Iterator[list[Any]]:
    """Give the lines of a list of predicted quanta, some thousands at a time."""
    batch: list[Any] = []
    try:
        with gzip.open(io.BytesIO(store.get(key))) as lines:
            for line in lines:
                batch.append(decoder.decode(line))
                if len(batch) == _AT_ONCE:
                    yield batch
                    batch = []
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise FormatError(f"predicted quanta {key!r}: expected lines of JSON, {error}") from error
    yield batch
