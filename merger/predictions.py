# SPDX-License-Identifier: BSD-3-Clause
"""Predictions of a RUN: its graph records, and the quanta and outputs that they announce."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from merger.structs import Decoder
from registry import names
from registry.errors import QuantumExecError
from registry.graph_record import (
    GraphRecord,
    PredictedQuantum,
    predicted_quanta_lines,
    read_graph_record,
    read_predicted_quanta,
)
from transfer_plugins.object_store import ObjectStore

_decoder = Decoder(PredictedQuantum)


class GraphNotFoundError(QuantumExecError, LookupError):
    """The RUN has no graph record, so nothing says what its deltas may hold."""

    error_type = "graph_not_found"


@dataclass(frozen=True, slots=True)
class PredictedGraph:
    """A graph record with its quanta by id and the names of its dataset types."""

    record: GraphRecord
    quanta: dict[str, PredictedQuantum]
    dataset_types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What may be merged into a RUN: graphs by id; mostly one, more if it was extended."""

    run: str
    graphs: dict[str, PredictedGraph]

    def outputs_of(self, quantum_ids: Iterable[str]) -> list[str]:
        """Return the ids of all datasets that any graph lets these quanta make."""
        wanted = list(quantum_ids)
        return [
            output
            for graph in self.graphs.values()
            for quantum_id in wanted
            if quantum_id in graph.quanta
            for output in graph.quanta[quantum_id].outputs
        ]

    def quantum_ids(self) -> Iterator[str]:
        """Give the id of every predicted quantum once."""
        seen: set[str] = set()
        for graph in self.graphs.values():
            yield from graph.quanta.keys() - seen
            seen |= graph.quanta.keys()


def read_predictions(store: ObjectStore, run: str) -> Predictions:
    """Read every graph record of a RUN and its predicted quanta.

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
            graphs[record.graph_id] = PredictedGraph(
                record=record,
                quanta=_read_quanta(store, names.predicted_quanta_key(run, record.graph_id)),
                dataset_types=frozenset(t.name for t in record.dataset_types),
            )
    if not graphs:
        raise GraphNotFoundError(
            f"RUN {run!r}: expected a graph record below {store.uri}/{prefix}, found none; "
            "check the names of datastore and RUN"
        )
    return Predictions(run, graphs)


def _read_quanta(store: ObjectStore, key: str) -> dict[str, PredictedQuantum]:
    content, what = store.get(key), f"predicted quanta {key!r}"
    lines = predicted_quanta_lines(content, what)
    try:
        quanta = _decoder.decode_lines(b"\n".join(lines))
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The slower reader names the line.
        quanta = list(read_predicted_quanta(content, what))
    return {quantum.quantum_id: quantum for quantum in quanta}
