# SPDX-License-Identifier: BSD-3-Clause
"""Making a graph quantum by quantum, for a columnar file; a million fit in memory as numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from executor.graph.columnar_output import write_columnar
from executor.graph.gathered_quanta import GatheredQuanta
from executor.graph.graph_header import HEADER_KEYS, read_dimension_records, read_header
from executor.graph.graph_reader import GraphReader
from executor.graph.placed_yaml import PlacedDocument

DataIds = Mapping[str, Mapping[str, object] | Sequence[Mapping[str, object]]]
"""Dataset type → a data ID or a list of them."""


class GraphWriter:
    """Quanta into a columnar graph file, which is written when the block ends well.

    Parameters
    ----------
    path
        The file; what is there is replaced once the new one is whole.
    header
        As in a YAML graph file: ``name``, ``run``, ``dimensions``, ``dataset_types``, ``tasks``,
        and ``dimension_records`` and ``graph_id`` if there are any.

    Raises
    ------
    GraphError
        By every method, for what a graph file may not hold.
    """

    def __init__(self, path: Path | str, header: Mapping[str, Any]) -> None:
        self._path = Path(path)
        self._reader = GraphReader(PlacedDocument(str(path), None))
        found = self._reader.document.mapping(
            dict(header), (), {**HEADER_KEYS, "dimension_records": False}
        )
        self._header = read_header(self._reader, found)
        self._records = read_dimension_records(self._reader, found.get("dimension_records") or {})
        self._quanta = GatheredQuanta(self._reader, self._header)

    def __enter__(self) -> "GraphWriter":
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Check everything and write the file, unless the block ended with an error."""
        if kind is None:
            write_columnar(self._quanta.graph(str(self._path), self._records), self._path)

    def add_input(
        self,
        dataset_type: str,
        data_id: Mapping[str, object],
        *,
        run: str,
        key: str | None = None,
        producer: str | None = None,
        dataset_id: str | None = None,
        size_bytes: int | None = None,
        checksum: str | None = None,
    ) -> None:
        """Add a dataset from outside: with its key, or with the quantum that makes it in ``run``.

        ``size_bytes``, ``checksum`` (``sha256:…``) and ``dataset_id`` are given if known.
        """
        self._quanta.add_input(
            *(dataset_type, data_id, run, key, producer, dataset_id, size_bytes, checksum)
        )

    def add_quantum(
        self, task: str, data_id: Mapping[str, object], inputs: DataIds, outputs: DataIds
    ) -> None:
        """Add a quantum; quanta and inputs may come in any order.

        Parameters
        ----------
        inputs, outputs
            Dataset type → a data ID or a list of them.
        """
        self._quanta.add(task, data_id, flat(inputs), flat(outputs))


def flat(data_ids: DataIds) -> list[tuple[str, Mapping[str, object]]]:
    """Dataset types and data IDs one by one."""
    return [
        (name, data_id)
        for name, rows in data_ids.items()
        for data_id in ([rows] if isinstance(rows, Mapping) else rows)
    ]
