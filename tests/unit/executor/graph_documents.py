# SPDX-License-Identifier: BSD-3-Clause
"""A small valid graph file, as a document that a test may change."""

import copy
from pathlib import Path
from typing import Any

import yaml

from executor.graph.quantum_graph import Graph
from executor.graph.yaml_graph import read_graph_file

Document = dict[str, Any]

_DOCUMENT: Document = {
    "quantum_graph": 1,
    "name": "two exposures",
    "run": "u/tester/night1",
    "dimensions": {"exposure": "int", "band": "str"},
    "dataset_types": {
        "raw": {"dimensions": ["exposure"], "storage_class": "File", "extension": ".txt"},
        "counts": {"dimensions": ["exposure"], "storage_class": "Json"},
        "summary": {"dimensions": [], "storage_class": "File", "extension": ".tar.gz"},
    },
    "dimension_records": {
        "exposure": [{"exposure": 1, "airmass": 1.1}, {"exposure": 2, "airmass": 1.3}],
    },
    "tasks": {
        "count": {
            "command": ["cp", "{input:raw}", "{output:counts}"],
            "config": {"deep": [1, None]},
        },
        "summarize": {
            "function": "summaries:write",
            "environment": {"OMP_NUM_THREADS": "1"},
            "optional_inputs": ["counts"],
            "optional_outputs": ["summary"],
        },
    },
    "inputs": [
        {"dataset_type": "raw", "data_id": {"exposure": 1}, "run": "raw/all", "key": "raw/1.txt"},
        {"dataset_type": "raw", "data_id": {"exposure": 2}, "run": "raw/all", "key": "raw/2.txt"},
    ],
    "quanta": [
        {
            "task": "summarize",
            "data_id": {},
            "inputs": {"counts": [{"exposure": 1}, {"exposure": 2}]},
            "outputs": {"summary": {}},
        },
        {
            "task": "count",
            "data_id": {"exposure": 1},
            "inputs": {"raw": {"exposure": 1}},
            "outputs": {"counts": {"exposure": 1}},
        },
        {
            "task": "count",
            "data_id": {"exposure": 2},
            "inputs": {"raw": [{"exposure": 2}]},
            "outputs": {"counts": {"exposure": 2}},
        },
    ],
}

MISSING = object()
"""In place of a value: the key is taken away."""


def make_document() -> Document:
    """A graph of three quanta, two of one task and one that reads what they make."""
    return copy.deepcopy(_DOCUMENT)


def document_with(*trail: str | int, value: object) -> Document:
    """The document with another value, a new one, or none at a place."""
    document = make_document()
    holder: Any = document
    for step in trail[:-1]:
        holder = holder[step]
    if value is MISSING:
        del holder[trail[-1]]
    elif isinstance(holder, list) and trail[-1] == len(holder):
        holder.append(value)
    else:
        holder[trail[-1]] = value
    return document


def write(path: Path, document: object) -> Path:
    """Write a document as YAML."""
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), "utf-8")
    return path


def read(tmp_path: Path, document: object, run: str | None = None) -> Graph:
    """Read a document as a graph."""
    return read_graph_file(write(tmp_path / "graph.yaml", document), run=run)
