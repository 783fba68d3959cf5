# SPDX-License-Identifier: BSD-3-Clause
"""A graph as columns or as objects, from a file of either form and into one."""

from pathlib import Path

from executor.graph.columnar_check import check_file, graph_id_of
from executor.graph.columnar_file import open_columnar
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.columnar_output import write_columnar
from executor.graph.gathered_quanta import GatheredQuanta
from executor.graph.given_ids import given_dataset_id, given_ids, header_of, outside_inputs
from executor.graph.graph_file import is_columnar
from executor.graph.graph_reader import GraphReader
from executor.graph.placed_yaml import GraphError, PlacedDocument
from executor.graph.quantum_graph import Graph
from executor.graph.yaml_graph import read_graph_file
from executor.graph.yaml_output import write_yaml

_YAML = (".yaml", ".yml")
_COLUMNAR = ".qgraph"


def open_graph(path: Path, *, run: str | None = None) -> ColumnarGraph:
    """Open a graph file of either form as columns.

    A columnar file is read where it is asked for and not checked as a whole; a YAML file is.

    Raises
    ------
    GraphError
        If it is wrong, with the place.
    """
    if is_columnar(path):
        return open_columnar(path, run=run)
    return columns_of(read_graph_file(path, run=run), str(path))


def write_graph(graph: ColumnarGraph, path: Path) -> None:
    """Write a graph in the form that the name asks for: ``.yaml``, ``.yml`` or ``.qgraph``.

    Raises
    ------
    GraphError
        If the name is another, or the file cannot be written.
    """
    if path.suffix in _YAML:
        write_yaml(whole_graph(graph), path)
    elif path.suffix == _COLUMNAR:
        write_columnar(graph, path)
    else:
        raise GraphError(
            f"{path}: expected a name that ends in {', '.join(_YAML)} or {_COLUMNAR}, found "
            f"{path.suffix!r}"
        )


def whole_graph(graph: ColumnarGraph) -> Graph:
    """All quanta of a columnar graph as objects, after a check of everything.

    Raises
    ------
    GraphError
    """
    loaded = graph.in_memory()
    checked = check_file(loaded)
    header = graph.header
    return Graph(
        loaded.stored_graph_id or graph_id_of(loaded, checked),
        header.name,
        header.run,
        header.dataset_types,
        graph.dimension_records,
        header.tasks,
        list(loaded.quanta()),
        dimensions=header.dimensions,
        optional_types=header.optional_types,
        unread_inputs=loaded.unread_inputs(checked.reads[1]),
    )


def columns_of(graph: Graph, name: str) -> ColumnarGraph:
    """A graph in memory as columns, checked.

    Parameters
    ----------
    name
        File, for messages.

    Raises
    ------
    GraphError
    """
    gathered = GatheredQuanta(GraphReader(PlacedDocument(name, None)), header_of(graph))
    for found in outside_inputs(graph):
        gathered.add_input(
            *(found.dataset_type, found.data_id, found.run, found.key, found.producer),
            *(given_dataset_id(found.run, found), found.size_bytes, found.checksum),
        )
    for quantum in graph.quanta:
        quantum_id, dataset_ids = given_ids(graph.run, quantum)
        gathered.add(
            quantum.task_label,
            quantum.data_id,
            [(found.dataset_type, found.data_id) for found in quantum.inputs],
            [(found.dataset_type, found.data_id) for found in quantum.outputs],
            quantum_id=quantum_id,
            dataset_ids=dataset_ids,
        )
    return gathered.graph(name, graph.dimension_records)
