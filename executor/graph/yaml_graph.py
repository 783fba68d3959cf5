# SPDX-License-Identifier: BSD-3-Clause
"""Graph files that a person can write: YAML, read into `executor.graph.quantum_graph.Graph`.

The form is shown in ``configs/pipelines/`` and told in ``docs/graph-file.md``. Ids that the file
does not give are derived from RUN, names and data IDs, so that a graph read twice is the same
graph; commands, configuration and environment do not enter, so that a task can be mended and the
graph run on.
"""

import graphlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from executor.graph.graph_header import (
    HEADER_KEYS,
    read_dimension_records,
    read_header,
    read_run,
)
from executor.graph.graph_reader import GraphReader
from executor.graph.placed_yaml import Trail, read_placed_yaml
from executor.graph.quantum_graph import Graph, Quantum, derive_graph_id
from registry.job import PredictedInput, PredictedOutput
from registry.model import DataId, DatasetType, derived_id, format_data_id
from registry.typed_json import canonical

GRAPH_FILE_FORMAT = 1

_TOP = {
    "quantum_graph": True,
    **HEADER_KEYS,
    "dimension_records": False,
    "inputs": False,
    "quanta": True,
}
_INPUT = {
    "dataset_type": True,
    "data_id": True,
    "run": True,
    "key": False,
    "producer": False,
    "dataset_id": False,
    "size_bytes": False,
    "checksum": False,
}
_QUANTUM = {
    "task": True,
    "data_id": True,
    "quantum_id": False,
    "inputs": False,
    "outputs": False,
    "dataset_ids": False,
}
_MAX_SHOWN = 10
"""Quanta of a circle that are named."""


def read_graph_file(path: Path, *, run: str | None = None) -> Graph:
    """Read a graph file.

    Parameters
    ----------
    run
        The RUN to write into, instead of the one that the file names.

    Raises
    ------
    GraphError
        With file, line and place, and what was expected and found.
    """
    reader = GraphReader(read_placed_yaml(path))
    top = reader.document.mapping(reader.document.value, (), _TOP)
    if top["quantum_graph"] != GRAPH_FILE_FORMAT or top["quantum_graph"] is True:
        raise reader.error(
            ("quantum_graph",), f"expected format {GRAPH_FILE_FORMAT}, found {top['quantum_graph']}"
        )
    header = read_header(reader, top, run)
    records = read_dimension_records(reader, top.get("dimension_records") or {})
    _read_existing(reader, top.get("inputs") or [])
    quanta = _read_quanta(reader, top["quanta"])
    graph = Graph(
        header.graph_id or derive_graph_id(reader.run, quanta),
        header.name,
        header.run,
        header.dataset_types,
        records,
        header.tasks,
        quanta,
        dimensions=header.dimensions,
        optional_types=header.optional_types,
        unread_inputs=_unread(reader, quanta),
    )
    _check_producers(reader, graph)
    _check_no_cycle(reader, graph)
    return graph


def _read_existing(reader: GraphReader, value: object) -> None:
    for index, body in enumerate(reader.sequence(value, ("inputs",))):
        trail: Trail = ("inputs", index)
        found = reader.document.mapping(body, trail, _INPUT)
        kind = reader.dataset_type(found["dataset_type"], (*trail, "dataset_type"))
        data_id = reader.data_id(found["data_id"], kind.dimensions, (*trail, "data_id"))
        run = read_run(reader, found["run"], (*trail, "run"))
        key = (kind.name, canonical(data_id))
        if key in reader.existing:
            raise reader.error(trail, f"{kind.name} ({format_data_id(data_id)}) is there twice")
        given = reader.optional_uuid(found.get("dataset_id"), (*trail, "dataset_id"))
        producer = reader.optional_uuid(found.get("producer"), (*trail, "producer"))
        has_key = found.get("key") is not None
        if has_key == (producer is not None):
            raise reader.error(trail, "expected either 'key' or 'producer'")
        reader.existing[key] = PredictedInput(
            reader.claim_id(given, run, kind, data_id, trail),
            kind.name,
            data_id,
            run,
            reader.claim_path(run, kind, data_id, trail),
            producer=producer,
            key=reader.object_key(found["key"], (*trail, "key")) if has_key else None,
            size_bytes=reader.size(found.get("size_bytes"), (*trail, "size_bytes")),
            checksum=reader.checksum(found.get("checksum"), (*trail, "checksum")),
        )


def _read_quanta(reader: GraphReader, value: object) -> list[Quantum]:
    """Read in two passes, because a quantum may stand before the one that makes its inputs."""
    drafts = []
    seen: dict[str, int] = {}
    data_ids: dict[tuple[str, str], int] = {}
    for index, body in enumerate(reader.sequence(value, ("quanta",))):
        trail: Trail = ("quanta", index)
        found = reader.document.mapping(body, trail, _QUANTUM)
        label = reader.one_of(found["task"], reader.tasks, (*trail, "task"))
        given = reader.mapping(found["data_id"], (*trail, "data_id"))
        known = [d for d in given if d in reader.dimensions]
        data_id = reader.data_id(given, known, (*trail, "data_id"))
        other = data_ids.setdefault((label, canonical(data_id)), index)
        if other != index:
            raise reader.error(
                trail, f"{label} ({format_data_id(data_id)}) is also quanta[{other}]"
            )
        given_id = reader.optional_uuid(found.get("quantum_id"), (*trail, "quantum_id"))
        quantum_id = given_id or derived_id("quantum", reader.run, label, data_id)
        other = seen.setdefault(quantum_id, index)
        if other != index:
            raise reader.error(trail, f"quanta[{other}] also has the id {quantum_id}")
        outputs = _read_outputs(reader, found, label, quantum_id, trail)
        drafts.append((trail, found, Quantum(quantum_id, label, data_id, [], outputs)))
    for trail, found, quantum in drafts:
        quantum.inputs.extend(_read_inputs(reader, found.get("inputs") or {}, quantum, trail))
    return [quantum for _, _, quantum in drafts]


