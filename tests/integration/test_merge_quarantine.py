# SPDX-License-Identifier: BSD-3-Clause
"""Bad deltas: each with its reason, none in the way of the others, and out again when mended."""

import dataclasses
import hashlib
from collections.abc import Callable

import psycopg
import pytest

from merger.central_registry import CentralRegistry
from merger.delta_checks import BadDelta, Reason
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from merger.progress import Progress
from merger.quarantine import renew_quarantine
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import DELTA_FORMAT, Delta, LogEntry, MetricRow, write_delta
from registry.model import DatasetType, DimensionRecord
from tests import factories
from tests.factories import framed
from tests.fix_merge import MergeSite


def body_of(delta: Delta) -> bytes:
    return write_delta(delta).split(b",", 1)[1]


def change_rows(delta: Delta, **changes: object) -> Delta:
    return dataclasses.replace(delta, rows=dataclasses.replace(delta.rows, **changes))  # type: ignore[arg-type]


def change_record(delta: Delta, **changes: object) -> Delta:
    first, *others = delta.rows.datastore_record
    changed = dataclasses.replace(first, **changes)  # type: ignore[arg-type]
    return change_rows(delta, datastore_record=[changed, *others])


BYTES: dict[str, tuple[Reason, Callable[[Delta], bytes]]] = {
    "empty": (Reason.TRUNCATED, lambda d: b""),
    "cut": (Reason.TRUNCATED, lambda d: write_delta(d)[:-7]),
    "altered": (Reason.CHECKSUM, lambda d: write_delta(d).replace(b"worker-7", b"worker-8")),
    "no delta": (Reason.CHECKSUM, lambda d: b'{"some":"other object"}'),
    "no json": (Reason.NOT_JSON, lambda d: framed(body_of(d)[:-1])),
    "lone surrogate": (
        Reason.NOT_JSON,
        lambda d: framed(body_of(d).replace(b"worker-7", b"\\ud800")),
    ),
    "not utf-8": (
        Reason.NOT_JSON,
        lambda d: framed(body_of(d).replace(b"worker-7", b"\xff\xfe")),
    ),
    "field missing": (
        Reason.BAD_FIELDS,
        lambda d: framed(body_of(d).replace(b'"host":"worker-7",', b"")),
    ),
    "field unknown": (
        Reason.BAD_FIELDS,
        lambda d: framed(body_of(d).replace(b'"host"', b'"hosts":1,"host"')),
    ),
    "new member in format 1": (
        Reason.BAD_FIELDS,
        lambda d: framed(body_of(d).replace(b'"format":3', b'"format":1')),
    ),
    "two formats": (
        Reason.BAD_FIELDS,
        lambda d: framed(body_of(d)[:-1] + b',"format":1}'),
    ),
    "wrong type": (
        Reason.BAD_FIELDS,
        lambda d: framed(body_of(d).replace(b'"no_work":false', b'"no_work":0')),
    ),
}

