# SPDX-License-Identifier: BSD-3-Clause
"""Packed quanta and ids: everything is found again, and what is damaged is told."""

import gzip
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.packed_ids import find_ids, pack_ids, unpack_ids
from merger.predicted_quanta import read_packed
from registry.errors import FormatError
from registry.graph_record import PredictedQuantum, write_predicted_quanta

# Zeros at the end of an id are what numpy leaves out of a string.
ids = st.integers(0, 3).flatmap(lambda n: st.uuids().map(lambda u: str(zeroed(u, n))))
quanta = st.builds(
    PredictedQuantum,
    quantum_id=ids,
    task_label=st.sampled_from(["isr", "calibrate", "é"]),
    data_id=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3),
    outputs=st.lists(ids, max_size=4),
    parents=st.just([]),
)


def zeroed(found: uuid.UUID, n_bytes: int) -> uuid.UUID:
    return uuid.UUID(bytes=found.bytes[: 16 - n_bytes] + bytes(n_bytes))


@given(st.lists(ids), st.lists(ids))
def test_ids_are_found_again(known: list[str], others: list[str]) -> None:
    ordered = np.unique(pack_ids(known))
    assert unpack_ids(ordered) == sorted(set(known))
    places = find_ids(ordered, pack_ids(known + others))
    assert (places[: len(known)] >= 0).all()
    assert [place >= 0 for place in places] == [one in known for one in known + others]


@given(st.lists(quanta, max_size=5))
def test_quanta_are_found_again(predicted: list[PredictedQuantum]) -> None:
    packed = read_packed(write_predicted_quanta(predicted), "quanta")
    expected = {quantum.quantum_id: quantum for quantum in predicted}
    assert unpack_ids(packed.ids) == sorted(expected)
    for quantum_id, quantum in expected.items():
        found = packed.get(quantum_id)
        assert found == quantum
        assert found is not None
        assert list(found.data_id) == list(quantum.data_id)
    assert packed.get(str(uuid.UUID(int=1))) is None
    assert packed.get("no id") is None


def test_outputs_of_some_quanta() -> None:
    names = [str(uuid.UUID(int=n << 64)) for n in range(9)]
    predicted = [PredictedQuantum(names[n], "t", {}, names[3 : 3 + n]) for n in (2, 0, 1)]
    packed = read_packed(write_predicted_quanta(predicted), "quanta")
    outputs, owners = packed.outputs_at(packed.find(pack_ids([names[2], names[0], names[1]])))
    assert (unpack_ids(outputs), owners.tolist()) == ([names[3], names[4], names[3]], [0, 0, 2])


def test_list_of_many_megabytes() -> None:
    predicted = [
        PredictedQuantum(str(uuid.UUID(int=n)), "task", {"text": "x" * 500}, [])
        for n in range(5000)
    ]
    packed = read_packed(write_predicted_quanta(predicted), "quanta")
    assert len(packed.ids) == 5000
    assert packed.get(str(uuid.UUID(int=4999))) == predicted[4999]


WHOLE = write_predicted_quanta([PredictedQuantum(str(uuid.UUID(int=1)), "t", {}, [])])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "quanta: expected gzip, found no bytes at all"),
        (b"junk", "quanta: expected gzip, found Not a gzipped file"),
        (WHOLE[:-9], "quanta: expected gzip, found "),
        (gzip.compress(gzip.decompress(WHOLE) + b"{}\n"), "quanta line 2: field 'quantum_id'"),
        (gzip.compress(b"[\n"), "quanta line 1: expected JSON"),
        (gzip.compress(gzip.decompress(WHOLE).replace(b"-", b"+")), "quanta: expected UUIDs"),
    ],
    ids=["empty", "no-gzip", "cut-short", "field-missing", "no-json", "no-uuids"],
)
def test_damaged_list(content: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_packed(content, "quanta")
