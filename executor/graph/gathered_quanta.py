# SPDX-License-Identifier: BSD-3-Clause
"""Quanta and datasets as numbers, gathered one by one, then linked into a columnar graph."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from executor.graph.column_codes import Integers, combine_codes, ranges
from executor.graph.columnar_check import CheckedColumns, check_columns, graph_id_of, index_of
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.derived_columns import id_bytes
from executor.graph.graph_header import GraphHeader, read_run
from executor.graph.graph_reader import MAX_INTEGER, GraphReader
from executor.graph.graph_tables import (
    DIMENSION_PREFIX,
    OUTSIDE,
    TableRows,
    datasets_schema,
    quanta_schema,
)
from executor.graph.placed_yaml import GraphError
from executor.graph.reference_columns import References, Texts, WrongValueError
from registry.model import DimensionRecord, format_data_id

Named = Sequence[tuple[str, Mapping[str, object]]]
"""Dataset types, each with a data ID."""

_BATCH = 65_536


class GatheredQuanta:
    """Quanta and datasets of one graph, in any order."""

    def __init__(self, reader: GraphReader, header: GraphHeader) -> None:
        self._reader = reader
        self._header = header
        self._texts = Texts()
        kinds, dimensions = header.dataset_types, header.dimensions
        self._reads = References(kinds, dimensions, self._texts)
        self._made = References(kinds, dimensions, self._texts)
        self._outside = References(kinds, dimensions, self._texts)
        self._values = {name: array("q") for name in dimensions}
        self._is_there = {name: array("b") for name in dimensions}
        self._labels = {label: code for code, label in enumerate(header.tasks)}
        self._tasks, self._n_reads, self._n_made = array("q"), array("q"), array("q")
        self._quantum_ids: dict[int, bytes] = {}
        self._made_ids: dict[int, bytes] = {}
        self._waiting: list[dict[str, Any]] = []
        self._outside_facts: list[pa.RecordBatch] = []

    def add(
        self,
        task: str,
        data_id: Mapping[str, object],
        inputs: Named,
        outputs: Named,
        *,
        quantum_id: str | None = None,
        dataset_ids: Sequence[str | None] = (),
    ) -> None:
        """Add a quantum; ids are given only where they are not the derived ones.

        Raises
        ------
        GraphError
        """
        position = len(self._tasks)
        code = self._labels.get(task)
        try:
            if code is None:
                expected = sorted(self._labels)
                raise WrongValueError(f"expected one of the task labels {expected}, found {task!r}")
            self._append_data_id(data_id)
            for name, found in inputs:
                self._reads.append(name, found)
            n_before = len(self._made)
            for name, found in outputs:
                self._made.append(name, found)
        except WrongValueError as error:
            raise self._reader.error(("quanta", position), f"{task}: {error}") from error
        if quantum_id is not None:
            self._quantum_ids[position] = self._id(quantum_id, ("quanta", position))
        for place, dataset_id in enumerate(dataset_ids):
            if dataset_id is not None:
                self._made_ids[n_before + place] = self._id(dataset_id, ("quanta", position))
        self._tasks.append(code)
        self._n_reads.append(len(inputs))
        self._n_made.append(len(outputs))

    def _append_data_id(self, data_id: Mapping[str, object]) -> None:
        unknown = data_id.keys() - self._values.keys()
        if unknown:
            raise WrongValueError(
                f"expected dimensions of {sorted(self._values)}, found {sorted(unknown)}"
            )
        for name, kind in self._header.dimensions.items():
            # In place of a dimension that is not there stands anything of its kind.
            value = data_id.get(name, 0 if kind == "int" else "")
            if type(value) is int and kind == "int" and -MAX_INTEGER <= value <= MAX_INTEGER:
                self._values[name].append(value)
            elif type(value) is str and kind == "str":
                self._values[name].append(self._texts.number(value))
            else:
                raise WrongValueError(f"{name}: expected {kind} of 64 bits, found {value!r}")
            self._is_there[name].append(name in data_id)

    def _id(self, text: str, trail: tuple[str | int, ...]) -> bytes:
        self._reader.optional_uuid(text, trail)
        return id_bytes(text)

    def add_input(
        self,
        dataset_type: str,
        data_id: Mapping[str, object],
        run: str,
        key: str | None,
        producer: str | None,
        dataset_id: str | None,
        size_bytes: int | None,
        checksum: str | None,
    ) -> None:
        """Add a dataset from outside; raises `GraphError`."""
        reader, trail = self._reader, ("inputs", len(self._outside))
        if (key is None) == (producer is None):
            raise reader.error(trail, "expected either 'key' or 'producer'")
        try:
            self._outside.append(dataset_type, data_id)
        except WrongValueError as error:
            raise reader.error(trail, str(error)) from error
        digest = reader.checksum(checksum, trail)
        self._waiting.append(
            {
                "run": read_run(reader, run, trail),
                "key": None if key is None else reader.object_key(key, trail),
                "producer": None if producer is None else self._id(producer, trail),
                "dataset_id": None if dataset_id is None else self._id(dataset_id, trail),
                "size_bytes": reader.size(size_bytes, trail),
                "checksum": digest and bytes.fromhex(digest.removeprefix("sha256:")),
            }
        )
        if len(self._waiting) == _BATCH:
            self._outside_facts.append(pa.RecordBatch.from_pylist(self._waiting, OUTSIDE))
            self._waiting = []

    def graph(self, name: str, records: Sequence[DimensionRecord]) -> ColumnarGraph:
        """Link everything and check it; raises `GraphError` for what no graph file may hold."""
        tasks = _numbers(self._tasks)
        order = np.argsort(tasks, kind="stable")
        n_made = _numbers(self._n_made)
        made = ranges((np.cumsum(n_made) - n_made)[order], n_made[order])
        rows = self._read_rows(made)
        ends = np.searchsorted(tasks[order], np.arange(len(self._labels)), side="right").tolist()
        by_dimension = {dimension: place for place, dimension in enumerate(self._header.dimensions)}
        found = ColumnarGraph(
            name,
            self._header,
            dict(zip(self._labels, zip([0, *ends], ends, strict=False), strict=True)),
            TableRows(self._quanta(order, n_made, rows)),
            TableRows(self._datasets(made, np.repeat(np.arange(len(order)), n_made[order]))),
            lambda: sorted(records, key=lambda record: by_dimension[record.dimension]),
        )
        return with_index(found)

    def _read_rows(self, made: Integers) -> Integers:
        """The row of *datasets* of each read, given the outputs in the order of their rows."""
        row_of_made = np.empty(len(made), np.int64)
        row_of_made[made] = np.arange(len(made))
        found = np.full(len(self._reads), -1, np.int64)
        codes = [refs.codes() for refs in (self._made, self._outside, self._reads)]
        for code in range(len(self._header.dataset_types)):
            at_made, at_outside, at_reads = (np.flatnonzero(c == code) for c in codes)
            known = np.concatenate([row_of_made[at_made], len(made) + at_outside])
            columns = zip(
                *(refs.values(code) for refs in (self._made, self._outside, self._reads)),
                strict=True,
            )
            both = combine_codes(
                [np.concatenate(column) for column in columns], len(known) + len(at_reads)
            )
            there, wanted = both[: len(known)], both[len(known) :]
            if not len(there):
                continue
            order = np.argsort(there, kind="stable")
            places = np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)
            hits = order[places]
            found[at_reads] = np.where(there[hits] == wanted, known[hits], -1)
        if len(found) and found.min() < 0:
            raise self._missing(int(np.flatnonzero(found < 0)[0]))
        return found

    def _missing(self, read: int) -> GraphError:
        position = int(np.searchsorted(np.cumsum(_numbers(self._n_reads)), read, side="right"))
        code = self._reads.codes()[read]
        kind = list(self._header.dataset_types.values())[code]
        place = int((self._reads.codes()[:read] == code).sum())
        texts = list(self._texts.numbers)
        data_id = {
            name: texts[values[place]] if self._header.dimensions[name] == "str" else values[place]
            for name, values in zip(kind.dimensions, self._reads.values(code), strict=True)
        }
        label = list(self._labels)[self._tasks[position]]
        return self._reader.error(
            ("quanta", position),
            f"{label}: {kind.name} ({format_data_id(data_id)}) is made by no quantum and is not "
            "under 'inputs'",
        )

    def _quanta(self, order: Integers, n_made: Integers, rows: Integers) -> pa.Table:
        n_reads = _numbers(self._n_reads)
        reads = rows[ranges((np.cumsum(n_reads) - n_reads)[order], n_reads[order])]
        schema = quanta_schema(self._header.dimensions)
        ends = np.cumsum(n_made[order])
        columns: dict[str, pa.Array] = {
            "task_label": _named(_numbers(self._tasks)[order], self._labels),
            "position": pa.array(order),
            "quantum_id": _sparse(self._quantum_ids, len(order)).take(pa.array(order)),
            "first_output": pa.array(ends - n_made[order]),
            "n_outputs": pa.array(n_made[order]),
            "reads": pa.ListArray.from_arrays(
                np.concatenate([[0], np.cumsum(n_reads[order])]).astype(np.int32),
                reads.astype(np.int32),
                type=schema.field("reads").type,
            ),
        }
        for name, kind in self._header.dimensions.items():
            values = _numbers(self._values[name])[order]
            is_missing = np.frombuffer(self._is_there[name], np.int8)[order] == 0
            columns[DIMENSION_PREFIX + name] = (
                pa.array(values, mask=is_missing)
                if kind == "int"
                else self._texts.column(values, is_missing)
            )
        return pa.table(columns, schema=schema)

    def _datasets(self, made: Integers, producers: Integers) -> pa.Table:
        facts = pa.Table.from_batches(
            [*self._outside_facts, pa.RecordBatch.from_pylist(self._waiting, OUTSIDE)]
        )
        n_outside, schema = len(self._outside), datasets_schema(self._header.dimensions)
        columns = {
            name: pa.chunked_array([column.take(pa.array(made)), outside])
            for (name, column), outside in zip(
                self._made.columns().items(), self._outside.columns().values(), strict=True
            )
        }
        codes = np.concatenate([self._made.codes()[made], self._outside.codes()])
        columns["dataset_type"] = _named(codes, self._header.dataset_types)
        columns["producer_row"] = pa.concat_arrays(
            [pa.array(producers.astype(np.int32)), pa.nulls(n_outside, pa.int32())]
        )
        given = _sparse(self._made_ids, len(made)).take(pa.array(made))
        for name in OUTSIDE.names:
            before = given if name == "dataset_id" else pa.nulls(len(made), schema.field(name).type)
            after = facts[name].cast(schema.field(name).type)
            columns[name] = pa.chunked_array([before, *after.chunks])
        return pa.table(columns, schema=schema).combine_chunks()


def with_index(graph: ColumnarGraph, checked: CheckedColumns | None = None) -> ColumnarGraph:
    """A graph with an index of its ids; it is checked unless it was; raises `GraphError`."""
    checked = checked or check_columns(graph)
    return replace(
        graph,
        stored_graph_id=graph.header.graph_id or graph_id_of(graph, checked),
        index_rows=TableRows(index_of(checked.quantum_ids)),
    )


def _numbers(numbers: "array[int]") -> Integers:
    return np.frombuffer(numbers, np.int64) if numbers else np.empty(0, np.int64)


def _named(codes: Integers, names: Mapping[str, object]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32)), pa.array(list(names), pa.string())
    )


def _sparse(ids: Mapping[int, bytes], n_rows: int) -> pa.Array:
    """A column of ids, most of them none."""
    if not ids:
        return pa.nulls(n_rows, pa.binary(16))
    places = np.full(n_rows, -1, np.int64)
    places[list(ids)] = np.arange(len(ids))
    known = pa.array(list(ids.values()), pa.binary(16))
    return known.take(pa.array(places, mask=places < 0))
