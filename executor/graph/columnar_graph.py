# SPDX-License-Identifier: BSD-3-Clause
"""A graph as columns, in memory or in a file: quanta of it, one, some or all.

Ids and paths that the columns do not hold are derived when they are asked for, so that another
RUN needs nothing but another header.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa

from executor.graph.column_codes import Integers, combine_codes, name_codes, ranges
from executor.graph.dataset_rows import DatasetRows
from executor.graph.derived_columns import Ids, derived_ids, id_bytes, id_texts, with_given_ids
from executor.graph.graph_header import GraphHeader
from executor.graph.graph_tables import (
    DIMENSION_PREFIX,
    QUANTUM_NAMES,
    IndexRows,
    Rows,
    TableRows,
    dimension_columns,
)
from executor.graph.placed_yaml import GraphError
from executor.graph.quantum_graph import Quantum
from executor.graph.selection import SelectionError
from registry.job import PredictedInput, PredictedOutput
from registry.model import DataId, DimensionRecord, format_data_id

_Predicted = TypeVar("_Predicted", PredictedInput, PredictedOutput)

_CHUNK = 4096
"""Quanta that are made at a time, and are all that is in memory of a graph that is streamed."""


@dataclass(frozen=True)
class ColumnarGraph:
    """The tables of a graph, with what all quanta share.

    Attributes
    ----------
    name
        File, for messages.
    task_rows
        First row and end of each task label in ``quanta_rows``.
    stored_graph_id
        The id derived for this RUN when the file was written; None: not known.
    index_rows
        The table `executor.graph.graph_tables.INDEX`; None: there is none for this RUN.
    """

    name: str
    header: GraphHeader
    task_rows: Mapping[str, tuple[int, int]]
    quanta_rows: Rows
    datasets_rows: Rows
    read_records: Callable[[], list[DimensionRecord]]
    stored_graph_id: str | None = None
    index_rows: IndexRows | None = None

    def __len__(self) -> int:
        """The number of quanta."""
        return self.quanta_rows.n_rows

    @cached_property
    def labels(self) -> list[str]:
        """The task labels, in their order."""
        return list(self.header.tasks)

    @cached_property
    def dimension_records(self) -> list[DimensionRecord]:
        """All dimension records; raises `GraphError`."""
        return self.read_records()

    def in_memory(self) -> "ColumnarGraph":
        """The same graph with its big tables in memory; raises `GraphError`."""
        return replace(
            self,
            quanta_rows=TableRows(self.quanta_rows.whole()),
            datasets_rows=TableRows(self.datasets_rows.whole()),
        )

    def error(self, place: str, message: str) -> GraphError:
        """The error for a place in the file, to be raised."""
        return GraphError(f"{self.name}: {place}: {message}")

    def label_codes(self, table: pa.Table) -> Integers:
        """The task label of each row as its place among all; raises `GraphError`."""
        codes = name_codes(table["task_label"], self.labels)
        if len(codes) and codes.min() < 0:
            row = int(np.argmin(codes))
            found = table["task_label"][row].as_py()
            raise self.error("quanta", f"expected one of {self.labels}, found task label {found!r}")
        return codes

    def id_table(self, rows: Integers | None = None) -> pa.Table:
        """Rows of *quanta* with what their ids need."""
        columns = [*QUANTUM_NAMES, *dimension_columns(list(self.header.dimensions))]
        if rows is None:
            return self.quanta_rows.whole(columns)
        return self.quanta_rows.take(rows, columns)

    def quantum_ids(self, table: pa.Table) -> Ids:
        """The ids of rows of *quanta*, from the table that `id_table` gives."""
        ids = np.zeros((table.num_rows, 16), np.uint8)
        labels = self.label_codes(table)
        there = {
            name: table[DIMENSION_PREFIX + name].is_valid().to_numpy()
            for name in self.header.dimensions
        }
        shapes = combine_codes(
            [labels, *(mask.astype(np.int64) for mask in there.values())], table.num_rows
        )
        for shape in np.unique(shapes):
            rows = np.flatnonzero(shapes == shape)
            names = [name for name, mask in there.items() if mask[rows[0]]]
            some = table.take(pa.array(rows))
            columns = {name: some[DIMENSION_PREFIX + name] for name in names}
            label = self.labels[labels[rows[0]]]
            ids[rows] = derived_ids("quantum", self.header.run, label, columns, len(rows))
        return with_given_ids(ids, table["quantum_id"])

    def find(self, quantum_id: str) -> int | None:
        """The row of a quantum in *quanta*, or None."""
        try:
            wanted = id_bytes(quantum_id)
        except ValueError:
            return None
        candidates = None if self.index_rows is None else self.index_rows.candidates(wanted)
        if candidates is not None and len(candidates) and candidates.max() >= len(self):
            raise self.error("index", f"there is no quantum in row {candidates.max()}")
        ids = self.quantum_ids(self.id_table(candidates))
        hits = np.flatnonzero((ids == np.frombuffer(wanted, np.uint8)).all(axis=1))
        if not len(hits):
            return None
        return int(hits[0] if candidates is None else candidates[hits[0]])

    def quantum(self, quantum_id: str) -> Quantum:
        """One quantum; nothing is read but what it needs.

        Raises
        ------
        SelectionError
            If the graph has no such quantum.
        GraphError
            If the file is damaged where the quantum lies.
        """
        row = self.find(quantum_id)
        if row is None:
            raise SelectionError(f"{self.name}: there is no quantum {quantum_id!r}")
        return next(self.quanta_at(np.array([row])))

    def quanta(self, *, task_label: str | None = None) -> Iterator[Quantum]:
        """The quanta, or those of a task label, a few thousand in memory at a time.

        Raises
        ------
        SelectionError
            If the graph has no such task label.
        GraphError
            If the file is damaged.
        """
        if task_label is not None:
            return self.quanta_at(np.arange(*self.rows_of_task(task_label)))
        position = self.quanta_rows.whole(["position"])["position"].to_numpy()
        return self.quanta_at(np.argsort(position, kind="stable"))

    def rows_of_task(self, task_label: str) -> tuple[int, int]:
        """First row and end of a task label in *quanta*; raises `SelectionError`."""
        if task_label not in self.header.tasks:
            raise SelectionError(
                f"{self.name}: expected one of the task labels {sorted(self.header.tasks)}, "
                f"found {task_label!r}"
            )
        return self.task_rows.get(task_label, (0, 0))

    def quanta_at(self, rows: Integers) -> Iterator[Quantum]:
        """The quanta in some rows of *quanta*, in this order; raises `GraphError`."""
        for at in range(0, len(rows), _CHUNK):
            yield from self._made(rows[at : at + _CHUNK])

    def datasets(self) -> DatasetRows:
        """Datasets by their rows."""
        return DatasetRows(self)

    def _made(self, rows: Integers) -> Iterator[Quantum]:
        table = self.quanta_rows.take(rows)
        self.check_complete(table)
        labels = [self.labels[code] for code in self.label_codes(table)]
        ids = id_texts(self.quantum_ids(table))
        starts, reads = list_parts(table["reads"])
        firsts, counts = (table[name].to_numpy() for name in ("first_output", "n_outputs"))
        self.check_ranges(reads, firsts, counts)
        made = ranges(firsts, counts)
        datasets = self.datasets()
        inputs, outputs = datasets.inputs(reads), datasets.outputs(made, np.repeat(rows, counts))
        ends = np.cumsum(counts)
        for at, data_id in enumerate(self.data_ids(table)):
            optional_inputs, optional_outputs = self.header.optional_types[labels[at]]
            yield Quantum(
                ids[at],
                labels[at],
                data_id,
                _marked(inputs[starts[at] : starts[at + 1]], optional_inputs),
                _marked(outputs[ends[at] - counts[at] : ends[at]], optional_outputs),
            )

    def data_ids(self, table: pa.Table) -> list[DataId]:
        """The data IDs in rows of *quanta*."""
        names = list(self.header.dimensions)
        columns = [table[DIMENSION_PREFIX + name].to_pylist() for name in names]
        if not columns:
            return [{} for _ in range(table.num_rows)]
        return [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for row in zip(*columns, strict=True)
        ]

    def check_complete(self, table: pa.Table) -> None:
        """Let rows of *quanta* lack nothing that all have; raises `GraphError`."""
        for name in ("position", "first_output", "n_outputs", "reads"):
            if table[name].null_count:
                raise self.error("quanta", f"{name}: expected a value in every row, found none")

    def check_ranges(self, reads: Integers, firsts: Integers, counts: Integers) -> None:
        """Let no row lie outside of *datasets*; raises `GraphError`."""
        n_rows = self.datasets_rows.n_rows
        is_right = not len(reads) or (reads.min() >= 0 and reads.max() < n_rows)
        if len(firsts):
            is_right &= counts.min() >= 0 and firsts.min() >= 0 and firsts.max() <= n_rows
            is_right &= counts.max() <= n_rows and (firsts + counts).max() <= n_rows
        if not is_right:
            raise self.error("quanta", f"expected rows of datasets below {n_rows}, found others")

    def show_quantum(self, row: int) -> str:
        """A quantum as people name it in a message."""
        table = self.id_table(np.array([row]))
        label = self.labels[self.label_codes(table)[0]]
        quantum_id = id_texts(self.quantum_ids(table))[0]
        data_id = format_data_id(self.data_ids(table)[0])
        return f"quanta: row {row}: {quantum_id} {label} ({data_id})"

    def unread_inputs(self, reads: Integers) -> list[PredictedInput]:
        """Datasets from outside that nobody reads, given all rows that are read."""
        producers = self.datasets_rows.whole(["producer_row"])["producer_row"]
        is_unread = producers.is_null().to_numpy().copy()
        is_unread[reads] = False
        return self.datasets().inputs(np.flatnonzero(is_unread))


def _marked(found: list[_Predicted], optional: set[str]) -> list[_Predicted]:
    return [replace(f, optional=True) if f.dataset_type in optional else f for f in found]


def list_parts(column: pa.ChunkedArray) -> tuple[Integers, Integers]:
    """Starts (one more than rows) and values of a column of lists."""
    lengths = [np.zeros(1, np.int64)]
    values = [np.empty(0, np.int64)]
    for chunk in column.chunks:
        lengths.append(np.diff(chunk.offsets.to_numpy()).astype(np.int64))
        values.append(chunk.flatten().to_numpy().astype(np.int64))
    return np.cumsum(np.concatenate(lengths)), np.concatenate(values)
