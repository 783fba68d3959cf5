# SPDX-License-Identifier: BSD-3-Clause
"""Archiving: every delta in a Parquet file, exact bytes and all columns, each once."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merger.archive_schema import FORMAT_FIELD, SCHEMA, row_digest
from merger.archived_deltas import with_archives
from merger.central_registry import CentralRegistry
from merger.delta_archive import ArchiveReport, NoDeltasError, archive_run
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from merger.verification import verify_run
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import Delta, write_delta
from registry.errors import InvalidNameError
from registry.model import DimensionRecord
from tests import dumps, factories
from tests.fix_merge import MergeSite
from tests.s3_proxy import S3Proxy
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore, open_store

GRAPH = factories.make_graph(12)
RUN = GRAPH.run


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind, with the graph."""
    if request.param == "s3":
        store = open_store(request.getfixturevalue("datastore"))
    else:
        store = open_store((tmp_path / "store").as_uri())
    factories.publish(store, GRAPH)
    return store


@pytest.fixture
def local_store(tmp_path: Path) -> ObjectStore:
    """A directory only."""
    return open_store((tmp_path / "store").as_uri())


def put(store: ObjectStore, *numbers: int) -> dict[str, bytes]:
    """Write deltas of some quanta; returns their bytes by key."""
    deltas = [factories.make_delta(GRAPH, number, number + 1) for number in numbers]
    keys = [factories.put_delta(store, delta) for delta in deltas]
    return dict(zip(keys, map(write_delta, deltas), strict=True))


def tables(store: ObjectStore, tmp_path: Path) -> list[pa.Table]:
    """The archives as anybody reads them."""
    found = []
    for stored in store.list_objects(names.archive_prefix(RUN)):
        store.download(stored.key, tmp_path / "archive.parquet")
        found.append(pq.read_table(tmp_path / "archive.parquet"))
    return found


def remove_deltas(store: ObjectStore) -> None:
    for stored in list(store.list_objects(names.delta_prefix(RUN))):
        store.delete(stored.key)


def test_every_delta_is_archived_as_it_is(store: ObjectStore, tmp_path: Path) -> None:
    contents = put(store, *range(12))
    report = archive_run(store, RUN, rows_per_file=5)
    assert (report.n_archived, len(report.written), report.exit_code) == (12, 3, ExitCode.OK)
    remove_deltas(store)
    read = with_archives(store, RUN)
    listed = [stored.key for stored in read.list_objects(names.delta_prefix(RUN))]
    assert listed == sorted(contents)
    assert {key: read.get(key) for key in listed} == contents
    rows = pa.concat_tables(tables(store, tmp_path)).to_pylist()
    assert [row["attempt_id"] for row in rows] == sorted(row["attempt_id"] for row in rows)
    assert {row["key"]: row["delta"] for row in rows} == contents
    assert all(row["row_sha256"] == row_digest(row["key"], row["delta"]) for row in rows)


def full_delta() -> Delta:
    delta = factories.make_delta(GRAPH, 3, 7, error="no\0thing", signal=9)
    record = DimensionRecord("exposure", {"exposure": 3}, {"airmass": 1.5, "note": "é"})
    return replace(delta, rows=replace(delta.rows, dimension_record=[record]))


def test_columns_have_what_the_delta_says(local_store: ObjectStore, tmp_path: Path) -> None:
    delta = full_delta()
    factories.put_delta(local_store, delta)
    archive_run(local_store, RUN)
    (table,) = tables(local_store, tmp_path)
    assert table.schema.names == SCHEMA.names
    assert table.schema.metadata == {FORMAT_FIELD: b"1"}
    (row,) = table.to_pylist()
    for name in ("run", "quantum_id", "task_label", "host", "error", "signal", "log_key"):
        assert row[name] == getattr(delta, name)
    for name in ("wall_s", "max_rss_bytes", "scratch_bytes"):
        assert row[name] == getattr(delta.resources, name)
    assert json.loads(row["data_id"]) == delta.data_id
    assert row["started"].isoformat(timespec="microseconds") == delta.started
    assert (row["requested_memory_mib"], row["requested_scratch_mib"]) == (2048, None)
    assert [read["key"] for read in row["inputs"]] == [read.key for read in delta.inputs]
    records = [record.object_key for record in delta.rows.datastore_record]
    assert [record["object_key"] for record in row["datastore_records"]] == records
    assert json.loads(row["dimension_records"][0]["record"]) == {"airmass": 1.5, "note": "é"}
    assert row["metrics"] == [{"name": "n_stars", "value": 42.0}]
    assert dict(row["versions"]) == delta.versions
    assert write_delta(delta).startswith(f'{{"checksum":"{row["checksum"]}"'.encode())


def test_deltas_that_cannot_be_decoded_are_archived_too(
    local_store: ObjectStore, tmp_path: Path
) -> None:
    huge = factories.make_delta(GRAPH, 2, 3)
    huge = replace(huge, resources=replace(huge.resources, max_rss_bytes=2**63))
    old = factories.make_delta(GRAPH, 3, 4)
    contents = {
        factories.put_delta(local_store, factories.make_delta(GRAPH, 0, 1), b"\xff\0junk"): b"",
        factories.put_delta(local_store, factories.make_delta(GRAPH, 1, 2), b""): b"",
        factories.put_delta(local_store, huge): b"",
        factories.put_delta(local_store, old, factories.in_format(1, old)): b"",
    }
    contents = {key: local_store.get(key) for key in contents}
    assert archive_run(local_store, RUN).n_undecoded == 3
    (table,) = tables(local_store, tmp_path)
    statuses = [row["status"] for row in table.to_pylist()]
    assert statuses == [None, None, None, AttemptStatus.SUCCESSFUL.value]
    remove_deltas(local_store)
    read = with_archives(local_store, RUN)
    assert {key: read.get(key) for key in contents} == contents