ROWS: dict[str, tuple[Reason, Callable[[Delta], Delta]]] = {
    "other graph": (
        Reason.UNKNOWN_GRAPH,
        lambda d: dataclasses.replace(d, graph_id="00000000-0000-0000-0000-000000000000"),
    ),
    "other task": (
        Reason.UNPREDICTED_QUANTUM,
        lambda d: dataclasses.replace(d, task_label="other"),
    ),
    "other data id": (
        Reason.UNPREDICTED_QUANTUM,
        lambda d: dataclasses.replace(d, data_id={"exposure": 77, "detector": 1}),
    ),
    "unpredicted type": (
        Reason.UNPREDICTED_OUTPUT,
        lambda d: change_rows(
            d,
            dataset=[
                dataclasses.replace(r, dataset_type=f"other_{r.dataset_type}")
                for r in d.rows.dataset
            ],
        ),
    ),
    "key outside": (Reason.BAD_ROWS, lambda d: change_record(d, object_key="elsewhere/x.fits")),
    "key climbs out": (
        Reason.BAD_ROWS,
        lambda d: change_record(d, object_key=f"{d.run}/../x.fits"),
    ),
    "negative size": (Reason.BAD_ROWS, lambda d: change_record(d, size_bytes=-1)),
    "record missing": (
        Reason.BAD_ROWS,
        lambda d: change_rows(d, datastore_record=d.rows.datastore_record[1:]),
    ),
    "dataset twice": (
        Reason.BAD_ROWS,
        lambda d: change_rows(
            d,
            dataset=d.rows.dataset * 2,
            datastore_record=d.rows.datastore_record * 2,
        ),
    ),
    "data id twice": (
        Reason.BAD_ROWS,
        lambda d: change_rows(
            d, dataset=[dataclasses.replace(r, dataset_type="image") for r in d.rows.dataset]
        ),
    ),
    "failure with outputs": (
        Reason.BAD_ROWS,
        lambda d: dataclasses.replace(d, status=AttemptStatus.FAILED),
    ),
    "metric twice": (
        Reason.BAD_ROWS,
        lambda d: change_rows(d, metric=[MetricRow("a", 1), MetricRow("a", 2)]),
    ),
    "dimension twice": (
        Reason.BAD_ROWS,
        lambda d: change_rows(
            d, dimension_record=[DimensionRecord("band", {"band": "r"}, {"n": n}) for n in (1, 2)]
        ),
    ),
    "input twice": (Reason.BAD_ROWS, lambda d: dataclasses.replace(d, inputs=d.inputs * 2)),
    "no time": (Reason.BAD_ROWS, lambda d: dataclasses.replace(d, started="yesterday")),
    "local time": (
        Reason.BAD_ROWS,
        lambda d: dataclasses.replace(d, finished="2026-01-02T03:04:05"),
    ),
    "nul in text": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: dataclasses.replace(d, host="worker\0seven"),
    ),
    "nul in json": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: change_rows(
            d, dimension_record=[DimensionRecord("band", {"band": "r"}, {"name": "\0"})]
        ),
    ),
    "size overflows": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: change_record(d, size_bytes=2**63),
    ),
    "exit code overflows": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: dataclasses.replace(d, exit_code=2**31),
    ),
    "read bytes overflow": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: dataclasses.replace(
            d, resources=dataclasses.replace(d.resources, read_bytes=2**63)
        ),
    ),
    "nul in a version": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: dataclasses.replace(d, versions={"python": "3\0"}),
    ),
    "nul in the name of a version": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: dataclasses.replace(d, versions={"\0": "3"}),
    ),
    "too many versions": (
        Reason.BAD_ROWS,
        lambda d: dataclasses.replace(d, versions={f"module {n}": "1" for n in range(201)}),
    ),
    "wrapper log too long": (
        Reason.BAD_ROWS,
        lambda d: dataclasses.replace(d, wrapper_log=[LogEntry(0.5, "step")] * 201),
    ),
    "no uuid": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: dataclasses.replace(
            d, inputs=[dataclasses.replace(d.inputs[0], dataset_id="not a uuid")]
        ),
    ),
    "uuid in capitals": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: dataclasses.replace(
            d, inputs=[dataclasses.replace(d.inputs[0], attempt_id=d.attempt_id.upper())]
        ),
    ),
    "data id too long for the index": (
        Reason.REFUSED_BY_DATABASE,
        lambda d: change_rows(
            d,
            dataset=[
                dataclasses.replace(
                    d.rows.dataset[0], data_id={"exposure": hashlib.shake_128(b"").hexdigest(3000)}
                ),
                d.rows.dataset[1],
            ],
        ),
    ),
}


def check_only_this_is_quarantined(site: MergeSite, key: str, reason: Reason) -> None:
    report = site.merge()
    assert [(bad.key, bad.reason) for bad in report.quarantined] == [(key, reason)]
    assert report.counts.n_deltas == 2
    assert report.exit_code == ExitCode.QUARANTINED
    assert site.rows("SELECT delta_key, run, reason FROM quarantine") == [
        (key, site.graph.run, reason)
    ]
    ((message,),) = site.rows("SELECT message FROM quarantine")
    assert key in message
    assert site.rows("SELECT count(*) FROM dataset") == [(4,)]
    assert [(finding.kind, finding.key) for finding in site.differences()] == [("delta_bad", key)]


@pytest.mark.parametrize("case", BYTES)
def test_damaged_delta(site: MergeSite, case: str) -> None:
    reason, damage = BYTES[case]
    delta = site.delta(1, 2)
    site.put(site.delta(0, 1), site.delta(2, 3))
    key = factories.put_delta(site.store, delta, damage(delta))
    check_only_this_is_quarantined(site, key, reason)
    factories.put_delta(site.store, delta)
    factories.put_objects(site.store, delta)
    assert site.merge().exit_code == ExitCode.OK
    assert site.rows("SELECT count(*) FROM quarantine") == [(0,)]
    assert site.differences() == []


@pytest.mark.parametrize("case", ROWS)
def test_delta_with_bad_rows(site: MergeSite, case: str) -> None:
    reason, damage = ROWS[case]
    site.put(site.delta(0, 1), site.delta(2, 3))
    key = factories.put_delta(site.store, damage(site.delta(1, 2)))
    check_only_this_is_quarantined(site, key, reason)
    before = site.dump()
    site.merge()
    assert site.dump() == before