def _datasets(
    reader: GraphReader, value: object, trail: Trail
) -> list[tuple[DatasetType, DataId, Trail]]:
    """The datasets under ``inputs`` or ``outputs``: type → data ID, or list of data IDs."""
    found = []
    for name, rows in reader.mapping(value, trail).items():
        kind = reader.dataset_type(name, (*trail, name))
        is_one = isinstance(rows, dict)
        for index, row in enumerate([rows] if is_one else reader.sequence(rows, (*trail, name))):
            place: Trail = (*trail, name) if is_one else (*trail, name, index)
            found.append((kind, reader.data_id(row, kind.dimensions, place), place))
    return found


def _read_outputs(
    reader: GraphReader, found: dict[str, Any], label: str, quantum_id: str, trail: Trail
) -> list[PredictedOutput]:
    outputs = []
    predicted = _datasets(reader, found.get("outputs") or {}, (*trail, "outputs"))
    given = _read_dataset_ids(
        reader, found.get("dataset_ids") or {}, predicted, (*trail, "dataset_ids")
    )
    for (kind, data_id, place), dataset_id in zip(predicted, given, strict=True):
        key = (kind.name, canonical(data_id))
        name = f"{kind.name} ({format_data_id(data_id)})"
        if key in reader.producers:
            other = reader.producers[key][0]
            raise reader.error(place, f"{name} is made by two quanta, also by {other}")
        if key in reader.existing:
            raise reader.error(place, f"{name} is also under 'inputs'")
        output = PredictedOutput(
            reader.claim_id(dataset_id, reader.run, kind, data_id, place),
            kind.name,
            data_id,
            reader.claim_path(reader.run, kind, data_id, place),
            kind.name in reader.optional[label][1],
        )
        reader.producers[key] = (quantum_id, output)
        outputs.append(output)
    return outputs


def _read_dataset_ids(
    reader: GraphReader,
    value: object,
    outputs: Iterable[tuple[DatasetType, DataId, Trail]],
    trail: Trail,
) -> list[str | None]:
    """The ids of outputs that are not the derived ones: type → an id, or a list as long as its."""
    waiting: dict[str, list[str | None]] = {}
    kinds = [kind.name for kind, _, _ in outputs]
    for name, rows in reader.mapping(value, trail).items():
        reader.one_of(name, set(kinds), (*trail, name))
        listed = rows if isinstance(rows, list) else [rows]
        if len(listed) != kinds.count(name):
            raise reader.error(
                (*trail, name), f"expected {kinds.count(name)} ids, found {len(listed)}"
            )
        places: list[Trail] = [
            (*trail, name, index) if isinstance(rows, list) else (*trail, name)
            for index in range(len(listed))
        ]
        waiting[name] = [
            reader.optional_uuid(row, place) for row, place in zip(listed, places, strict=True)
        ][::-1]
    return [waiting[name].pop() if name in waiting else None for name in kinds]


def _read_inputs(
    reader: GraphReader, value: object, quantum: Quantum, trail: Trail
) -> list[PredictedInput]:
    inputs: dict[str, PredictedInput] = {}
    optional = reader.optional[quantum.task_label][0]
    for kind, data_id, place in _datasets(reader, value, (*trail, "inputs")):
        key = (kind.name, canonical(data_id))
        is_optional = kind.name in optional
        if key in reader.producers:
            producer, made = reader.producers[key]
            found = PredictedInput(
                *(made.dataset_id, kind.name, data_id, reader.run, made.path, is_optional, producer)
            )
        elif key in reader.existing:
            found = replace(reader.existing[key], optional=is_optional)
        else:
            raise reader.error(
                place,
                f"{kind.name} ({format_data_id(data_id)}) is made by no quantum and is not "
                "under 'inputs'",
            )
        if inputs.setdefault(found.dataset_id, found) is not found:
            raise reader.error(place, f"{kind.name} ({format_data_id(data_id)}) is there twice")
    return list(inputs.values())


def _unread(reader: GraphReader, quanta: list[Quantum]) -> list[PredictedInput]:
    read = {found.dataset_id for quantum in quanta for found in quantum.inputs}
    return [found for found in reader.existing.values() if found.dataset_id not in read]


def _check_producers(reader: GraphReader, graph: Graph) -> None:
    """An input of another graph is not made by a quantum of this one, which would list it."""
    for index, found in enumerate(reader.existing.values()):
        if found.producer in graph.by_id:
            raise reader.error(
                ("inputs", index, "producer"),
                f"quantum {found.producer} is in this graph and does not make it",
            )


def _check_no_cycle(reader: GraphReader, graph: Graph) -> None:
    try:
        graph.sorter().prepare()
    except graphlib.CycleError as error:
        around = [graph.by_id[quantum_id] for quantum_id in error.args[1]]
        shown = show_circle((q.task_label, q.data_id) for q in around)
        raise reader.error(
            ("quanta",), f"the quanta depend on each other in a circle: {shown}"
        ) from error


def show_circle(around: Iterable[tuple[str, DataId]]) -> str:
    """Quanta that depend on each other, as people read it; a long circle is cut."""
    shown = [f"{label} ({format_data_id(data_id)})" for label, data_id in around]
    if len(shown) > _MAX_SHOWN:
        shown[_MAX_SHOWN - 1 : -1] = [f"… {len(shown) - _MAX_SHOWN} more …"]
    return " → ".join(shown)
