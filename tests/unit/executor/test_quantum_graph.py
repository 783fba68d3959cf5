# SPDX-License-Identifier: BSD-3-Clause
"""Graphs in memory, and the jobs made of them."""

from pathlib import Path

import pytest

from executor.graph.quantum_graph import Graph
from registry.job import JOB_FORMAT
from tests.unit.executor.graph_documents import make_document, read


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """The graph of the sample document, with records of other dimensions as well."""
    document = make_document()
    document["dimension_records"] = {
        "exposure": [{"exposure": n, "airmass": 1.0 + n} for n in range(1, 4)],
        "band": [{"band": "r", "wavelength": 620}, {"band": "r", "exposure": 1, "zero": 27}],
    }
    # The same record cannot be there twice, so the second is of another data ID.
    return read(tmp_path, document)


def test_job_has_what_its_quantum_needs_and_nothing_else(graph: Graph) -> None:
    quantum = graph.quanta[1]
    job = graph.job_of(quantum)
    assert (job.format, job.graph_id, job.run) == (JOB_FORMAT, graph.graph_id, graph.run)
    assert (job.quantum_id, job.task_label) == (quantum.quantum_id, "count")
    assert job.task == graph.tasks["count"]
    assert [t.name for t in job.dataset_types] == ["counts", "raw"]
    assert (job.inputs, job.outputs) == (quantum.inputs, quantum.outputs)


def test_job_has_the_records_of_its_data_ids(graph: Graph) -> None:
    records = [
        [(r.dimension, r.data_id) for r in graph.job_of(quantum).dimension_records]
        for quantum in graph.quanta
    ]
    # The first quantum has an empty data ID and reads exposures 1 and 2; nobody has a band.
    assert records[0] == [("exposure", {"exposure": 1}), ("exposure", {"exposure": 2})]
    assert records[1] == [("exposure", {"exposure": 1})]
    assert records[2] == [("exposure", {"exposure": 2})]


def test_record_has_what_all_quanta_share(graph: Graph) -> None:
    record = graph.record()
    assert (record.graph_id, record.run, record.n_quanta) == (graph.graph_id, graph.run, 3)
    assert record.dataset_types == list(graph.dataset_types.values())
    assert record.dimension_records == graph.dimension_records


def test_predicted_quanta_name_their_outputs(graph: Graph) -> None:
    predicted = list(graph.predicted_quanta())
    assert [p.quantum_id for p in predicted] == [q.quantum_id for q in graph.quanta]
    assert [p.outputs for p in predicted] == [[q.outputs[0].dataset_id] for q in graph.quanta]
    assert predicted[1].data_id == {"exposure": 1}


def test_order_is_that_of_the_data(graph: Graph) -> None:
    order = list(graph.sorter().static_order())
    assert sorted(order) == sorted(graph.by_id)
    assert order[-1] == graph.quanta[0].quantum_id
