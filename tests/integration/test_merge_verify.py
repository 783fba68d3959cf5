# SPDX-License-Identifier: BSD-3-Clause
"""Verify names every difference between central registry, deltas and bucket."""

from collections.abc import Callable

import psycopg
import pytest

from merger import reports
from merger.exit_codes import ExitCode
from merger.findings import NOTES, FindingKind
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import write_delta
from registry.model import DimensionRecord
from tests import factories
from tests.factories import attempt
from tests.fix_merge import MergeSite
from transfer_plugins.object_store import TransferRefusedError

Change = Callable[[MergeSite], None]


@pytest.fixture
def merged(site: MergeSite) -> MergeSite:
    """Three quanta run, merged and equal."""
    record = DimensionRecord("exposure", {"exposure": 0}, {"airmass": 1.25})
    site.put(site.delta(0, 1, dimension_record=[record]), site.delta(1, 2), site.delta(2, 3))
    site.merge()
    report = site.verify(checksums=True)
    assert (report.findings, report.exit_code) == ([], ExitCode.OK)
    assert (report.n_quanta, report.n_deltas, report.n_datasets, report.n_objects) == (3, 3, 6, 6)
    return site


def sql(statement: str) -> Change:
    """A change of the central registry."""

    def change(site: MergeSite) -> None:
        with psycopg.connect(site.address) as connection:
            assert connection.execute(statement.encode()).rowcount == 1

    return change


def key_of(site: MergeSite, quantum: int = 0) -> str:
    """Key of the image of a quantum."""
    return site.delta(quantum, quantum + 1).rows.datastore_record[0].object_key


@pytest.mark.parametrize("delta_format", [1, 2])
def test_deltas_of_older_formats_are_no_difference(site: MergeSite, delta_format: int) -> None:
    delta = site.delta(0, 1)
    factories.put_objects(site.store, delta)
    factories.put_delta(site.store, delta, factories.in_format(delta_format, delta))
    assert site.merge().counts.n_deltas == 1
    assert {f.kind for f in site.verify(checksums=True).findings} == {FindingKind.NOT_RUN}


def test_datasets_that_were_not_kept_are_no_difference(site: MergeSite) -> None:
    kept, not_kept = site.delta(0, 1), factories.without_record(site.delta(1, 2))
    site.put(kept, not_kept)
    site.merge()
    report = site.verify(checksums=True)
    assert [f.kind for f in report.findings] == [FindingKind.NOT_RUN]
    assert (report.n_datasets, report.n_not_kept, report.n_objects) == (4, 2, 2)
    assert reports.verify_object(report)["n_not_kept"] == 2


def test_record_that_is_gone_is_not_taken_for_not_kept(merged: MergeSite) -> None:
    lost = merged.delta(0, 1).rows.dataset[0].dataset_id
    sql(f"DELETE FROM datastore_record WHERE dataset_id = '{lost}'")(merged)
    assert [(f.kind, f.id) for f in merged.differences()] == [(FindingKind.DATASET_DIFFERS, lost)]


def test_later_attempt_that_keeps_brings_the_record(site: MergeSite) -> None:
    first, second = factories.without_record(site.delta(0, 1)), site.delta(0, 2)
    for deltas in ((first,), (second,)):
        site.put(*deltas)
        site.merge()
    assert site.differences() == []
    keys = {key for (key,) in site.rows("SELECT object_key FROM datastore_record")}
    assert keys == {record.object_key for record in second.rows.datastore_record}


def test_later_attempt_that_does_not_keep_takes_the_record(site: MergeSite) -> None:
    site.put(site.delta(0, 1))
    site.merge()
    site.put(factories.without_record(site.delta(0, 2)))
    site.merge()
    report = site.verify()
    assert (report.n_differences, report.n_not_kept, len(report.superseded)) == (0, 2, 2)
    assert site.rows("SELECT object_key FROM datastore_record") == []


def delete_delta(site: MergeSite) -> None:
    delta = site.delta(0, 1)
    site.store.delete(names.delta_key(delta.run, delta.quantum_id, delta.attempt_id))


def change_delta(site: MergeSite) -> None:
    factories.put_delta(site.store, site.delta(0, 1, host="other"))


def damage_delta(site: MergeSite) -> None:
    factories.put_delta(site.store, site.delta(0, 1), b"junk")


def add_delta(site: MergeSite) -> None:
    site.put(site.delta(0, 9))


