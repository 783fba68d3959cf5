# SPDX-License-Identifier: BSD-3-Clause
"""A graph from a file of either form; which one a file has is seen from its content."""

from pathlib import Path

from executor.graph.placed_yaml import GraphError
from executor.graph.quantum_graph import Graph


def read_graph(path: Path, *, run: str | None = None) -> Graph:
    """Read a whole graph file of either form, checked.

    Parameters
    ----------
    run
        The RUN to write into, instead of the one that the file names.

    Raises
    ------
    GraphError
        If it is wrong, with the place.
    """
    if is_columnar(path):
        # Late: pyarrow and numpy take 0.2 s, and a graph in YAML needs neither.
        from executor.graph.columnar_file import open_columnar
        from executor.graph.graph_forms import whole_graph

        return whole_graph(open_columnar(path, run=run))
    from executor.graph.yaml_graph import read_graph_file

    return read_graph_file(path, run=run)


def is_columnar(path: Path) -> bool:
    """Whether a file begins as a columnar graph file does; raises `GraphError`."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error}") from error
