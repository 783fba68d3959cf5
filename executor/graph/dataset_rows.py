# SPDX-License-Identifier: BSD-3-Clause
"""Datasets of a columnar graph as what a job has: predicted inputs and outputs."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from executor.graph.column_codes import Integers, combine_codes, name_codes, value_codes
from executor.graph.derived_columns import (
    Ids,
    as_text,
    dataset_paths,
    derived_ids,
    id_texts,
    with_given_ids,
)
from executor.graph.graph_reader import key_problem
from executor.graph.graph_tables import DIMENSION_PREFIX
from registry.job import PredictedInput, PredictedOutput
from registry.model import DataId, format_data_id

if TYPE_CHECKING:
    from executor.graph.columnar_graph import ColumnarGraph


class DatasetRows:
    """Datasets by their rows; each is made once, however many quanta read it."""

    def __init__(self, graph: "ColumnarGraph") -> None:
        self._graph = graph
        self._kinds = list(graph.header.dataset_types.values())

    def inputs(self, rows: Integers) -> list[PredictedInput]:
        """The datasets in some rows as inputs; raises `GraphError`."""
        wanted, places = np.unique(rows, return_inverse=True)
        table = self._graph.datasets_rows.take(wanted)
        producers = self._producers(table)
        made = [
            PredictedInput(
                dataset_id, kind, data_id, run, path, False, producer, key, size_bytes, checksum
            )
            for (dataset_id, kind, data_id, run, path), producer, key, size_bytes, checksum in zip(
                self._facts(table),
                producers,
                table["key"].to_pylist(),
                table["size_bytes"].to_pylist(),
                (c and f"sha256:{c.hex()}" for c in table["checksum"].to_pylist()),
                strict=True,
            )
        ]
        for found in made:
            self._check_input(found)
        return [made[place] for place in places]

    def outputs(self, rows: Integers, producers: Integers) -> list[PredictedOutput]:
        """The datasets in some rows as outputs of the quanta in other rows; raises `GraphError`."""
        table = self._graph.datasets_rows.take(rows)
        column = table["producer_row"].fill_null(-1).to_numpy()
        if not np.array_equal(column, producers):
            raise self._graph.error("datasets", "expected the outputs of a quantum, found others")
        return [
            PredictedOutput(dataset_id, kind, data_id, path)
            for dataset_id, kind, data_id, _, path in self._facts(table)
        ]

    def show(self, row: int) -> str:
        """A dataset as people name it in a message."""
        table = self._graph.datasets_rows.take(np.array([row]))
        kind = self._kinds[self.kind_codes(table)[0]]
        data_id = {name: table[DIMENSION_PREFIX + name][0].as_py() for name in kind.dimensions}
        return f"{kind.name} ({format_data_id(data_id)})"

    def kind_codes(self, table: pa.Table) -> Integers:
        """The dataset type of each row as its place among all; raises `GraphError`."""
        names = [kind.name for kind in self._kinds]
        codes = name_codes(table["dataset_type"], names)
        if len(codes) and codes.min() < 0:
            found = table["dataset_type"][int(np.argmin(codes))].as_py()
            raise self._graph.error(
                "datasets", f"expected one of the dataset types {sorted(names)}, found {found!r}"
            )
        return codes

    def groups(self, table: pa.Table) -> list[tuple[int, str, Integers]]:
        """Rows of one dataset type and one RUN: place of the type, RUN, rows."""
        kinds = self.kind_codes(table)
        shapes = combine_codes([kinds, value_codes(table["run"])], table.num_rows)
        found = []
        for shape in np.unique(shapes):
            rows = np.flatnonzero(shapes == shape)
            run = table["run"][int(rows[0])].as_py()
            found.append((int(kinds[rows[0]]), run or self._graph.header.run, rows))
        return found

    def ids(self, table: pa.Table) -> Ids:
        """The ids of rows of *datasets*, derived; given ones are not looked at."""
        ids = np.zeros((table.num_rows, 16), np.uint8)
        for kind, run, rows in self.groups(table):
            columns = self._columns(table, kind, rows)
            ids[rows] = derived_ids("dataset", run, self._kinds[kind].name, columns, len(rows))
        return ids

    def paths(self, table: pa.Table) -> pa.Array:
        """The paths of rows of *datasets* in a repo."""
        parts, order = [pa.array([], pa.string())], [np.empty(0, np.int64)]
        for kind, run, rows in self.groups(table):
            columns = self._columns(table, kind, rows)
            parts += dataset_paths(run, self._kinds[kind], columns, len(rows)).chunks
            order.append(rows)
        return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(order))))

    def _columns(self, table: pa.Table, kind: int, rows: Integers) -> dict[str, pa.ChunkedArray]:
        some = table.take(pa.array(rows))
        columns = {n: some[DIMENSION_PREFIX + n] for n in self._kinds[kind].dimensions}
        for name, column in columns.items():
            if column.null_count:
                raise self._graph.error(
                    "datasets", f"{self._kinds[kind].name}: expected a value of {name}, found none"
                )
        return columns

    def _facts(self, table: pa.Table) -> list[tuple[str, str, DataId, str, str]]:
        """Id, type, data ID, RUN and path of each row."""
        ids = id_texts(with_given_ids(self.ids(table), table["dataset_id"]))
        columns = {
            name: table[DIMENSION_PREFIX + name].to_pylist()
            for name in self._graph.header.dimensions
        }
        data_ids: list[DataId] = [
            {name: columns[name][row] for name in self._kinds[kind].dimensions}
            for row, kind in enumerate(self.kind_codes(table))
        ]
        kinds = table["dataset_type"].to_pylist()
        runs = [run or self._graph.header.run for run in table["run"].to_pylist()]
        return list(zip(ids, kinds, data_ids, runs, self.paths(table).to_pylist(), strict=True))

    def _producers(self, table: pa.Table) -> list[str | None]:
        """The id of the quantum that makes each: of this graph by its row, of others as given."""
        rows = table["producer_row"].fill_null(-1).to_numpy()
        wanted, places = np.unique(rows, return_inverse=True)
        if len(wanted) and wanted[-1] >= self._graph.quanta_rows.n_rows:
            raise self._graph.error("datasets", f"there is no quantum in row {wanted[-1]}")
        first = 1 if len(wanted) and wanted[0] < 0 else 0
        ids = id_texts(self._graph.quantum_ids(self._graph.id_table(wanted[first:])))
        given = (raw and as_text([raw])[0] for raw in table["producer"].to_pylist())
        return [
            other if row < 0 else ids[place - first]
            for row, place, other in zip(rows, places, given, strict=True)
        ]

    def _check_input(self, found: PredictedInput) -> None:
        problem = ""
        if (found.key is None) == (found.producer is None):
            problem = "is made by no quantum and has not one of 'key' and 'producer'"
        elif found.key is not None and key_problem(found.key):
            problem = f"key: expected {key_problem(found.key)}; found {found.key!r}"
        elif found.size_bytes is not None and found.size_bytes < 0:
            problem = f"size: expected a number of bytes, found {found.size_bytes}"
        if problem:
            name = f"{found.dataset_type} ({format_data_id(found.data_id)})"
            raise self._graph.error("datasets", f"{name}: {problem}")