def quarantine_unlisted(site: MergeSite) -> None:
    key = factories.put_delta(site.store, site.delta(0, 9), b"junk")
    site.merge()
    site.store.delete(key)


CHANGES: list[tuple[FindingKind, Change]] = [
    (FindingKind.DELTA_NOT_MERGED, add_delta),
    (FindingKind.DELTA_BAD, damage_delta),
    (FindingKind.DELTA_MISSING, delete_delta),
    (FindingKind.DELTA_CHANGED, change_delta),
    (
        FindingKind.QUANTUM_DIFFERS,
        sql(f"UPDATE quantum SET status = 'failed' WHERE attempt_id = '{attempt(1)}'"),
    ),
    (
        FindingKind.QUANTUM_DIFFERS,
        sql(f"UPDATE quantum SET attempt_id = '{attempt(3)}' WHERE attempt_id = '{attempt(1)}'"),
    ),
    (
        FindingKind.ATTEMPT_DIFFERS,
        sql(f"UPDATE attempt SET status = 'failed' WHERE attempt_id = '{attempt(1)}'"),
    ),
    (
        FindingKind.ATTEMPT_DIFFERS,
        sql(f"UPDATE attempt SET superseded = true WHERE attempt_id = '{attempt(1)}'"),
    ),
    (
        FindingKind.ATTEMPT_DIFFERS,
        sql(f"DELETE FROM quantum_input WHERE attempt_id = '{attempt(1)}'"),
    ),
    (FindingKind.ATTEMPT_DIFFERS, sql(f"DELETE FROM metric WHERE attempt_id = '{attempt(1)}'")),
    (FindingKind.ATTEMPT_DIFFERS, sql("DELETE FROM dimension_source")),
    *(
        (
            FindingKind.ATTEMPT_DIFFERS,
            sql(f"UPDATE attempt SET {change} WHERE attempt_id = '{attempt(1)}'"),
        )
        for change in (
            "no_work = true",
            "read_bytes = read_bytes + 1",
            "write_bytes = NULL",
            "scratch_bytes = 0",
            "requested = NULL",
            "requested = '[1]'",
            "versions = '\"3\"'",
            "requested = jsonb_set(requested, '{cpus}', '5')",
            "versions = NULL",
            'versions = versions || \'{"numpy": "2"}\'',
        )
    ),
    (FindingKind.ATTEMPT_DIFFERS, sql(f"DELETE FROM attempt WHERE attempt_id = '{attempt(1)}'")),
    (FindingKind.DIMENSION_DIFFERS, sql("DELETE FROM dimension_record")),
    (FindingKind.DIMENSION_DIFFERS, sql("UPDATE dimension_record SET record = '{}'")),
    (
        FindingKind.DATASET_MISSING,
        sql("DELETE FROM dataset WHERE dataset_type = 'image' AND data_id->'exposure' = '0'"),
    ),
    (
        FindingKind.DATASET_UNEXPECTED,
        sql(
            f"INSERT INTO dataset VALUES (gen_random_uuid(), '{factories.RUN}', 'image', "
            f"'{{\"exposure\": 99}}', gen_random_uuid(), '{attempt(1)}')"
        ),
    ),
    (
        FindingKind.DATASET_DIFFERS,
        sql(
            "UPDATE dataset SET data_id = '{\"exposure\": 99}' "
            "WHERE dataset_type = 'image' AND data_id->'exposure' = '0'"
        ),
    ),
    (
        FindingKind.DATASET_DIFFERS,
        sql(
            "UPDATE datastore_record SET checksum = 'sha256:0' WHERE dataset_id = (SELECT "
            "dataset_id FROM dataset WHERE dataset_type = 'image' AND data_id->'exposure' = '0')"
        ),
    ),
    (
        FindingKind.DATASET_DIFFERS,
        sql(
            "DELETE FROM datastore_record WHERE dataset_id = (SELECT "
            "dataset_id FROM dataset WHERE dataset_type = 'image' AND data_id->'exposure' = '0')"
        ),
    ),
    (FindingKind.OBJECT_MISSING, lambda site: site.store.delete(key_of(site))),
    (FindingKind.OBJECT_SIZE, lambda site: site.store.put(key_of(site), b"short")),
    (FindingKind.QUARANTINED, quarantine_unlisted),
    (
        FindingKind.ORPHAN,
        lambda site: site.store.put(f"{site.graph.run}/image/0/left-over.fits", b"bytes"),
    ),
]


