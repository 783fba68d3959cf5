# SPDX-License-Identifier: BSD-3-Clause
"""What the bucket holds about a graph, so that a merger needs nothing but the bucket.

The *graph record* has what all quanta share; the list of *predicted quanta* has one line of JSON
for each quantum, compressed, and tells the merger which outputs a delta may name.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from registry import typed_json
from registry.errors import FormatError
from registry.model import DataId, DatasetType, DimensionRecord

GRAPH_RECORD_FORMAT = 1


@dataclass(frozen=True, slots=True)
class GraphRecord:
    """A graph that writes into a RUN: its dataset types, dimension records, number of quanta."""

    format: int
    graph_id: str
    name: str
    run: str
    dataset_types: list[DatasetType]
    dimension_records: list[DimensionRecord]
    n_quanta: int


@dataclass(frozen=True, slots=True)
class PredictedQuantum:
    """A quantum of a graph.

    ``outputs`` are the ids of the datasets that it may make, ``parents`` those of the quanta in
    the same RUN whose outputs it reads.
    """

    quantum_id: str
    task_label: str
    data_id: DataId
    outputs: list[str]
    parents: list[str] = field(default_factory=list)


def write_graph_record(record: GraphRecord) -> bytes:
    """Return the text of a graph record."""
    return typed_json.encode(record).encode()


def read_graph_record(text: bytes, what: str) -> GraphRecord:
    """Read a graph record; raises `FormatError`, or `NewerFormatError` for a newer release's."""
    return typed_json.decode_format(
        GraphRecord, text, what, newest=GRAPH_RECORD_FORMAT, upgrade="upgrade quantum-exec"
    )


def write_predicted_quanta(quanta: Iterable[PredictedQuantum]) -> bytes:
    """Return the compressed list; the same quanta always give the same bytes."""
    lines = "".join(typed_json.encode(quantum) + "\n" for quantum in quanta)
    return gzip.compress(lines.encode(), compresslevel=6, mtime=0)


def predicted_quanta_lines(content: bytes, what: str) -> list[bytes]:
    """Return the lines of a compressed list; raises `FormatError` if it is damaged."""
    try:
        if not content:
            raise EOFError("no bytes at all")
        return gzip.decompress(content).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"{what}: expected gzip, found {error}") from error


def read_predicted_quanta(content: bytes, what: str) -> Iterator[PredictedQuantum]:
    """Read a compressed list, naming the line of an error; raises `FormatError`."""
    for number, line in enumerate(predicted_quanta_lines(content, what), 1):
        yield typed_json.decode(PredictedQuantum, line, f"{what} line {number}")
