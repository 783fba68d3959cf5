# SPDX-License-Identifier: BSD-3-Clause
"""Publishing a graph: its record, its predicted quanta and its jobs into the datastore.

A RUN belongs to one graph. The record of a graph is written first and the records are listed
afterwards: of two graphs published at once at least one sees the other and steps back, without a
lock and without conditional PUTs. Publishing again writes the same objects again.
"""

from collections.abc import Callable
from pathlib import PurePosixPath

from executor.graph.quantum_graph import Graph
from registry import names
from registry.errors import QuantumExecError
from registry.graph_record import write_graph_record, write_predicted_quanta
from registry.job import write_job
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import ObjectStore


class OtherGraphError(QuantumExecError):
    """The RUN belongs to another graph; use another RUN, or say that it is to be extended."""

    error_type = "other_graph"


def publish_graph(
    graph: Graph,
    store: ObjectStore,
    *,
    extend: bool = False,
    on_job: Callable[[], None] = lambda: None,
) -> None:
    """Write everything that workers and the merger need to know of a graph.

    Parameters
    ----------
    extend
        Allow the RUN to belong to other graphs as well.
    on_job
        Called after each job file, for a progress bar.

    Raises
    ------
    OtherGraphError
        If the RUN has the record of another graph and is not to be extended.
    """
    if not extend:
        refuse_other_graphs(graph, store)
    record_key = names.graph_record_key(graph.run, graph.graph_id)
    quanta_key = names.predicted_quanta_key(graph.run, graph.graph_id)
    store.put(quanta_key, write_predicted_quanta(graph.predicted_quanta()))
    store.put(record_key, write_graph_record(graph.record()))
    if not extend:
        try:
            refuse_other_graphs(graph, store)
        except OtherGraphError:
            store.delete(record_key)
            store.delete(quanta_key)
            raise

    def put_job(quantum_id: str) -> None:
        content = write_job(graph.job_of(graph.by_id[quantum_id]))
        store.put(names.job_key(graph.run, quantum_id), content)
        on_job()

    map_concurrently(put_job, graph.by_id)


def graphs_of_run(store: ObjectStore, run: str) -> list[str]:
    """Ids of the graphs that have a record in a RUN."""
    listed = (PurePosixPath(o.key) for o in store.list_objects(names.graph_prefix(run)))
    return [path.stem for path in listed if path.suffix == ".json"]


def refuse_other_graphs(graph: Graph, store: ObjectStore) -> None:
    """Raise `OtherGraphError` if a RUN has the record of another graph."""
    others = [found for found in graphs_of_run(store, graph.run) if found != graph.graph_id]
    if others:
        raise OtherGraphError(
            f"RUN {graph.run!r} in {store.uri}: expected graph {graph.graph_id} ({graph.name}), "
            f"found it belongs to graph {others[0]}; choose another RUN, or --extend it"
        )
