# SPDX-License-Identifier: BSD-3-Clause
"""Columnar graph files made quantum by quantum are those that YAML would make."""

from pathlib import Path
from typing import Any

import pytest

from executor.graph.graph_file import read_graph
from executor.graph.graph_writer import GraphWriter
from executor.graph.placed_yaml import GraphError
from registry.model import derived_id
from tests.unit.executor.graph_documents import Document, make_document, write

HEADER_KEYS = ("name", "run", "dimensions", "dataset_types", "tasks", "dimension_records")


def header(**changes: Any) -> Document:
    """The header of the sample document."""
    document = make_document()
    return {**{key: document[key] for key in HEADER_KEYS}, **changes}


def add_all(writer: GraphWriter, document: Document) -> None:
    """Add what a document holds, inputs last."""
    for quantum in document["quanta"]:
        reads, makes = quantum.get("inputs", {}), quantum.get("outputs", {})
        writer.add_quantum(quantum["task"], quantum["data_id"], reads, makes)
    for row in document["inputs"]:
        writer.add_input(row["dataset_type"], row["data_id"], run=row["run"], key=row["key"])


def test_writer_makes_what_yaml_says(tmp_path: Path) -> None:
    document = make_document()
    with GraphWriter(tmp_path / "graph.qgraph", header()) as writer:
        add_all(writer, document)
    graph = read_graph(tmp_path / "graph.qgraph")
    assert graph == read_graph(write(tmp_path / "graph.yaml", document))


def test_facts_of_inputs(tmp_path: Path) -> None:
    producer, dataset_id = derived_id("other"), derived_id("dataset of another")
    facts = {"size_bytes": 7, "checksum": "sha256:" + "ab" * 32, "dataset_id": dataset_id}
    with GraphWriter(tmp_path / "graph.qgraph", header()) as writer:
        writer.add_input("raw", {"exposure": 1}, run="u/other", producer=producer, **facts)  # type: ignore[arg-type]
        writer.add_quantum("count", {}, {"raw": {"exposure": 1}}, {})
    (found,) = read_graph(tmp_path / "graph.qgraph").quanta[0].inputs
    assert (found.producer, found.key, found.run) == (producer, None, "u/other")
    assert {name: getattr(found, name) for name in facts} == facts


def test_graph_id_is_kept(tmp_path: Path) -> None:
    graph_id = derived_id("mine")
    with GraphWriter(tmp_path / "graph.qgraph", header(graph_id=graph_id)):
        pass
    assert read_graph(tmp_path / "graph.qgraph").graph_id == graph_id
    assert read_graph(tmp_path / "graph.qgraph", run="u/other").graph_id == graph_id


RAW = {"exposure": 1}
WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "task": (("cont", RAW, {}, {}), "quanta[0]: cont: expected one of the task labels ['count', "),
    "dimension": (("count", {"visit": 1}, {}, {}), "expected dimensions of ['band', 'exposure'], "),
    "text": (("count", {"exposure": "1"}, {}, {}), "exposure: expected int of 64 bits, found '1'"),
    "boolean": (("count", {"exposure": True}, {}, {}), "expected int of 64 bits, found True"),
    "float": (("count", {"exposure": 1.0}, {}, {}), "expected int of 64 bits, found 1.0"),
    "large": (("count", {"exposure": 2**63}, {}, {}), "expected int of 64 bits, found 92233"),
    "NUL": (("count", {"band": "\0"}, {}, {}), "expected text that UTF-8 has, without NUL"),
    "surrogate": (("count", {"band": "\ud800"}, {}, {}), "expected text that UTF-8 has"),
    "type": (("count", RAW, {"rew": RAW}, {}), "expected one of the dataset types ['counts', 'ra"),
    "no dimension": (("count", RAW, {"raw": {}}, {}), "raw: expected a data ID with dimensions {'"),
    "more": (("count", RAW, {"raw": {**RAW, "band": "r"}}, {}), "expected a data ID with dimens"),
    "other kind": (("count", RAW, {"raw": {"exposure": "1"}}, {}), "expected a data ID with dim"),
    "of data ID": (("count", RAW, {"raw": {"exposure": 2**64}}, {}), "expected an integer of 64"),
    "no mapping": (("count", RAW, {"raw": [7]}, {}), "raw: expected a data ID with dimensions"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_quantum_is_refused_at_once(tmp_path: Path, name: str) -> None:
    arguments, text = WRONG[name]
    with (
        pytest.raises(GraphError) as caught,
        GraphWriter(tmp_path / "g.qgraph", header()) as writer,
    ):
        writer.add_quantum(*arguments)
    assert text in str(caught.value)
    assert list(tmp_path.iterdir()) == []


WRONG_INPUTS: dict[str, tuple[dict[str, Any], str]] = {
    "neither": ({}, "inputs[0]: expected either 'key' or 'producer'"),
    "both": ({"key": "x", "producer": derived_id(1)}, "expected either 'key' or 'producer'"),
    "URI": ({"key": "s3://b/x"}, "not a URI; found 's3://b/x'"),
    "producer": ({"producer": "x"}, "expected a UUID, found 'x'"),
    "run": ({"key": "x", "run": "a//b"}, "RUN 'a//b'"),
    "size": ({"key": "x", "size_bytes": -1}, "expected a number of bytes, found -1"),
    "checksum": ({"key": "x", "checksum": "md5:0"}, "expected sha256:<64 hex digits>"),
    "data ID": ({"key": "x", "data_id": {}}, "inputs[0]: raw: expected a data ID with dimensions"),
}


@pytest.mark.parametrize("name", WRONG_INPUTS)
def test_wrong_input_is_refused_at_once(tmp_path: Path, name: str) -> None:
    options, text = WRONG_INPUTS[name]
    arguments = {"dataset_type": "raw", "data_id": RAW, "run": "raw/all", **options}
    with (
        pytest.raises(GraphError) as caught,
        GraphWriter(tmp_path / "g.qgraph", header()) as writer,
    ):
        writer.add_input(**arguments)
    assert text in str(caught.value)


def test_missing_producer_is_told_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "graph.qgraph"
    with pytest.raises(GraphError) as caught, GraphWriter(path, header()) as writer:
        writer.add_quantum("count", {}, {}, {"summary": {}})
        writer.add_quantum("count", RAW, {"summary": {}, "raw": [RAW, {"exposure": 2}]}, {})
        writer.add_input("raw", RAW, run="raw/all", key="raw/1")
    assert str(caught.value) == (
        f"{path}: quanta[1]: count: raw (exposure=2) is made by no quantum and is not under "
        "'inputs'"
    )
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), GraphWriter(tmp_path / "graph.qgraph", header()):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changes", [{"colour": 1}, {"run": "../x"}, {"tasks": {"count": {}}}])
def test_wrong_header_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match=r"graph\.qgraph: "):
        GraphWriter(tmp_path / "graph.qgraph", header(**changes))


def test_many_inputs_from_outside(tmp_path: Path) -> None:
    # More than are kept as objects at a time.
    every = [{"exposure": number} for number in range(70_000)]
    with GraphWriter(tmp_path / "graph.qgraph", header()) as writer:
        for data_id in every:
            writer.add_input("raw", data_id, run="raw/all", key=f"raw/{data_id['exposure']}")
        writer.add_quantum("count", {}, {"raw": every[::-1]}, {"summary": {}})
    (quantum,) = read_graph(tmp_path / "graph.qgraph").quanta
    assert [found.key for found in quantum.inputs] == [f"raw/{n}" for n in range(70_000)][::-1]
