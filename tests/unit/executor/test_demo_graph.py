# SPDX-License-Identifier: BSD-3-Clause
"""The demo's graph file is one that the reader takes, with the quanta that it promises."""

from collections import Counter
from pathlib import Path

import pytest

from executor.demo.graph import write_graph
from executor.demo.survey import Survey, make_survey
from executor.function_task import load_function
from executor.graph.quantum_graph import Graph
from executor.graph.yaml_graph import read_graph_file
from transfer_plugins.object_store import DirectoryObjectStore


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return make_survey(DirectoryObjectStore(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def graph_path(survey: Survey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "m13.yaml"
    write_graph(survey, path)
    return path


@pytest.fixture(scope="module")
def graph(graph_path: Path) -> Graph:
    return read_graph_file(graph_path)


def test_number_of_quanta(graph: Graph) -> None:
    assert Counter(q.task_label for q in graph.quanta) == {
        "isr": 12,
        "characterize": 12,
        "calibrate": 12,
        "warp": 12,
        "coadd": 9,
        "measure": 9,
        "assemble": 1,
    }


def test_every_dataset_of_the_survey_is_read(graph: Graph, survey: Survey) -> None:
    read = {i.key: i for quantum in graph.quanta for i in quantum.inputs if i.producer is None}
    assert set(read) == {d.key for d in survey.datasets}
    for dataset in survey.datasets:
        found = read[dataset.key]
        assert (found.size_bytes, found.checksum) == (dataset.size_bytes, dataset.checksum)


def test_only_results_are_read_by_nobody(graph: Graph) -> None:
    made = {o.dataset_id: o.dataset_type for q in graph.quanta for o in q.outputs}
    read = {i.dataset_id for q in graph.quanta for i in q.inputs}
    assert {kind for dataset_id, kind in made.items() if dataset_id not in read} == {
        "coadd_png",
        "mosaic",
        "mosaic_png",
        "catalog",
        "comparison",
        "comparison_png",
    }


def test_tasks_are_functions_that_can_be_called(graph: Graph) -> None:
    for call in graph.tasks.values():
        assert callable(load_function(call.function or ""))


def test_a_person_can_read_it(graph_path: Path) -> None:
    text = graph_path.read_text()
    assert "  coadd_png: {dimensions: [patch], storage_class: File, extension: .png}\n" in text
    assert "  - {exposure: 1, airmass: 1.09, exposure_s: 60.0, target: M13}\n" in text
    assert "  inputs: {raw: [{exposure: 1}], bias: [{}], flat: [{}]}\n" in text
    assert "&id" not in text


def test_another_run_can_be_named(survey: Survey, tmp_path: Path) -> None:
    write_graph(survey, tmp_path / "graph.yaml", run="u/me/night1")
    assert read_graph_file(tmp_path / "graph.yaml").run == "u/me/night1"
