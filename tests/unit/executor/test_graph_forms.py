# SPDX-License-Identifier: BSD-3-Clause
"""Both forms of graph files say the same: what is converted, and converted back, is equal."""

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from executor.graph.columnar_file import open_columnar
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.difference import difference
from executor.graph.graph_file import read_graph
from executor.graph.graph_forms import open_graph, write_graph
from executor.graph.placed_yaml import GraphError
from executor.graph.yaml_graph import read_graph_file
from executor.graph.yaml_output import yaml_text
from tests.unit.executor.graph_documents import make_document, write
from tests.unit.executor.graph_strategies import Document, graph_documents

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "configs" / "pipelines").glob("*.yaml"))


def convert(source: Path, target: Path) -> Path:
    """Write a graph in the form of another name."""
    write_graph(open_graph(source), target)
    return target


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(graph_documents())
def test_nothing_is_lost(document: Document) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "graph.yaml")
        text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
        source.write_text(text, "utf-8")
        graph = read_graph_file(source)
        columns = convert(source, Path(name, "graph.qgraph"))
        assert read_graph(columns) == graph
        again = convert(columns, Path(name, "again.yaml"))
        assert read_graph(again) == graph
        assert not difference(open_graph(columns), open_graph(again))
        other = "u/other/night"
        assert read_graph(columns, run=other) == read_graph(source, run=other)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(graph_documents())
def test_parts_are_those_of_the_whole(document: Document) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = write(Path(name, "graph.yaml"), document)
        graph = read_graph(source)
        found = open_columnar(convert(source, Path(name, "graph.qgraph")))
        for quantum in graph.quanta:
            assert found.quantum(quantum.quantum_id) == quantum
        assert list(found.quanta()) == graph.quanta
        for label in graph.tasks:
            expected = [q for q in graph.quanta if q.task_label == label]
            assert list(found.quanta(task_label=label)) == expected


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_converted(path: Path, tmp_path: Path) -> None:
    columns = convert(path, tmp_path / "graph.qgraph")
    assert read_graph(columns) == read_graph(path)
    assert read_graph(convert(columns, tmp_path / "graph.yml")) == read_graph(path)


def test_form_is_seen_from_the_content(tmp_path: Path) -> None:
    source = write(tmp_path / "graph.yaml", make_document())
    columns = convert(source, tmp_path / "graph.qgraph").rename(tmp_path / "graph.yml")
    assert read_graph(columns) == read_graph(source)


def test_same_graph_is_the_same_file(tmp_path: Path) -> None:
    source = write(tmp_path / "graph.yaml", make_document())
    one, other = (convert(source, tmp_path / f"{n}.qgraph").read_bytes() for n in (1, 2))
    assert one == other


def test_name_must_tell_the_form(tmp_path: Path) -> None:
    source = write(tmp_path / "graph.yaml", make_document())
    with pytest.raises(GraphError, match=r"ends in \.yaml, \.yml or \.qgraph, found '\.json'"):
        convert(source, tmp_path / "graph.json")


def test_empty_graph(tmp_path: Path) -> None:
    source = write(tmp_path / "graph.yaml", {**make_document(), "quanta": []})
    columns = convert(source, tmp_path / "graph.qgraph")
    graph = read_graph(columns)
    assert graph == read_graph(source)
    assert (graph.quanta, len(graph.unread_inputs)) == ([], 2)


def test_yaml_of_a_graph_has_no_references(tmp_path: Path) -> None:
    text = yaml_text(read_graph(write(tmp_path / "graph.yaml", make_document())))
    assert "- {dataset_type: raw, data_id: {exposure: 1}, run: raw/all, key: raw/1.txt}\n" in text
    assert "&id" not in text
    assert "    counts:\n    - {exposure: 1}\n    - {exposure: 2}\n" in text


def test_wide_fan_in(tmp_path: Path) -> None:
    document = make_document()
    every = [{"exposure": number} for number in range(3_000)]
    document["inputs"] = [
        {"dataset_type": "raw", "data_id": e, "run": "raw/all", "key": f"raw/{e['exposure']}"}
        for e in every
    ]
    quantum = {"task": "count", "data_id": {}, "inputs": {"raw": every}, "outputs": {"summary": {}}}
    source = write(tmp_path / "graph.yaml", {**document, "quanta": [quantum]})
    found: ColumnarGraph = open_columnar(convert(source, tmp_path / "graph.qgraph"))
    (read,) = found.quanta()
    assert [i.data_id for i in read.inputs] == every
    assert read_graph(source).quanta == [read]
