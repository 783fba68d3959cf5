# SPDX-License-Identifier: BSD-3-Clause
"""Predictions of a RUN: its graph records, and the quanta and outputs that they announce."""

import functools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from merger.packed_ids import pack_ids, unpack_ids
from merger.predicted_quanta import PackedQuanta, read_packed
from registry import names
from registry.errors import QuantumExecError
from registry.graph_record import GraphRecord, read_graph_record
from transfer_plugins.object_store import ObjectStore

_AT_ONCE = 10_000


class GraphNotFoundError(QuantumExecError, LookupError):
    """The RUN has no graph record, so nothing says what its deltas may hold."""

    error_type = "graph_not_found"


@dataclass(frozen=True)
class PredictedGraph:
    """A graph record with the names of its dataset types, and its quanta when they are wanted."""

    record: GraphRecord
    dataset_types: frozenset[str]
    store: ObjectStore
    quanta_key: str

    @functools.cached_property
    def quanta(self) -> PackedQuanta:
        """The predicted quanta, read when first asked for: a merge with nothing to do need not.

        Raises
        ------
        registry.errors.FormatError
        transfer_plugins.object_store.TransferError
        """
        content = self.store.get(self.quanta_key)
        return read_packed(content, f"predicted quanta {self.quanta_key!r}")


@dataclass(frozen=True, slots=True)
class Predictions:
    """What may be merged into a RUN: graphs by id; mostly one, more if it was extended."""

    run: str
    graphs: dict[str, PredictedGraph]

    def outputs_of(self, quantum_ids: Iterable[str]) -> list[str]:
        """Return the ids of all datasets that any graph lets these quanta make."""
        wanted = pack_ids(list(quantum_ids))
        outputs: list[str] = []
        for graph in self.graphs.values() if len(wanted) else ():
            places = graph.quanta.find(wanted)
            outputs += unpack_ids(graph.quanta.outputs_at(places[places >= 0])[0])
        return outputs

    def quantum_ids(self) -> Iterator[str]:
        """Give the id of every predicted quantum once."""
        ids = np.unique(np.concatenate([graph.quanta.ids for graph in self.graphs.values()]))
        for start in range(0, len(ids), _AT_ONCE):
            yield from unpack_ids(ids[start : start + _AT_ONCE])


def read_predictions(
    store: ObjectStore, run: str, *, only: Collection[str] | None = None
) -> Predictions:
    """Read every graph record of a RUN; predicted quanta are read when they are asked for.

    Parameters
    ----------
    only
        Ids of the graphs to know; others may have come since they were listed.

    Raises
    ------
    GraphNotFoundError
        If there is none.
    registry.errors.FormatError
        If one is damaged or of a newer release.
    transfer_plugins.object_store.TransferError
    """
    names.check_run(run)
    prefix = names.graph_prefix(run)
    graphs = {}
    for stored in store.list_objects(prefix):
        if stored.key.endswith(".json"):
            record = read_graph_record(store.get(stored.key), f"graph record {stored.key!r}")
            if only is not None and record.graph_id not in only:
                continue
            types = frozenset(t.name for t in record.dataset_types)
            graphs[record.graph_id] = PredictedGraph(
                record, types, store, names.predicted_quanta_key(run, record.graph_id)
            )
    if not graphs:
        raise GraphNotFoundError(
            f"RUN {run!r}: expected a graph record below {store.uri}/{prefix}, found none; "
            "check the names of datastore and RUN"
        )
    return Predictions(run, graphs)
