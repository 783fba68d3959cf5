# SPDX-License-Identifier: BSD-3-Clause
"""Batches: the same rows however deltas are grouped, sorted by key, whole across processes."""

import io
from datetime import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.collation import Collation, collate
from merger.copy_format import CopyRows
from merger.delta_checks import BadDelta, GoodDelta, Reason
from merger.frames import FrameError, read_frame, write_frame
from merger.prepared_batch import PreparedBatch, encode_deltas
from registry.attempt import AttemptStatus
from tests import factories

GRAPH = factories.make_graph(4)
SORTED_BY = {
    "merged_attempt": ["attempt_id"],
    "quantum": ["quantum_id"],
    "attempt": ["attempt_id"],
    "quantum_input": ["attempt_id", "dataset_id"],
    "metric": ["attempt_id", "name"],
    "dataset": ["dataset_id"],
    "datastore_record": ["dataset_id"],
}


@st.composite
def goods(draw: st.DrawFn) -> list[GoodDelta]:
    """Draw deltas of some quanta in the order of their attempts; quanta are tried again."""
    made = []
    for number in range(draw(st.integers(0, 7))):
        status = draw(st.sampled_from([AttemptStatus.SUCCESSFUL, AttemptStatus.FAILED]))
        inputs = [factories.make_input(GRAPH, n) for n in draw(st.sets(st.integers(0, 9)))]
        quantum = draw(st.integers(0, 3))
        delta = factories.make_delta(GRAPH, quantum, number, status=status, inputs=inputs)
        made.append(GoodDelta(f"key {number}", "sha256:0", delta))
    return made


@given(goods(), st.lists(st.integers(1, 3)), st.sets(st.integers(0, 6)))
def test_same_rows_however_they_are_added(
    deltas: list[GoodDelta], sizes: list[int], outranked: set[int]
) -> None:
    collation, rest = Collation(), deltas
    for size in sizes:
        collation.add(rest[:size])
        rest = rest[size:]
    collation.add(rest)
    ids = {factories.attempt(number) for number in outranked}
    assert collation.tables(ids) == collate(deltas, ids)


@given(goods())
def test_rows_are_sorted_by_key(deltas: list[GoodDelta]) -> None:
    tables = collate(deltas)
    for name, columns in SORTED_BY.items():
        keys = [tuple(row.values()) for row in tables[name].select(columns).to_pylist()]
        assert keys == sorted(keys), name


def shown(batch: PreparedBatch) -> object:
    header, buffers = batch.frame()
    return header, [bytes(buffer) for buffer in buffers]


@given(goods(), st.integers(0, 200))
def test_batch_crosses_whole_or_not_at_all(deltas: list[GoodDelta], n_lost: int) -> None:
    batch = PreparedBatch(
        keys=[good.key for good in deltas],
        attempt_ids=[good.delta.attempt_id for good in deltas],
        rows=encode_deltas(deltas),
        bad=[BadDelta("bad", Reason.CHECKSUM, "not ascii: é")],
        newer=["newer"],
        n_keys=len(deltas) + 2,
    )
    file = io.BytesIO()
    write_frame(file, *batch.frame())
    content = file.getvalue()
    frame = read_frame(io.BytesIO(content))
    assert frame is not None
    assert shown(PreparedBatch.from_frame(*frame)) == shown(batch)
    assert read_frame(io.BytesIO(b"")) is None
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(content[: max(1, len(content) - n_lost - 1)]))


def test_batch_without_rows() -> None:
    batch = PreparedBatch(["key"], [factories.attempt(1)], None, [], [], 1)
    assert PreparedBatch.from_frame(*batch.frame()) == batch


@pytest.mark.parametrize(
    "time",
    [
        *("2026-01-02T03:04:05Z", "2026-01-02 03:04:05.5+01:30", "20260102T030405.123456789Z"),
        *("2026-W01-5T03:04:05+00:00", "2026-01-02T03:04:05+00:00:30", "0001-01-01T00:00:00Z"),
        *("9999-12-31T23:59:59.999999-12:00", "2026-01-02T03:04:05,25+00:00"),
    ],
)
def test_times_are_read_as_python_reads_them(time: str) -> None:
    delta = factories.make_delta(GRAPH, started=time)
    table = collate([GoodDelta("key", "sha256:0", delta)])["attempt"]
    expected = pa.array([datetime.fromisoformat(time)], pa.timestamp("us", tz="UTC"))
    assert table["started"].combine_chunks() == expected
    assert CopyRows.encode(table).n_rows == 1
