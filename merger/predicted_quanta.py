# SPDX-License-Identifier: BSD-3-Clause
"""The predicted quanta of a graph, packed: about a hundred bytes for each, however many."""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from merger.packed_ids import PackedIds, find_ids, pack_ids, unpack_ids
from registry.errors import FormatError
from registry.graph_record import PredictedQuantum, read_predicted_quanta
from registry.model import DataId
from registry.structs import Decoder

Places = np.ndarray[Any, np.dtype[np.int64]]

_CHUNK_BYTES = 1 << 20
_MANY = 50_000
_decoder = Decoder(PredictedQuantum)
_encode = msgspec.json.Encoder().encode
_decode_data_id = msgspec.json.Decoder(dict[str, str | int]).decode


@dataclass(frozen=True, slots=True)
class PackedQuanta:
    """Quanta sorted by id; columns have one entry for each."""

    ids: PackedIds
    labels: list[str]
    """All task labels; a quantum has the place of its own in `label_places`."""
    label_places: np.ndarray[Any, np.dtype[np.int32]]
    data_ids: pa.Array
    """Data IDs as JSON texts, their members in the order of the graph."""
    outputs: PackedIds
    """Of all quanta; those of a quantum lie between two of `output_bounds`."""
    output_bounds: Places

    def find(self, quanta: PackedIds) -> Places:
        """Return the place of each quantum, -1 where it is not predicted."""
        return find_ids(self.ids, quanta)

    def outputs_at(self, places: Places) -> tuple[PackedIds, Places]:
        """Return the outputs of some quanta, each with the number of its quantum in ``places``."""
        begins, ends = self.output_bounds[places], self.output_bounds[places + 1]
        lengths = ends - begins
        owners = np.repeat(np.arange(len(places)), lengths)
        firsts = np.cumsum(lengths) - lengths
        return self.outputs[np.arange(len(owners)) - (firsts - begins)[owners]], owners

    def get(self, quantum_id: str) -> PredictedQuantum | None:
        """Return one quantum, without its parents."""
        try:
            place = self.find(pack_ids([quantum_id]))
        except ValueError:
            return None
        if place[0] < 0:
            return None
        outputs, _ = self.outputs_at(place)
        label = self.labels[self.label_places[place[0]]]
        data_id: DataId = _decode_data_id(self.data_ids[int(place[0])].as_py())
        return PredictedQuantum(quantum_id, label, data_id, unpack_ids(outputs))


def read_packed(content: bytes, what: str) -> PackedQuanta:
    """Read a compressed list of predicted quanta.

    Raises
    ------
    registry.errors.FormatError
        If it is damaged, naming the line.
    """
    packing = _Packing()
    try:
        for lines in _chunks(content, what):
            packing.add(_decoder.decode_lines(lines))
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The slower reader names the line.
        packing = _Packing()
        try:
            packing.add(list(read_predicted_quanta(content, what)))
        except ValueError as error:
            raise FormatError(f"{what}: {error}") from error
    except ValueError as error:
        raise FormatError(f"{what}: {error}") from error
    packed = packing.packed()
    if len(packed.ids) > _MANY:
        _give_back_memory()
    return packed


def _give_back_memory() -> None:
    """Give what packing has freed back to the system; the allocator would keep it for later."""
    import ctypes

    # glibc alone has it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _chunks(content: bytes, what: str) -> Iterator[bytes]:
    """Give whole lines, about a megabyte of them at a time."""
    rest = b""
    try:
        if not content:
            raise EOFError("no bytes at all")
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while chunk := file.read(_CHUNK_BYTES):
                lines, newline, tail = chunk.rpartition(b"\n")
                if newline:
                    yield rest + lines
                    rest = tail
                else:
                    rest += tail
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"{what}: expected gzip, found {error}") from error
    yield rest


@dataclass
class _Packing:
    """Columns while they grow."""

    ids: list[PackedIds] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    label_places: list[np.ndarray[Any, np.dtype[np.int32]]] = field(default_factory=list)
    data_ids: list[pa.Array] = field(default_factory=list)
    outputs: list[PackedIds] = field(default_factory=list)
    n_outputs: list[Places] = field(default_factory=list)

    def add(self, quanta: Sequence[PredictedQuantum]) -> None:
        self.ids.append(pack_ids([q.quantum_id for q in quanta]))
        for quantum in quanta:
            self.labels.setdefault(quantum.task_label, len(self.labels))
        places = [self.labels[q.task_label] for q in quanta]
        self.label_places.append(np.array(places, np.int32))
        self.data_ids.append(pa.array([_encode(q.data_id) for q in quanta], pa.binary()))
        self.outputs.append(pack_ids([output for q in quanta for output in q.outputs]))
        self.n_outputs.append(np.array([len(q.outputs) for q in quanta], np.int64))

    def packed(self) -> PackedQuanta:
        """Sort everything by id; the columns here are given up one by one, to save memory."""
        ids = _joined(self.ids, "S16")
        order = np.argsort(ids, kind="stable")
        # Of a quantum that stands twice the last one counts.
        is_last = np.ones(len(order), bool)
        is_last[:-1] = ids[order[1:]] != ids[order[:-1]]
        order, ids = order[is_last], ids[order[is_last]]
        label_places = _joined(self.label_places, np.int32)[order]
        data_ids = pa.concat_arrays([pa.array([], pa.binary()), *self.data_ids])
        self.data_ids.clear()
        data_ids = data_ids.take(pa.array(order))
        n_outputs = _joined(self.n_outputs, np.int64)
        firsts, n_outputs = (np.cumsum(n_outputs) - n_outputs)[order], n_outputs[order]
        bounds = np.cumsum(np.concatenate([[0], n_outputs]))
        # Where each output was: as far behind the first of its quantum as it is going to be.
        places = np.repeat(firsts - bounds[:-1], n_outputs) + np.arange(bounds[-1])
        outputs = _joined(self.outputs, "S16")[places]
        return PackedQuanta(ids, list(self.labels), label_places, data_ids, outputs, bounds)


def _joined(parts: list[Any], kind: Any) -> Any:
    joined = np.concatenate([np.zeros(0, kind), *parts])
    parts.clear()
    return joined