def test_unknown_quantum(site: MergeSite) -> None:
    larger = factories.make_graph(4)
    site.put(site.delta(0, 1), site.delta(2, 3))
    key = factories.put_delta(site.store, factories.make_delta(larger, 3, 2))
    check_only_this_is_quarantined(site, key, Reason.UNPREDICTED_QUANTUM)
    factories.publish(site.store, larger)
    report = site.merge()
    assert (report.counts.n_deltas, report.quarantined) == (1, [])
    assert site.rows("SELECT count(*) FROM quarantine") == [(0,)]


def test_output_of_another_quantum(site: MergeSite) -> None:
    site.put(site.delta(0, 1), site.delta(2, 3))
    stolen = site.delta(2, 2).rows
    key = factories.put_delta(site.store, dataclasses.replace(site.delta(1, 2), rows=stolen))
    check_only_this_is_quarantined(site, key, Reason.UNPREDICTED_OUTPUT)


@pytest.mark.parametrize("other", ["quantum", "attempt", "run"])
def test_delta_under_another_key(site: MergeSite, other: str) -> None:
    delta = site.delta(1, 2)
    site.put(site.delta(0, 1), site.delta(2, 3))
    key = {
        "quantum": names.delta_key(delta.run, site.graph.quanta[2].quantum_id, delta.attempt_id),
        "attempt": names.delta_key(delta.run, delta.quantum_id, factories.attempt(9)),
        "run": names.delta_key(delta.run, delta.quantum_id, delta.attempt_id),
    }[other]
    if other == "run":
        delta = factories.make_delta(factories.make_graph(run="u/other"), 1, 2)
        delta = dataclasses.replace(delta, quantum_id=site.graph.quanta[1].quantum_id)
    site.store.put(key, write_delta(delta))
    check_only_this_is_quarantined(site, key, Reason.WRONG_KEY)


def test_object_that_is_no_delta_by_its_name(site: MergeSite) -> None:
    site.put(site.delta(0, 1), site.delta(2, 3))
    key = names.delta_prefix(site.graph.run) + "notes.txt"
    site.store.put(key, b"hello")
    check_only_this_is_quarantined(site, key, Reason.WRONG_KEY)
    site.store.delete(key)
    assert site.merge().exit_code == ExitCode.OK
    assert site.rows("SELECT count(*) FROM quarantine") == [(0,)]


def test_one_attempt_id_for_two_quanta(site: MergeSite) -> None:
    deltas = [site.delta(0, 1), site.delta(1, 1), site.delta(2, 3)]
    keys = sorted(site.put(*deltas)[:2])
    report = site.merge()
    assert [bad.key for bad in report.quarantined] == keys[1:]
    assert report.counts.n_deltas == 2


def test_quantum_that_another_run_has(site: MergeSite) -> None:
    site.put(site.delta(0, 1))
    site.merge()
    copied = factories.make_graph(3, run="u/copy")
    stolen = dataclasses.replace(copied.quanta[0], quantum_id=site.graph.quanta[0].quantum_id)
    copied.quanta[0] = stolen
    factories.publish(site.store, copied)
    site.graph = copied
    site.put(site.delta(1, 6), site.delta(2, 7))
    key = factories.put_delta(site.store, site.delta(0, 5))
    report = site.merge()
    assert [(bad.key, bad.reason) for bad in report.quarantined] == [
        (key, Reason.QUANTUM_OF_OTHER_RUN)
    ]
    assert report.counts.n_deltas == 2
    assert site.rows("SELECT attempt_id::text FROM quantum WHERE run = %s", factories.RUN) == [
        (factories.attempt(1),)
    ]


def test_many_bad_ones_among_many_good_ones(site: MergeSite) -> None:
    site.graph = factories.make_graph(40, name="many")
    factories.publish(site.store, site.graph)
    bad = {3, 4, 17, 39}
    for number in range(40):
        host = "worker\0" if number in bad else "worker"
        site.put(site.delta(number, number + 1, host=host))
    report = site.merge(batch_size=30)
    assert report.counts.n_deltas == 36
    assert sorted(bad.key for bad in report.quarantined) == sorted(
        names.delta_key(
            site.graph.run, site.graph.quanta[number].quantum_id, factories.attempt(number + 1)
        )
        for number in bad
    )


