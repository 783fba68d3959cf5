# SPDX-License-Identifier: BSD-3-Clause
"""Graph records and lists of predicted quanta."""

import gzip
from dataclasses import replace

import pytest

from registry import graph_record
from registry.errors import FormatError, NewerFormatError
from registry.graph_record import PredictedQuantum, read_predicted_quanta, write_predicted_quanta
from registry.model import DimensionRecord
from tests.factories import make_graph

GRAPH = make_graph(3, dimension_records=[DimensionRecord("exposure", {"exposure": 1}, {"a": None})])


def test_record_round_trip() -> None:
    text = graph_record.write_graph_record(GRAPH.record)
    assert graph_record.read_graph_record(text, "record") == GRAPH.record


def test_newer_record_is_refused_with_what_to_do() -> None:
    newer = graph_record.write_graph_record(replace(GRAPH.record, format=2))
    with pytest.raises(NewerFormatError, match=r"record: .* found 2; upgrade quantum-exec"):
        graph_record.read_graph_record(newer.replace(b'"run"', b'"new":1,"run"', 1), "record")


def test_damaged_record_is_refused() -> None:
    with pytest.raises(FormatError, match="record: expected JSON"):
        graph_record.read_graph_record(graph_record.write_graph_record(GRAPH.record)[:-1], "record")


@pytest.mark.parametrize("quanta", [[], GRAPH.quanta])
def test_list_round_trip(quanta: list[PredictedQuantum]) -> None:
    content = write_predicted_quanta(quanta)
    assert list(read_predicted_quanta(content, "list")) == quanta
    assert len(graph_record.predicted_quanta_lines(content, "list")) == len(quanta)


def test_same_quanta_give_the_same_bytes() -> None:
    assert write_predicted_quanta(GRAPH.quanta) == write_predicted_quanta(iter(GRAPH.quanta))


def test_line_separators_of_other_alphabets_end_no_line() -> None:
    quanta = [replace(GRAPH.quanta[0], data_id={"name": "a\u2028b\x85c\rd\ne"})]
    assert list(read_predicted_quanta(write_predicted_quanta(quanta), "list")) == quanta


def test_error_names_the_line() -> None:
    lines = gzip.decompress(write_predicted_quanta(GRAPH.quanta)).splitlines()
    lines[1] = lines[1].replace(b'"task_label"', b'"label"')
    with pytest.raises(FormatError, match="list line 2: unknown field 'label'"):
        list(read_predicted_quanta(gzip.compress(b"\n".join(lines)), "list"))


def test_every_damage_to_the_list_is_refused() -> None:
    content = write_predicted_quanta(GRAPH.quanta)
    # The header of gzip has bytes that mean nothing (time, flags, system); the rest is checked.
    for place in range(10, len(content)):
        damaged = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        with pytest.raises(FormatError, match="list: expected gzip, found"):
            list(read_predicted_quanta(damaged, "list"))
    for length in range(len(content)):
        with pytest.raises(FormatError, match="list: expected gzip, found"):
            list(read_predicted_quanta(content[:length], "list"))
