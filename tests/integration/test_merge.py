# SPDX-License-Identifier: BSD-3-Clause
"""Merging: every row arrives once, and the attempt that counts decides."""

import dataclasses

import pytest

from merger.dataset_types import DatasetTypeConflictError
from merger.merge import merge_run
from merger.predictions import GraphNotFoundError
from registry.attempt import AttemptStatus
from registry.model import DatasetType, DimensionRecord
from tests import factories
from tests.factories import attempt
from tests.fix_merge import MergeSite
from transfer_plugins.object_store import open_store

FAILED, ABORTED = AttemptStatus.FAILED, AttemptStatus.ABORTED


AIRMASS = [DimensionRecord("exposure", {"exposure": 0}, {"airmass": 1.25})]
DATA_ID = '"{""detector"": 1, ""exposure"": 0}"'


def test_every_row_of_an_attempt_arrives(site: MergeSite) -> None:
    delta = site.delta(dimension_record=AIRMASS)
    site.put(delta)
    assert site.merge().counts.n_deltas == 1
    dumped, attempt_id, (read,) = site.dump(), delta.attempt_id, delta.inputs
    assert dumped["run"] == [f"({delta.run})"]
    assert dumped["quantum"] == [
        f"({delta.quantum_id},{delta.run},{delta.graph_id},calibrate,{DATA_ID},successful,"
        f"{attempt_id})"
    ]
    assert dumped["attempt"] == [
        f'({attempt_id},{delta.quantum_id},successful,f,f,"2026-01-02 03:04:05.000006+00",'
        f'"2026-01-02 03:05:05.25+00",worker-7,60.25,55.5,1.75,123456789,0,,,{delta.log_key},'
        '8589934592,4096,512,"{""cpus"": 4, ""wall_s"": 3600.0, ""memory_mib"": 2048, '
        '""scratch_mib"": null}","{""python"": ""3.13.1"", ""quantum-exec"": ""0.1.0""}")'
    ]
    assert dumped["quantum_input"] == [
        f"({attempt_id},{read.dataset_id},,raw/0.fits,1000,{read.checksum})"
    ]
    assert dumped["metric"] == [f"({attempt_id},n_stars,42)"]
    assert dumped["merged_attempt"][0].startswith(
        f"({attempt_id},{delta.run},{delta.quantum_id},sha256:"
    )


def test_every_dataset_and_dimension_record_arrives(site: MergeSite) -> None:
    delta = site.delta(dimension_record=AIRMASS)
    site.put(delta)
    assert site.merge().counts.n_datasets == 2
    dumped = site.dump()
    assert dumped["dataset"] == sorted(
        f"({row.dataset_id},{delta.run},{row.dataset_type},{DATA_ID},{delta.quantum_id},"
        f"{delta.attempt_id})"
        for row in delta.rows.dataset
    )
    assert dumped["datastore_record"] == sorted(
        f"({record.dataset_id},{record.object_key},{record.size_bytes},{record.checksum},"
        f"{record.storage_class})"
        for record in delta.rows.datastore_record
    )
    key = 'exposure,"{""exposure"": 0}"'
    assert dumped["dimension_record"] == [f'({key},"{{""airmass"": 1.25}}")']
    assert dumped["dimension_source"] == [f'({key},{delta.attempt_id},"{{""airmass"": 1.25}}")']


def test_merging_again_changes_nothing(site: MergeSite) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2))
    site.merge()
    before = site.dump()
    report = site.merge()
    assert (report.n_listed, report.n_merged_before, report.counts.n_deltas) == (2, 2, 0)
    assert site.dump() == before