def newer(delta: Delta) -> bytes:
    """A delta of the next format, with a field that this release does not know."""
    body = body_of(delta).replace(
        f'"format":{DELTA_FORMAT}'.encode(), f'"format":{DELTA_FORMAT + 1}'.encode()
    )
    return framed(body.replace(b'"host"', b'"container":"sif","host"'))


def test_newer_format_waits(site: MergeSite) -> None:
    delta = site.delta(1, 2)
    site.put(site.delta(0, 1))
    key = factories.put_delta(site.store, delta, newer(delta))
    report = site.merge()
    assert (report.newer, report.quarantined) == ([key], [])
    assert report.exit_code == ExitCode.NEWER_FORMAT
    assert site.rows("SELECT count(*) FROM quarantine") == [(0,)]
    assert [finding.kind for finding in site.differences()] == ["delta_newer_format"]


def test_newer_format_is_taken_after_an_upgrade(
    site: MergeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = site.delta(0, 1)
    factories.put_delta(site.store, older, factories.in_format(1, older))
    site.put(site.delta(1, 2))
    with monkeypatch.context() as before_the_upgrade:
        before_the_upgrade.setattr("registry.delta.DELTA_FORMAT", 1)
        report = site.merge()
    assert (report.exit_code, report.counts.n_deltas) == (ExitCode.NEWER_FORMAT, 1)
    assert site.merge().counts.n_deltas == 1


def test_delta_that_another_merger_quarantines_meanwhile(site: MergeSite) -> None:
    """One that knows less, such as the graph record before the RUN was extended."""
    (key,) = site.put(site.delta(0, 1))

    class OtherMerger(Progress):
        def start(self, n_deltas: int) -> None:
            with psycopg.connect(site.address) as connection:
                row = (key, site.graph.run, "unknown_graph", "as far as it knows")
                connection.execute("INSERT INTO quarantine VALUES (%s, %s, %s, %s)", row)

    assert site.merge(progress=OtherMerger()).counts.n_deltas == 1
    assert site.rows("SELECT count(*) FROM quarantine") == [(0,)]


def test_merged_delta_is_not_quarantined_afterwards(site: MergeSite) -> None:
    """By a merger that read it before another one merged it, and knows less."""
    (key,) = site.put(site.delta(0, 1))
    site.merge()
    bad = [BadDelta(key, Reason.UNKNOWN_GRAPH, "as far as it knows")]
    renew_quarantine(site.registry, site.graph.run, frozenset(), bad)
    assert site.rows("SELECT count(*) FROM quarantine") == [(0,)]


def test_quarantine_of_another_run_is_left_alone(site: MergeSite) -> None:
    delta = site.delta(0, 1)
    factories.put_delta(site.store, delta, b"junk")
    site.merge()
    other = factories.make_graph(run="u/other", types=[DatasetType("flat", ["a"], "Fits", "")])
    factories.publish(site.store, other)
    factories.put_delta(site.store, factories.make_delta(other, 0, 2))
    with CentralRegistry(site.address) as registry:
        assert merge_run(registry, site.store, "u/other").exit_code == ExitCode.OK
    assert site.rows("SELECT run FROM quarantine") == [(site.graph.run,)]


@pytest.mark.parametrize("n_merges", [1, 2])
def test_copy_of_a_delta_that_is_merged(site: MergeSite, n_merges: int) -> None:
    """The ledger has the attempt that its key names, and it is bad all the same."""
    site.put(site.delta(0, 1))
    delta = site.delta(1, 2)
    site.put(delta)
    if n_merges == 2:
        site.merge()
    copies = [
        f"{names.delta_prefix(delta.run)}copies/{delta.quantum_id}.{delta.attempt_id}.json",
        names.delta_key(delta.run, "f" + site.delta(2, 2).quantum_id[1:], delta.attempt_id),
    ]
    for key in copies:
        site.store.put(key, write_delta(delta))
    site.merge()
    assert site.rows("SELECT delta_key, reason FROM quarantine ORDER BY 1") == [
        (key, Reason.WRONG_KEY) for key in sorted(copies)
    ]


@pytest.mark.parametrize("original, other", [(0, 1), (1, 0)])
def test_copy_does_not_keep_a_delta_out(site: MergeSite, original: int, other: int) -> None:
    """Whichever of the two keys comes first in a listing."""
    delta = site.delta(original, 1)
    (key,) = site.put(delta)
    copy = names.delta_key(site.graph.run, site.graph.quanta[other].quantum_id, delta.attempt_id)
    site.store.put(copy, site.store.get(key))
    report = site.merge()
    assert (report.counts.n_deltas, [bad.key for bad in report.quarantined]) == (1, [copy])
    assert {found.key for found in site.differences()} == {copy}
