# SPDX-License-Identifier: BSD-3-Clause
"""A graph as YAML that a person can read, and that reads back equal."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from executor.graph.given_ids import given_dataset_id, given_ids, header_of, outside_inputs
from executor.graph.graph_header import header_document
from executor.graph.placed_yaml import GraphError
from executor.graph.quantum_graph import Graph, Quantum
from executor.graph.yaml_graph import GRAPH_FILE_FORMAT
from registry.job import PredictedInput
from registry.model import EXTENSIONS


class _Line(dict[str, Any]):
    """A mapping that is written in one line."""


class _Dumper(yaml.CSafeDumper):
    """Never refers to what it wrote before."""

    def ignore_aliases(self, _: object) -> bool:
        return True


_Dumper.add_representer(
    _Line, lambda dumper, line: dumper.represent_mapping("tag:yaml.org,2002:map", line, True)
)


def write_yaml(graph: Graph, path: Path) -> None:
    """Write a YAML graph file, whole or not at all; raises `GraphError` if it cannot be written."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(yaml_text(graph), "utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise GraphError(f"{path}: cannot be written: {error}") from error


def yaml_text(graph: Graph) -> str:
    """The text of a YAML graph file."""
    header = header_document(header_of(graph))
    for kind in header["dataset_types"].values():
        if kind["extension"] == EXTENSIONS.get(kind["storage_class"], ""):
            del kind["extension"]
    records: dict[str, list[_Line]] = {}
    for record in graph.dimension_records:
        line = _Line({**record.data_id, **record.record})
        records.setdefault(record.dimension, []).append(line)
    document = {
        "quantum_graph": GRAPH_FILE_FORMAT,
        **header,
        **({"dimension_records": records} if records else {}),
        "inputs": [_input(found) for found in outside_inputs(graph)],
        "quanta": [_quantum(graph.run, quantum) for quantum in graph.quanta],
    }
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def _input(found: PredictedInput) -> _Line:
    facts = {
        "key": found.key,
        "producer": found.producer,
        "dataset_id": given_dataset_id(found.run, found),
        "size_bytes": found.size_bytes,
        "checksum": found.checksum,
    }
    return _Line(
        dataset_type=found.dataset_type,
        data_id=_Line(found.data_id),
        run=found.run,
        **{name: value for name, value in facts.items() if value is not None},
    )


def _quantum(run: str, quantum: Quantum) -> dict[str, Any]:
    quantum_id, dataset_ids = given_ids(run, quantum)
    document: dict[str, Any] = {"task": quantum.task_label, "data_id": _Line(quantum.data_id)}
    if quantum_id is not None:
        document["quantum_id"] = quantum_id
    if quantum.inputs:
        document["inputs"] = _by_type(quantum.inputs, [_Line(i.data_id) for i in quantum.inputs])
    if quantum.outputs:
        document["outputs"] = _by_type(quantum.outputs, [_Line(o.data_id) for o in quantum.outputs])
    given = {o.dataset_type for o, i in zip(quantum.outputs, dataset_ids, strict=True) if i}
    if given:
        listed = _by_type(quantum.outputs, dataset_ids)
        document["dataset_ids"] = {name: ids for name, ids in listed.items() if name in given}
    return document


def _by_type(found: list[Any], values: list[Any]) -> dict[str, Any]:
    """Values by dataset type: alone, or as a list if there are several."""
    listed: dict[str, list[Any]] = {}
    for predicted, value in zip(found, values, strict=True):
        listed.setdefault(predicted.dataset_type, []).append(value)
    return {name: rows[0] if len(rows) == 1 else rows for name, rows in listed.items()}
