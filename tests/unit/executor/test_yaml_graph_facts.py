# SPDX-License-Identifier: BSD-3-Clause
"""What a YAML graph may say beyond the plain: resources, ids, producers elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from executor.graph.placed_yaml import GraphError
from registry.job import ResourceRequest
from registry.model import derived_id
from tests.unit.executor.graph_documents import MISSING, document_with, make_document, read

ID, OTHER = derived_id("mine"), derived_id("other")


def test_resources(tmp_path: Path) -> None:
    asked = {"cpus": 2, "memory_mib": 4096, "scratch_mib": 100, "wall_s": 90}
    graph = read(tmp_path, document_with("tasks", "count", "resources", value=asked))
    assert graph.tasks["count"].resources == ResourceRequest(2, 4096, 100, 90.0)
    assert graph.tasks["summarize"].resources == ResourceRequest()
    assert graph.job_of(graph.quanta[1]).task.resources.memory_mib == 4096


def test_resources_do_not_make_another_graph(tmp_path: Path) -> None:
    document = document_with("tasks", "count", "resources", value={"wall_s": 1.5})
    assert read(tmp_path, document).graph_id == read(tmp_path, make_document()).graph_id


def test_input_of_another_graph(tmp_path: Path) -> None:
    document = make_document()
    del document["inputs"][0]["key"]
    document["inputs"][0]["producer"] = ID
    graph = read(tmp_path, document)
    found = graph.quanta[1].inputs[0]
    assert (found.producer, found.key, found.run) == (ID, None, "raw/all")
    assert graph.parents_of(graph.quanta[1]) == set()


def test_ids_that_are_given(tmp_path: Path) -> None:
    document = make_document()
    document["quanta"][1].update(quantum_id=ID, dataset_ids={"counts": OTHER})
    graph = read(tmp_path, document)
    assert graph.quanta[1].quantum_id == ID
    assert graph.quanta[1].outputs[0].dataset_id == OTHER
    assert graph.quanta[0].inputs[0].dataset_id == OTHER
    assert graph.quanta[0].inputs[0].producer == ID
    assert read(tmp_path, document, run="u/other").quanta[1].quantum_id == ID


def test_dataset_ids_are_parallel_to_outputs(tmp_path: Path) -> None:
    document = make_document()
    document["quanta"][1]["outputs"]["counts"] = [{"exposure": n} for n in (1, 5, 6)]
    document["quanta"][1]["dataset_ids"] = {"counts": [None, ID, OTHER]}
    ids = [output.dataset_id for output in read(tmp_path, document).quanta[1].outputs]
    derived = derived_id("dataset", "u/tester/night1", "counts", {"exposure": 1})
    assert ids == [derived, ID, OTHER]


def test_inputs_that_nobody_reads_are_kept(tmp_path: Path) -> None:
    document = make_document()
    del document["quanta"][1]["inputs"]
    assert [i.key for i in read(tmp_path, document).unread_inputs] == ["raw/1.txt"]


Place = tuple[str | int, ...]
WRONG: dict[str, tuple[Place, Any, str]] = {
    "resource": (("tasks", "count", "resources"), {"gpus": 1}, "expected one of ['cpus', 'memory_"),
    "no mapping": (("tasks", "count", "resources"), 7, "tasks.count.resources: expected a mapping"),
    "zero": (("tasks", "count", "resources"), {"cpus": 0}, "resources.cpus: expected a whole numb"),
    "float": (("tasks", "count", "resources"), {"cpus": 1.5}, "above zero, found 1.5"),
    "boolean": (("tasks", "count", "resources"), {"memory_mib": True}, "above zero, found True"),
    "text": (("tasks", "count", "resources"), {"scratch_mib": "1G"}, "above zero, found '1G'"),
    "time": (("tasks", "count", "resources"), {"wall_s": -0.5}, "wall_s: expected a number above "),
    "infinite": (
        ("tasks", "count", "resources"),
        {"wall_s": float("inf")},
        "above zero, found inf",
    ),
    "no number": (
        ("tasks", "count", "resources"),
        {"wall_s": float("nan")},
        "above zero, found nan",
    ),
    "neither": (("inputs", 0, "key"), MISSING, "inputs[0]: expected either 'key' or 'producer'"),
    "both": (("inputs", 0, "producer"), ID, "inputs[0]: expected either 'key' or 'producer'"),
    "producer": (("inputs", 0, "producer"), "x", "inputs[0].producer: expected a UUID, found 'x'"),
    "URI": (("inputs", 0, "key"), "s3://bucket/raw", "not a URI; found 's3://bucket/raw'"),
    "other URI": (("inputs", 0, "key"), "file:/raw", "not a URI; found 'file:/raw'"),
    "absolute": (("inputs", 0, "key"), "/raw/1", "inputs[0].key: key: expected a key relative"),
    "dots": (("inputs", 0, "key"), "raw/../1", "found 'raw/../1'"),
    "long": (("inputs", 0, "key"), "é" * 600, "a key of at most 1024 bytes"),
    "large size": (("inputs", 0, "size_bytes"), 2**63, "expected a number of bytes"),
    "quantum id": (("quanta", 0, "quantum_id"), "X", "quanta[0].quantum_id: expected a UUID"),
    "ids of none": (
        ("quanta", 0, "dataset_ids"),
        {"raw": ID},
        "expected one of ['summary'], found",
    ),
    "many ids": (("quanta", 0, "dataset_ids"), {"summary": [ID, OTHER]}, "expected 1 ids, found 2"),
    "no id": (
        ("quanta", 0, "dataset_ids"),
        {"summary": [7]},
        "summary[0]: expected a UUID, found 7",
    ),
    "large": (("quanta", 1, "data_id", "exposure"), 2**63, "exposure: expected an integer of 64 b"),
    "float value": (("quanta", 1, "data_id", "exposure"), 1.0, "exposure: expected int, found 1.0"),
    "boolean value": (("quanta", 1, "data_id", "exposure"), True, "expected int, found True"),
    "NUL": (("quanta", 1, "data_id", "band"), "a\0", "band: expected text that UTF-8 has, without"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_value_is_told_with_its_place(tmp_path: Path, name: str) -> None:
    place, value, text = WRONG[name]
    with pytest.raises(GraphError) as caught:
        read(tmp_path, document_with(*place, value=value))
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'graph.yaml'}:")


def test_ids_are_there_once(tmp_path: Path) -> None:
    document = make_document()
    document["quanta"][0]["quantum_id"] = document["quanta"][2]["quantum_id"] = ID
    with pytest.raises(GraphError, match=rf"quanta\[2\]: quanta\[0\] also has the id {ID}"):
        read(tmp_path, document)
    document = make_document()
    document["inputs"][0]["dataset_id"] = ID
    document["quanta"][0]["dataset_ids"] = {"summary": ID}
    with pytest.raises(GraphError, match=f"two datasets would have the id {ID}"):
        read(tmp_path, document)


def test_producer_in_this_graph_must_make_it(tmp_path: Path) -> None:
    document = document_with("quanta", 2, "quantum_id", value=ID)
    del document["inputs"][0]["key"]
    document["inputs"][0]["producer"] = ID
    with pytest.raises(GraphError, match=r"inputs\[0\]\.producer: quantum .* does not make it"):
        read(tmp_path, document)


def test_file_of_bytes_is_no_graph(tmp_path: Path) -> None:
    document = make_document()
    path = tmp_path / "graph.yaml"
    read(tmp_path, document)
    path.write_bytes(b"\xff" + path.read_bytes())
    from executor.graph.graph_file import read_graph

    with pytest.raises(GraphError, match="YAML or columnar, found neither"):
        read_graph(path)