def test_archiving_again_adds_what_is_new(store: ObjectStore) -> None:
    put(store, 0, 1, 5)
    archive_run(store, RUN)
    assert archive_run(store, RUN).written == []
    put(store, 3)
    report = archive_run(store, RUN)
    assert (report.n_archived_before, report.n_archived, len(report.written)) == (3, 1, 1)
    read = with_archives(store, RUN)
    assert len(list(read.list_objects(names.delta_prefix(RUN)))) == 4


def test_dry_run_writes_nothing(local_store: ObjectStore) -> None:
    put(local_store, 0, 1)
    report = archive_run(local_store, RUN, dry_run=True)
    assert (report.n_to_archive, report.n_archived) == (2, 0)
    assert list(local_store.list_objects(names.archive_prefix(RUN))) == []


def test_two_at_once_are_harmless(store: ObjectStore) -> None:
    contents = put(store, *range(12))
    reports: list[ArchiveReport] = []
    threads = [
        threading.Thread(
            target=lambda n=n: reports.append(archive_run(store, RUN, rows_per_file=n))
        )
        for n in (4, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 2
    remove_deltas(store)
    read = with_archives(store, RUN)
    listed = [stored.key for stored in read.list_objects(names.delta_prefix(RUN))]
    assert listed == sorted(contents)
    assert archive_run(store, RUN).n_to_archive == 0


def test_archives_that_come_and_go_are_seen(local_store: ObjectStore) -> None:
    contents = put(local_store, 0, 1)
    read = with_archives(local_store, RUN)
    assert len(list(read.list_objects(names.delta_prefix(RUN)))) == 2
    archive_run(local_store, RUN)
    remove_deltas(local_store)
    # Without a listing: another process may have been told these keys.
    assert {key: read.get(key) for key in contents} == contents
    for stored in list(local_store.list_objects(names.archive_prefix(RUN))):
        local_store.delete(stored.key)
    assert list(read.list_objects(names.delta_prefix(RUN))) == []
    with pytest.raises(ObjectNotFoundError):
        read.get(next(iter(contents)))


def test_deltas_of_one_quantum_are_listed(local_store: ObjectStore) -> None:
    put(local_store, 0, 1)
    archive_run(local_store, RUN)
    late = factories.put_delta(local_store, factories.make_delta(GRAPH, 1, 20))
    read = with_archives(local_store, RUN)
    prefix = names.delta_prefix(RUN, GRAPH.quanta[1].quantum_id)
    listed = [stored.key for stored in read.list_objects(prefix)]
    assert len(listed) == 2
    assert late in listed
    assert list(read.list_objects(f"{RUN}/quantum-exec/jobs/")) == []


def test_other_names_among_the_deltas_are_left_alone(local_store: ObjectStore) -> None:
    put(local_store, 0)
    local_store.put(f"{names.delta_prefix(RUN)}stranger.json", b"x")
    report = archive_run(local_store, RUN)
    assert (report.n_archived, len(report.strangers)) == (1, 1)


def test_nothing_to_archive_is_told(local_store: ObjectStore) -> None:
    with pytest.raises(NoDeltasError, match="check the names of datastore and RUN"):
        archive_run(local_store, "u/nobody")
    with pytest.raises(InvalidNameError):
        archive_run(local_store, "../x")


def test_merge_from_archive_equals_merge_from_deltas(site: MergeSite, other_database: str) -> None:
    site.put(site.delta(0, 1), site.delta(0, 2), site.delta(1, 3))
    factories.put_delta(site.store, site.delta(2, 4), b"junk")
    archive_run(site.store, RUN)
    site.put(site.delta(2, 5))
    assert site.merge().exit_code == ExitCode.QUARANTINED
    shutil.rmtree(site.store.path(names.delta_prefix(RUN).rstrip("/")))
    site.put(site.delta(2, 5))
    with CentralRegistry(other_database) as registry:
        assert merge_run(registry, site.store, RUN).exit_code == ExitCode.QUARANTINED
        assert dumps.dump(other_database) == site.dump()
        found = verify_run(registry, site.store, RUN).findings
    assert [one.kind for one in found if one.is_difference] == ["delta_bad"]


def test_archive_in_s3_takes_few_requests(
    datastore: str, s3_endpoint: str, database: str, tmp_path: Path
) -> None:
    with S3Proxy(s3_endpoint) as proxy:
        store = open_store(datastore, endpoint_url=proxy.endpoint)
        graph = factories.make_graph(60)
        factories.publish(store, graph)
        for number in range(60):
            factories.put_delta(store, factories.make_delta(graph, number, number + 1))
        archive_run(store, RUN)
        proxy.seen.clear()
        with CentralRegistry(database) as registry:
            assert merge_run(registry, store, RUN).counts.n_deltas == 60
        deltas = names.delta_prefix(RUN)
        assert [seen.key for seen in proxy.of("GET") if f"{deltas}0" in seen.key] == []
        archives = [seen for seen in proxy.of("GET") if "/archive/0" in seen.key]
        assert 0 < len(archives) < 12
