# SPDX-License-Identifier: BSD-3-Clause
"""What two graphs differ in: quanta by their ids, and what all quanta share."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from executor.graph.column_codes import Integers
from executor.graph.columnar_check import CheckedColumns, check_columns, graph_id_of
from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.derived_columns import Ids, id_texts
from executor.graph.derived_graph_id import sort_ids
from executor.graph.graph_header import header_document
from registry.typed_json import canonical

Words = npt.NDArray[np.uint64]


@dataclass
class Difference:
    """What is in the second graph and not in the first (added), the other way, and changed.

    Quanta are told by id, task label and data ID; what is shared by its name, with what changed.
    """

    added: list[dict[str, Any]] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    shared: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether the graphs differ."""
        return bool(self.added or self.removed or self.changed or self.shared)


def difference(one: ColumnarGraph, other: ColumnarGraph) -> Difference:
    """Compare two graphs; raises `GraphError` if one of them is wrong."""
    checks = [check_columns(graph) for graph in (one, other)]
    found = Difference(shared=_shared(one, other, checks))
    at_one, at_other = _common(*(checked.quantum_ids for checked in checks))
    found.removed = _told(one, np.delete(np.arange(len(one)), at_one))
    found.added = _told(other, np.delete(np.arange(len(other)), at_other))
    before = _signatures(one, checks[0])[:, at_one]
    after = _signatures(other, checks[1])[:, at_other]
    differs = np.flatnonzero((before != after).any(axis=0))
    for told, at in zip(_told(other, at_other[differs]), differs, strict=True):
        what = [
            name
            for name, is_other in zip(_ASPECTS, before[:, at] != after[:, at], strict=True)
            if is_other
        ]
        found.changed.append({**told, "what": what})
    return found


_ASPECTS = ("identity", "inputs", "outputs", "optional")


def _common(ids: Ids, others: Ids) -> tuple[Integers, Integers]:
    """The rows of ids that are in both."""
    both = np.concatenate([ids, others])
    order = sort_ids(both)
    same = np.flatnonzero((both[order[1:]] == both[order[:-1]]).all(axis=1))
    return order[same], order[same + 1] - len(ids)


def _told(graph: ColumnarGraph, rows: Integers) -> list[dict[str, Any]]:
    if not len(rows):
        return []
    table = graph.id_table(rows)
    labels = [graph.labels[code] for code in graph.label_codes(table)]
    return [
        {"quantum_id": quantum_id, "task_label": label, "data_id": data_id}
        for quantum_id, label, data_id in zip(
            id_texts(graph.quantum_ids(table)), labels, graph.data_ids(table), strict=True
        )
    ]


def _signatures(graph: ColumnarGraph, checked: CheckedColumns) -> Words:
    """For each quantum one number per aspect: 64 bits of what it is, reads, makes, may lack."""
    table = graph.datasets_rows.whole()
    datasets = graph.datasets()
    kinds = datasets.kind_codes(table)
    facts = _mixed(_words(datasets.ids(table)) ^ _mixed(_words_given(table)))
    makers = table["producer_row"].fill_null(-1).to_numpy()
    inside = makers >= 0
    facts[inside] ^= _mixed(_words(checked.quantum_ids[makers[inside]]))
    outside = np.flatnonzero(~inside)
    if len(outside):
        facts[outside] ^= _outside_words(graph, table.slice(int(outside[0])))
    quanta = graph.id_table()
    labels = graph.label_codes(quanta)
    names = np.array([_hash(name) for name in graph.labels] or [0], np.uint64)
    data_ids = [_hash(canonical(data_id)) for data_id in graph.data_ids(quanta)]
    signatures = np.zeros((len(_ASPECTS), len(graph)), np.uint64)
    signatures[0] = _mixed(names[labels]) ^ np.array(data_ids, np.uint64) if len(graph) else 0
    for aspect, (starts, rows) in ((1, checked.reads), (2, checked.makes)):
        owners = np.repeat(np.arange(len(graph)), np.diff(starts))
        # The place within the quantum counts: arguments of a command are in this order.
        order = (np.arange(len(rows)) - starts[:-1][owners]).astype(np.uint64)
        np.add.at(signatures[aspect], owners, _mixed(facts[rows] + order))
        optional = _optional_words(graph, aspect - 1)
        np.add.at(signatures[3], owners, optional[labels[owners], kinds[rows]])
    return signatures


def _outside_words(graph: ColumnarGraph, table: pa.Table) -> Words:
    """Of datasets from outside one number each.

    Of one made in the same RUN it is that of its producer, as if this were in the graph: a job
    says the same of both.
    """
    ids = [raw or bytes(16) for raw in table["producer"].to_pylist()]
    words = _mixed(_words(np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)))
    rows = table.select(["run", "key", "size_bytes", "checksum"]).to_pylist()
    told = [
        [None if row["run"] == graph.header.run else row["run"], *list(row.values())[1:]]
        for row in rows
    ]
    hashes = [_hash(repr(facts)) if any(f is not None for f in facts) else 0 for facts in told]
    return words ^ np.array(hashes, np.uint64)


def _optional_words(graph: ColumnarGraph, side: int) -> Words:
    """By task label and dataset type a number if the task may do without, else 0."""
    words = np.zeros((len(graph.labels), len(graph.header.dataset_types)), np.uint64)
    for row, label in enumerate(graph.labels):
        for column, kind in enumerate(graph.header.dataset_types):
            if kind in graph.header.optional_types[label][side]:
                words[row, column] = _hash(f"{side} {kind}")
    return words


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _words(ids: npt.NDArray[np.uint8]) -> Words:
    """Sixteen bytes as one number of eight, both halves mixed."""
    halves = np.ascontiguousarray(ids).view("<u8").reshape(-1, 2)
    words: Words = _mixed(halves[:, 0]) ^ halves[:, 1]
    return words


def _words_given(table: pa.Table) -> Words:
    column = table["dataset_id"]
    words = np.zeros(table.num_rows, np.uint64)
    if column.null_count < table.num_rows:
        given = np.flatnonzero(column.is_valid().to_numpy())
        words[given] = [_hash(raw.hex()) for raw in column.to_pylist() if raw is not None]
    return words


def _mixed(words: Words) -> Words:
    """Every bit of each number made to depend on all of it (the finish of splitmix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _shared(
    one: ColumnarGraph, other: ColumnarGraph, checks: list[CheckedColumns]
) -> dict[str, dict[str, list[str]]]:
    """Section → name → what changed; of both graphs what all quanta share."""
    documents = [_sections(graph) for graph in (one, other)]
    found: dict[str, dict[str, list[str]]] = {}
    for section, before in documents[0].items():
        after = documents[1][section]
        for name in {**before, **after}:
            what = _changes(before.get(name), after.get(name))
            if what:
                found.setdefault(section, {})[name] = what
    ids = [graph_id_of(graph, checked) for graph, checked in zip((one, other), checks, strict=True)]
    if ids[0] != ids[1]:
        found.setdefault("graph", {})["graph_id"] = ["changed"]
    return found


def _sections(graph: ColumnarGraph) -> dict[str, dict[str, Any]]:
    document = header_document(graph.header)
    records = {
        f"{record.dimension} {canonical(record.data_id)}": record.record
        for record in graph.dimension_records
    }
    return {
        "graph": {name: {"value": document[name]} for name in ("name", "run")},
        "dimensions": {n: {"kind": kind} for n, kind in document["dimensions"].items()},
        "dataset_types": document["dataset_types"],
        "tasks": document["tasks"],
        "dimension_records": records,
    }


def _changes(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    if before is None or after is None:
        return ["added" if before is None else "removed"]
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]