@pytest.mark.parametrize("kind, change", CHANGES)
def test_every_difference_is_named(merged: MergeSite, kind: FindingKind, change: Change) -> None:
    change(merged)
    report = merged.verify()
    assert kind in {finding.kind for finding in report.findings}
    is_note = kind in NOTES
    assert report.exit_code == (ExitCode.OK if is_note else ExitCode.DIFFERENCES)
    (first, *_) = [finding for finding in report.findings if finding.kind is kind]
    assert first.id is not None or first.key is not None
    assert first.is_difference is not is_note


def test_checksums_are_compared_if_asked_for(merged: MergeSite) -> None:
    key = key_of(merged)
    content = merged.store.get(key)
    merged.store.put(key, content.swapcase())
    assert merged.differences() == []
    (found,) = merged.verify(checksums=True).findings
    record = merged.delta(0, 1).rows.datastore_record[0]
    assert (found.kind, found.id, found.key) == (
        FindingKind.OBJECT_CHECKSUM,
        record.dataset_id,
        key,
    )
    assert found.expected == record.checksum != found.found


def test_object_of_superseded_attempt_is_a_note(merged: MergeSite) -> None:
    merged.put(merged.delta(0, 9))
    merged.merge()
    report = merged.verify(checksums=True)
    assert report.exit_code == ExitCode.OK
    assert [(finding.kind, finding.id) for finding in report.findings] == [
        (FindingKind.SUPERSEDED_OBJECT, attempt(1))
    ] * 2


def test_quanta_that_failed_or_never_ran_are_notes(site: MergeSite) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2, status=AttemptStatus.FAILED))
    site.merge()
    report = site.verify()
    assert report.exit_code == ExitCode.OK
    assert {(finding.kind, finding.id) for finding in report.findings} == {
        (FindingKind.UNFINISHED, site.graph.quanta[1].quantum_id),
        (FindingKind.NOT_RUN, site.graph.quanta[2].quantum_id),
    }


def test_sides_of_a_conflict_are_named_and_nothing_else(merged: MergeSite) -> None:
    second = factories.make_graph(1, name="second")
    factories.publish(merged.store, second)
    merged.put(factories.make_delta(second, 0, 9))
    merged.merge()
    report = merged.verify(checksums=True)
    assert {finding.kind for finding in report.findings} == {FindingKind.CONFLICT}
    assert {finding.id for finding in report.findings} == {attempt(1), attempt(9)}


def test_registry_row_of_another_store_is_not_looked_for(merged: MergeSite) -> None:
    """Raw data registered from outside lies under keys that are not the RUN's."""
    with psycopg.connect(merged.address) as connection:
        connection.execute(
            "INSERT INTO dataset VALUES "
            "('00000000-0000-0000-0000-000000000001', %s, 'image', '{\"exposure\": 99}')",
            (merged.graph.run,),
        )
        connection.execute(
            "INSERT INTO datastore_record VALUES "
            "('00000000-0000-0000-0000-000000000001', 'raw/1.fits', 5, NULL, 'Fits')"
        )
    assert merged.verify(checksums=True).findings == []


def test_attempt_of_another_run_is_told_by_its_checksum(merged: MergeSite) -> None:
    """An attempt id is merged once, wherever its delta lies."""
    copied = factories.make_graph(run="u/copy")
    factories.publish(merged.store, copied)
    delta = factories.make_delta(copied, 0, 1)
    merged.store.put(
        names.delta_key(copied.run, delta.quantum_id, delta.attempt_id), write_delta(delta)
    )
    merged.graph = copied
    assert merged.merge().counts.n_deltas == 0
    (found,) = merged.differences()
    assert found.kind is FindingKind.DELTA_BAD


def test_refused_delta_is_a_difference(merged: MergeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    delta, get = merged.delta(0, 1), merged.store.get
    key = names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)

    def refuse(asked: str) -> bytes:
        if asked == key:
            raise TransferRefusedError(f"{key}: S3 said AccessDenied")
        return get(asked)

    monkeypatch.setattr(merged.store, "get", refuse)
    (bad, *_) = merged.differences()
    assert (bad.kind, bad.key) == (FindingKind.DELTA_BAD, key)
    assert "AccessDenied" in str(bad.found)
