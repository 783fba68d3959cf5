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

from merger.delta_listing import PackedIds, pack_ids
from registry import names
from registry.errors import FormatError
from registry.model import DataId
from transfer_plugins.object_store import ObjectStore

Places = np.ndarray[Any, np.dtype[np.int32]]

_AT_ONCE = 20_000


class _Links(msgspec.Struct):
    """What is kept of a predicted quantum."""

    quantum_id: str
    parents: list[str] = []


class PredictedLabel(msgspec.Struct):
    """What people call a predicted quantum."""

    quantum_id: str
    task_label: str
    data_id: DataId


@dataclass(frozen=True, slots=True)
class PredictedIds:
    """The quanta that the graphs of a RUN predict, sorted, and who reads outputs of whom.

    ``parents[i]`` and ``children[i]`` are places in ``quanta``, one pair for each edge.
    """

    quanta: PackedIds
    parents: Places
    children: Places

    def __len__(self) -> int:
        return len(self.quanta)

    def places(self, quanta: PackedIds) -> Places:
        """Return where some quanta are; those that are not predicted are left out."""
        places, is_there = self._look_up(quanta)
        return places[is_there]

    def _look_up(self, quanta: PackedIds) -> tuple[Places, np.ndarray[Any, np.dtype[np.bool_]]]:
        if not len(self.quanta):
            return np.zeros(len(quanta), np.int32), np.zeros(len(quanta), bool)
        places = np.searchsorted(self.quanta, quanta).clip(max=len(self.quanta) - 1)
        return places.astype(np.int32), self.quanta[places] == quanta

    @classmethod
    def link(cls, quanta: PackedIds, parents: PackedIds, children: PackedIds) -> "PredictedIds":
        """Sort quanta and find the places of both ends of each edge.

        Quanta may be there twice, in two graphs; an edge from outside of the RUN is left out.
        """
        none = np.zeros(0, np.int32)
        found = cls(np.unique(quanta), none, none)
        above, is_inside = found._look_up(parents)
        below, _ = found._look_up(children)
        return cls(found.quanta, above[is_inside], below[is_inside])


def graph_ids(store: ObjectStore, run: str) -> frozenset[str]:
    """Return the ids of the graphs of a RUN by one listing; there may be none yet.

    Raises
    ------
    transfer_plugins.object_store.TransferError
    """
    prefix = names.graph_prefix(run)
    keys = (stored.key for stored in store.list_objects(prefix))
    return frozenset(
        key.removeprefix(prefix).removesuffix(".json") for key in keys if key.endswith(".json")
    )


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


def read_labels(
    store: ObjectStore, run: str, graphs: Collection[str], wanted: PackedIds
) -> Iterator[PredictedLabel]:
    """Give task label and data ID of some quanta, each once, by graph; raises as above."""
    decoder = msgspec.json.Decoder(PredictedLabel)
    wanted = np.sort(wanted)
    is_new = np.ones(len(wanted), bool)
    for graph_id in sorted(graphs) if len(wanted) else ():
        for batch in _batches(store, names.predicted_quanta_key(run, graph_id), decoder):
            packed = pack_ids([label.quantum_id for label in batch])
            places = np.searchsorted(wanted, packed).clip(max=len(wanted) - 1)
            for number in np.flatnonzero(wanted[places] == packed):
                if is_new[places[number]]:
                    is_new[places[number]] = False
                    yield batch[number]


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
    except (OSError, EOFError, zlib.error, msgspec.DecodeError) as error:
        raise FormatError(f"predicted quanta {key!r}: expected lines of JSON, {error}") from error
    yield batch