def test_the_rest_is_merged_later(site: MergeSite) -> None:
    site.put(site.delta(0, 1))
    assert site.merge().counts.n_deltas == 1
    site.put(site.delta(1, 2), site.delta(2, 3))
    assert site.merge().counts.n_deltas == 2
    assert site.verify().n_differences == 0
    assert site.rows("SELECT count(*) FROM dataset") == [(6,)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_newest_success_counts(site: MergeSite, order: tuple[int, int], together: bool) -> None:
    old, new = site.delta(0, 1), site.delta(0, 2)
    for index in order:
        site.put([old, new][index])
        if not together:
            site.merge()
    site.merge()
    assert site.rows("SELECT status, attempt_id::text FROM quantum") == [("successful", attempt(2))]
    assert site.rows("SELECT DISTINCT attempt_id::text FROM dataset") == [(attempt(2),)]
    assert site.rows("SELECT object_key FROM datastore_record ORDER BY 1") == sorted(
        (record.object_key,) for record in new.rows.datastore_record
    )
    assert site.rows("SELECT attempt_id::text, superseded FROM attempt ORDER BY 1") == [
        (attempt(1), True),
        (attempt(2), False),
    ]
    assert site.rows("SELECT count(*) FROM merge_conflict") == [(0,)]
    assert site.rows("SELECT count(*) FROM quantum_input") == [(2,)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_outputs_that_the_newer_attempt_did_not_make_go(
    site: MergeSite, order: tuple[int, int]
) -> None:
    newer = site.delta(0, 2)
    rows = dataclasses.replace(
        newer.rows, dataset=newer.rows.dataset[1:], datastore_record=newer.rows.datastore_record[1:]
    )
    deltas = [site.delta(0, 1), dataclasses.replace(newer, rows=rows)]
    for index in order:
        site.put(deltas[index])
        site.merge()
    assert site.rows("SELECT dataset_type FROM dataset") == [("catalog",)]
    assert site.rows("SELECT count(*) FROM datastore_record") == [(1,)]


@pytest.mark.parametrize("status", [FAILED, ABORTED])
@pytest.mark.parametrize("together", [True, False])
def test_failure_merged_late_does_not_lower_the_quantum(
    site: MergeSite, status: AttemptStatus, together: bool
) -> None:
    site.put(site.delta(0, 1))
    if not together:
        site.merge()
    site.put(site.delta(0, 2, status=status))
    site.merge()
    assert site.rows("SELECT status, attempt_id::text FROM quantum") == [("successful", attempt(1))]
    assert site.rows("SELECT status, superseded FROM attempt ORDER BY attempt_id") == [
        ("successful", False),
        (status, False),
    ]
    assert site.rows("SELECT count(*) FROM dataset") == [(2,)]


def test_success_raises_the_quantum_though_its_id_is_lower(site: MergeSite) -> None:
    site.put(site.delta(0, 2, status=FAILED))
    site.merge()
    assert site.rows("SELECT status, attempt_id::text FROM quantum") == [("failed", attempt(2))]
    site.put(site.delta(0, 1))
    site.merge()
    assert site.rows("SELECT status, attempt_id::text FROM quantum") == [("successful", attempt(1))]
    assert site.differences() == []


def test_failures_alone_are_ranked_by_attempt(site: MergeSite) -> None:
    for number, status in [(2, FAILED), (3, ABORTED), (1, FAILED)]:
        site.put(site.delta(0, number, status=status))
        site.merge()
    assert site.rows("SELECT status, attempt_id::text FROM quantum") == [("aborted", attempt(3))]
    assert site.rows("SELECT DISTINCT error FROM attempt") == [("the task ended with exit code 1",)]


def test_dimension_records_of_failures_are_not_merged(site: MergeSite) -> None:
    record = DimensionRecord("exposure", {"exposure": 0}, {"airmass": 1.25})
    site.put(site.delta(0, 1, status=FAILED, dimension_record=[record]))
    assert site.merge().counts.n_deltas == 1
    assert site.rows("SELECT count(*) FROM dimension_record") == [(0,)]


def test_dimension_records_of_superseded_attempts_stay(site: MergeSite) -> None:
    for number in (2, 1):
        record = DimensionRecord("exposure", {"exposure": number}, {"airmass": 1.25})
        site.put(site.delta(0, number, dimension_record=[record]))
        site.merge()
    assert site.rows("SELECT count(*) FROM dimension_record") == [(2,)]


def test_graph_brings_dimension_records_and_dataset_types(site: MergeSite) -> None:
    record = DimensionRecord("detector", {"detector": 1}, {"name": "R22_S11"})
    site.graph = factories.make_graph(1, name="with records", dimension_records=[record])
    factories.publish(site.store, site.graph)
    # Not before there is a delta to merge: a RUN that was forgotten stays away.
    site.merge()
    assert site.rows("SELECT * FROM run") == []
    site.put(site.delta())
    site.merge()
    site.put(site.delta(0, 2))
    site.merge()
    assert site.rows("SELECT dimension, data_id, record FROM dimension_record") == [
        ("detector", {"detector": 1}, {"name": "R22_S11"})
    ]
    assert site.rows("SELECT * FROM dataset_type ORDER BY 1") == [
        ("catalog", ["exposure", "detector"], "Parquet"),
        ("image", ["exposure", "detector"], "Fits"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        DatasetType("image", ["exposure"], "Fits", ".fits"),
        DatasetType("image", ["exposure", "detector"], "NumpyArray", ".npy"),
    ],
)
def test_dataset_type_defined_otherwise_is_refused(site: MergeSite, other: DatasetType) -> None:
    site.put(site.delta())
    site.merge()
    site.graph = factories.make_graph(run="u/tester/night2", types=[other])
    factories.publish(site.store, site.graph)
    site.put(site.delta(0, 2))
    with pytest.raises(DatasetTypeConflictError, match=r"dataset type 'image': .* rename one"):
        site.merge()
    assert site.rows("SELECT run FROM run") == [(factories.RUN,)]


def test_run_without_graph_record_is_refused(site: MergeSite) -> None:
    with pytest.raises(GraphNotFoundError, match="RUN 'u/nobody': expected a graph record below"):
        merge_run(site.registry, site.store, "u/nobody")


def test_s3_and_directory_give_the_same_registry(
    site: MergeSite, other_database: str, datastore: str
) -> None:
    from merger.central_registry import CentralRegistry
    from tests.dumps import dump

    deltas = [site.delta(quantum, quantum + 1) for quantum in range(3)]
    site.put(*deltas)
    site.merge()
    store = open_store(datastore)
    factories.publish(store, site.graph)
    for delta in deltas:
        factories.put_delta(store, delta)
    with CentralRegistry(other_database) as registry:
        report = merge_run(registry, store, site.graph.run, batch_size=2)
    assert report.counts.n_deltas == 3
    assert dump(other_database) == site.dump()


def test_two_graphs_in_one_run(site: MergeSite) -> None:
    more = factories.make_graph(2, name="more", types=[DatasetType("coadd", ["tract"], "Fits", "")])
    factories.publish(site.store, more)
    site.put(site.delta(0, 1), factories.make_delta(more, 0, 2), factories.make_delta(more, 1, 3))
    assert site.merge().counts.n_deltas == 3
    assert site.rows("SELECT count(DISTINCT graph_id) FROM quantum") == [(2,)]
    assert [finding.kind for finding in site.verify().findings] == ["not_run", "not_run"]
