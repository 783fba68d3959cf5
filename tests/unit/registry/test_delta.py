# SPDX-License-Identifier: BSD-3-Clause
"""Deltas: written, verified and read; what is damaged or contradicts itself is refused."""

import hashlib
import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import names
from registry.attempt import AttemptStatus
from registry.delta import (
    MAX_TEXT_LENGTH,
    AddedRows,
    DatastoreRow,
    Delta,
    DeltaError,
    LogEntry,
    MetricRow,
    ReadInput,
    ResourceUse,
    read_delta,
    verify_checksum,
    write_delta,
)
from registry.errors import NewerFormatError
from registry.job import ResourceRequest
from registry.model import DimensionRecord
from tests import factories
from tests.factories import framed
from tests.samples import (
    ATTEMPTS,
    CALEXP_ID,
    OTHER_QUANTUM_ID,
    RUN,
    key_of,
    make_delta,
    make_failed_delta,
    written,
)
from tests.unit.registry.test_typed_json import JSON_VALUES

KEY = key_of(make_delta())
FRAME = 86
SIZES = st.integers(0, 2**63 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
# Hypothesis draws texts of more than 200 characters, too, if rarely.
TEXTS = st.text(max_size=MAX_TEXT_LENGTH)
NO_TEXTS = JSON_VALUES.filter(lambda value: not isinstance(value, str))
FACTS = st.dictionaries(TEXTS, TEXTS | NO_TEXTS, max_size=3)
RECORDS = st.dictionaries(st.text(), JSON_VALUES, max_size=3)
LOG_ENTRIES = st.builds(LogEntry, NUMBERS, TEXTS, FACTS)


def with_members(**members: object) -> bytes:
    """A delta with other members, whole and with its right checksum."""
    body = json.loads(write_delta(make_delta()))
    del body["checksum"]
    return framed(json.dumps({**body, **members}, separators=(",", ":")).encode()[1:])


@given(
    st.builds(
        replace,
        st.just(make_delta()),
        host=st.text(),
        error=st.none() | st.text(),
        no_work=st.booleans(),
        resources=st.builds(ResourceUse, NUMBERS, NUMBERS, NUMBERS, *[SIZES] * 4),
        requested=st.none() | st.builds(ResourceRequest, wall_s=st.none() | NUMBERS),
        versions=st.dictionaries(TEXTS, TEXTS, max_size=3),
        wrapper_log=st.lists(LOG_ENTRIES, max_size=3),
        inputs=st.lists(st.builds(ReadInput, size_bytes=SIZES), max_size=1),
    ),
    st.lists(st.builds(DimensionRecord, record=RECORDS), max_size=1),
    st.lists(st.builds(MetricRow, value=NUMBERS), max_size=1),
)
def test_round_trip(delta: Delta, records: list[DimensionRecord], metrics: list[MetricRow]) -> None:
    delta = replace(delta, rows=replace(delta.rows, dimension_record=records, metric=metrics))
    content = write_delta(delta)
    assert read_delta(content, KEY) == delta
    assert write_delta(read_delta(content, KEY)) == content


@pytest.mark.parametrize("status", [AttemptStatus.FAILED, AttemptStatus.ABORTED])
def test_attempts_that_did_not_succeed_are_kept(status: AttemptStatus) -> None:
    delta = make_failed_delta(status=status, signal=15, exit_code=None, error="x")
    assert read_delta(*written(delta)) == delta


def test_frame_can_be_verified_by_hand() -> None:
    content = write_delta(make_delta())
    assert content.count(b"\n") == 0
    assert content[FRAME:].startswith(b'"format":3,')
    assert hashlib.sha256(content[FRAME:]).hexdigest().encode() == content[:84][-64:]
    assert verify_checksum(content, KEY) == json.loads(content)["checksum"]


def test_every_changed_bit_is_refused() -> None:
    content = write_delta(make_delta())
    for place, byte in enumerate(content):
        for bit in range(8):
            damaged = content[:place] + bytes([byte ^ 1 << bit]) + content[place + 1 :]
            with pytest.raises(DeltaError):
                read_delta(damaged, KEY)


def test_every_other_byte_in_the_frame_is_refused() -> None:
    content = write_delta(make_delta())
    for place in range(FRAME):
        for other in set(range(256)) - {content[place]}:
            with pytest.raises(DeltaError):
                read_delta(content[:place] + bytes([other]) + content[place + 1 :], KEY)


def test_every_truncation_and_every_addition_is_refused() -> None:
    content = write_delta(make_delta())
    damaged = [content[:length] for length in range(len(content))]
    damaged += [content + addition for addition in (b"\n", b" ", b"\0", b"}", content)]
    damaged += [addition + content for addition in (b"\n", b" ", b"\xef\xbb\xbf")]
    for found in damaged:
        with pytest.raises(DeltaError):
            read_delta(found, KEY)


def test_messages_tell_key_and_what_was_found() -> None:
    content = write_delta(make_delta())
    with pytest.raises(DeltaError, match=f"delta '{KEY}': expected it to begin .* found b''"):
        read_delta(b"", KEY)
    with pytest.raises(
        DeltaError, match=r"expected SHA-256 \w{64} over \d+ bytes, found \w{64}; it"
    ):
        read_delta(content[:-1], KEY)


@pytest.mark.parametrize("format_", [4, 10, 999_999])
def test_newer_format_is_told_from_damage(format_: int) -> None:
    body = b'"format":%d,"whatever":[]}' % format_
    with pytest.raises(NewerFormatError, match=rf"found {format_}; upgrade registry-merge"):
        read_delta(framed(body), KEY)
    with pytest.raises(DeltaError, match="truncated or altered"):
        read_delta(framed(body)[:-1], KEY)


@pytest.mark.parametrize(
    "body", [b"", b"}", b'"format":-1,"a":1}', b'"format":"1"}', b'"run":"x"}', b'"format":1}']
)
def test_delta_begins_with_its_format(body: bytes) -> None:
    with pytest.raises(DeltaError, match="expected its format behind the checksum"):
        read_delta(framed(body), KEY)


def test_format_that_never_was_is_refused() -> None:
    with pytest.raises(DeltaError, match="expected format 3 or older, found 0"):
        read_delta(with_members(format=0), KEY)


@given(st.sampled_from([f.name for f in fields(Delta)]), JSON_VALUES)
def test_any_member_of_any_kind_is_read_or_refused(name: str, value: object) -> None:
    try:
        delta = read_delta(with_members(**{name: value}), KEY)
    except (DeltaError, NewerFormatError) as error:
        assert str(error).startswith(f"delta '{KEY}'")
    else:
        assert write_delta(delta)


@pytest.mark.parametrize("name", [f.name for f in fields(Delta) if f.name != "format"])
def test_every_member_is_required(name: str) -> None:
    body = json.loads(write_delta(make_delta()))
    del body["checksum"], body[name]
    with pytest.raises(DeltaError, match=f"field '{name}' is missing"):
        read_delta(framed(json.dumps(body, separators=(",", ":")).encode()[1:]), KEY)


def test_unknown_member_is_refused() -> None:
    with pytest.raises(DeltaError, match="unknown field 'priority'"):
        read_delta(with_members(priority=1), KEY)


@pytest.mark.parametrize(
    "key",
    [
        *("", "delta.json", KEY + ".part", KEY.removeprefix(RUN), f"x/{KEY}"),
        names.delta_key(RUN, OTHER_QUANTUM_ID, ATTEMPTS[0]),
        names.delta_key(RUN, make_delta().quantum_id, ATTEMPTS[1]),
        names.delta_key("u/tester/night2", make_delta().quantum_id, ATTEMPTS[0]),
    ],
)
def test_delta_under_another_key_is_refused(key: str) -> None:
    with pytest.raises(DeltaError, match=r"holds quantum|says that it belongs to RUN"):
        read_delta(write_delta(make_delta()), key)


@pytest.mark.parametrize("status", [AttemptStatus.FAILED, AttemptStatus.ABORTED])
@pytest.mark.parametrize("table", ["dataset", "datastore_record"])
def test_only_a_success_names_outputs(status: AttemptStatus, table: str) -> None:
    rows = replace(make_delta().rows, **{table: []})
    with pytest.raises(DeltaError, match=f"is {status} but names outputs"):
        read_delta(*written(make_delta(status=status, **vars_of(rows))))


def vars_of(rows: AddedRows) -> dict[str, object]:
    """The rows by table."""
    return {f.name: getattr(rows, f.name) for f in fields(AddedRows)}


@pytest.mark.parametrize("table", ["dataset", "datastore_record"])
def test_datasets_and_records_belong_together(table: str) -> None:
    with pytest.raises(DeltaError, match="datasets and datastore records do not match"):
        read_delta(*written(make_delta(**{table: []})))


@pytest.mark.parametrize("table", ["dataset", "datastore_record"])
def test_dataset_named_twice_is_refused(table: str) -> None:
    rows = getattr(make_delta().rows, table)
    with pytest.raises(DeltaError, match="names a dataset twice"):
        read_delta(*written(make_delta(**{table: rows * 2})))


@pytest.mark.parametrize(
    "key", ["other/x", f"{RUN}x/y", f"{RUN}/", RUN, f"/{RUN}/x", f"{RUN}/../x", f"{RUN}/a//b", KEY]
)
def test_object_outside_of_the_run_is_refused(key: str) -> None:
    record = DatastoreRow(CALEXP_ID, key, 1, "sha256:00", "File")
    with pytest.raises(DeltaError, match=r"expected (a key relative|keys below)"):
        read_delta(*written(make_delta(datastore_record=[record])))


def test_negative_size_is_refused() -> None:
    record = replace(make_delta().rows.datastore_record[0], size_bytes=-1)
    with pytest.raises(DeltaError, match="of -1 bytes"):
        read_delta(*written(make_delta(datastore_record=[record])))


def test_older_delta_is_read_and_says_nothing_of_what_came_later() -> None:
    delta = read_delta(factories.in_format(1, make_delta()), KEY)
    assert delta.format == 1
    assert (delta.requested, delta.versions, delta.wrapper_log) == (None, {}, [])
    assert delta.not_kept == []
    assert delta.resources.read_bytes is delta.resources.scratch_bytes is None


def test_dataset_without_record_is_said_to_be_not_kept() -> None:
    delta = factories.without_record(make_delta())
    assert read_delta(*written(delta)) == delta
    with pytest.raises(DeltaError, match="datasets and datastore records do not match"):
        read_delta(*written(replace(delta, not_kept=[])))


@pytest.mark.parametrize(
    ("not_kept", "message"),
    [
        ([CALEXP_ID], "do not match"),
        ([CALEXP_ID, CALEXP_ID], "do not match"),
        ([OTHER_QUANTUM_ID], "only datasets of its own as not kept"),
    ],
)
def test_kept_dataset_is_not_said_to_be_not_kept(not_kept: list[str], message: str) -> None:
    with pytest.raises(DeltaError, match=message):
        read_delta(*written(make_delta(not_kept=not_kept)))


def test_dataset_is_said_to_be_not_kept_once() -> None:
    delta = factories.without_record(make_delta())
    with pytest.raises(DeltaError, match="names a dataset twice"):
        read_delta(*written(replace(delta, not_kept=delta.not_kept * 2)))


def test_failed_delta_has_nothing_that_it_did_not_keep() -> None:
    with pytest.raises(DeltaError, match="only datasets of its own as not kept"):
        read_delta(*written(replace(make_failed_delta(), not_kept=[CALEXP_ID])))


TOO_MUCH: dict[str, dict[str, object]] = {
    "versions": {"versions": {f"module {n}": "1" for n in range(201)}},
    "long version": {"versions": {"python": "3" * 201}},
    "long name": {"versions": {"p" * 201: "3"}},
    "log entries": {"wrapper_log": [LogEntry(0.0, "step")] * 201},
    "long event": {"wrapper_log": [LogEntry(0.0, "s" * 201)]},
    "long fact": {"wrapper_log": [LogEntry(0.0, "step", {"path": "p" * 201})]},
    "long name of a fact": {"wrapper_log": [LogEntry(0.0, "step", {"p" * 201: 1})]},
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_versions_and_wrapper_log_are_bounded(case: str) -> None:
    with pytest.raises(DeltaError, match=r"expected at most 200 .*, found 201"):
        read_delta(*written(make_delta(**TOO_MUCH[case])))


def test_bounds_themselves_are_allowed() -> None:
    text = "\N{GRINNING FACE}" * 200
    delta = make_delta(
        versions={f"{text[3:]}{n:03}": text for n in range(200)},
        wrapper_log=[LogEntry(1e300, text, {text: text})] * 200,
    )
    assert read_delta(*written(delta)) == delta


REPEATED: dict[str, dict[str, object]] = {
    "metric": {"metric": [MetricRow("a", 1.0), MetricRow("a", 2.0)]},
    "dimension": {"dimension_record": [DimensionRecord("d", {"d": 1}, {"n": n}) for n in (1, 2)]},
    "input": {"inputs": make_delta().inputs * 2},
}


@pytest.mark.parametrize("what", REPEATED)
def test_what_must_stand_once_is_refused_twice(what: str) -> None:
    with pytest.raises(DeltaError, match=rf"expected each {what}.* once"):
        read_delta(*written(make_delta(**REPEATED[what])))


@pytest.mark.parametrize("time", ["yesterday", "2026-01-02T03:04:05", ""])
def test_time_without_utc_is_refused(time: str) -> None:
    with pytest.raises(DeltaError, match="expected a time in ISO 8601 with UTC"):
        read_delta(*written(make_delta(started=time)))
