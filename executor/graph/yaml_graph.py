# SPDX-License-Identifier: BSD-3-Clause
"""Graph files that a person can write: YAML, read into `executor.graph.quantum_graph.Graph`.

The form is shown in ``configs/pipelines/`` and told in ``docs/graph-file.md``. Ids that the file
does not give are derived from RUN, names and data IDs, so that a graph read twice is the same
graph; commands, configuration and environment do not enter, so that a task can be mended and the
graph run on.
"""

import graphlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from executor.graph.graph_reader import GraphReader
from executor.graph.placed_yaml import Trail, read_placed_yaml
from executor.graph.quantum_graph import Graph, Quantum
from registry import names
from registry.errors import InvalidNameError
from registry.job import PredictedInput, PredictedOutput, TaskCall
from registry.model import (
    EXTENSIONS,
    DataId,
    DatasetType,
    DimensionRecord,
    derived_id,
    format_data_id,
)
from registry.typed_json import canonical

GRAPH_FILE_FORMAT = 1

_TOP = {
    "quantum_graph": True,
    "name": True,
    "run": True,
    "graph_id": False,
    "dimensions": True,
    "dataset_types": True,
    "dimension_records": False,
    "tasks": True,
    "inputs": False,
    "quanta": True,
}
_TASK = {
    "command": False,
    "function": False,
    "config": False,
    "environment": False,
    "optional_inputs": False,
    "optional_outputs": False,
}
_INPUT = {
    "dataset_type": True,
    "data_id": True,
    "run": True,
    "key": True,
    "dataset_id": False,
    "size_bytes": False,
    "checksum": False,
}
_QUANTUM = {"task": True, "data_id": True, "inputs": False, "outputs": False}
_KINDS: dict[str, type] = {"int": int, "str": str}

_MAX_EXTENSION = 32
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")


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
    reader.run = _read_run(reader, run or top["run"], ("run",))
    _read_dimensions(reader, top["dimensions"])
    _read_dataset_types(reader, top["dataset_types"])
    records = _read_dimension_records(reader, top.get("dimension_records") or {})
    _read_tasks(reader, top["tasks"])
    _read_existing(reader, top.get("inputs") or [])
    quanta = _read_quanta(reader, top["quanta"])
    graph_id = reader.optional_uuid(top.get("graph_id"), ("graph_id",))
    graph = Graph(
        graph_id or _derive_graph_id(reader.run, quanta),
        reader.text(top["name"], ("name",)),
        reader.run,
        reader.dataset_types,
        records,
        reader.tasks,
        quanta,
    )
    _check_no_cycle(reader, graph)
    return graph


def _read_run(reader: GraphReader, value: object, trail: Trail) -> str:
    try:
        return names.check_run(reader.text(value, trail))
    except InvalidNameError as error:
        raise reader.error(trail, str(error)) from error


def _read_dimensions(reader: GraphReader, value: object) -> None:
    for name, kind in reader.mapping(value, ("dimensions",)).items():
        trail = ("dimensions", name)
        reader.named(name, trail, "dimension")
        reader.dimensions[name] = _KINDS[reader.one_of(kind, _KINDS, trail)]


def _read_dataset_types(reader: GraphReader, value: object) -> None:
    keys = {"dimensions": True, "storage_class": True, "extension": False}
    for name, body in reader.mapping(value, ("dataset_types",)).items():
        trail: Trail = ("dataset_types", name)
        reader.named(name, trail, "dataset type")
        found = reader.document.mapping(body, trail, keys)
        dimensions = reader.sequence(found["dimensions"], (*trail, "dimensions"))
        known = [d for d in dimensions if isinstance(d, str) and d in reader.dimensions]
        if known != dimensions or len(set(known)) != len(known):
            raise reader.error(
                (*trail, "dimensions"),
                f"expected dimensions of {sorted(reader.dimensions)}, each once, found "
                f"{dimensions!r}",
            )
        storage_class = reader.text(found["storage_class"], (*trail, "storage_class"))
        extension = found.get("extension", EXTENSIONS.get(storage_class, ""))
        if extension != "" and (not isinstance(extension, str) or not _is_extension(extension)):
            raise reader.error(
                (*trail, "extension"),
                f"expected a form like '.png' of at most {_MAX_EXTENSION} characters, found "
                f"{extension!r}",
            )
        reader.dataset_types[name] = DatasetType(name, dimensions, storage_class, extension)


def _is_extension(text: str) -> bool:
    parts = text.split(".")
    is_short = 1 < len(text) <= _MAX_EXTENSION
    return is_short and not parts[0] and all(p.isalnum() and p.isascii() for p in parts[1:])


def _read_dimension_records(reader: GraphReader, value: object) -> list[DimensionRecord]:
    records: dict[tuple[str, str], DimensionRecord] = {}
    for dimension, rows in reader.mapping(value, ("dimension_records",)).items():
        trail: Trail = ("dimension_records", dimension)
        reader.one_of(dimension, reader.dimensions, trail)
        for index, row in enumerate(reader.sequence(rows, trail)):
            record = _read_dimension_record(reader, dimension, row, (*trail, index))
            key = (dimension, canonical(record.data_id))
            if key in records:
                told = format_data_id(record.data_id)
                raise reader.error((*trail, index), f"{told} is there twice")
            records[key] = record
    return list(records.values())


def _read_dimension_record(
    reader: GraphReader, dimension: str, row: object, trail: Trail
) -> DimensionRecord:
    found = reader.mapping(row, trail)
    if dimension not in found:
        raise reader.error(trail, f"{dimension!r} is missing")
    keys = [key for key in found if key in reader.dimensions]
    data_id = reader.data_id({key: found[key] for key in keys}, keys, trail)
    facts = {key: part for key, part in found.items() if key not in reader.dimensions}
    return DimensionRecord(dimension, data_id, reader.plain(facts, trail))


def _read_tasks(reader: GraphReader, value: object) -> None:
    for label, body in reader.mapping(value, ("tasks",)).items():
        trail: Trail = ("tasks", label)
        reader.named(label, trail, "task label")
        found = reader.document.mapping(body, trail, _TASK)
        if (found.get("command") is None) == (found.get("function") is None):
            raise reader.error(trail, "expected either 'command' or 'function'")
        environment = reader.mapping(found.get("environment") or {}, (*trail, "environment"))
        config = reader.mapping(found.get("config") or {}, (*trail, "config"))
        reader.tasks[label] = TaskCall(
            _read_command(reader, found.get("command"), (*trail, "command")),
            _read_function(reader, found.get("function"), (*trail, "function")),
            reader.plain(config, (*trail, "config")),
            {k: reader.text(v, (*trail, "environment", k)) for k, v in environment.items()},
        )
        reader.optional[label] = (
            _read_optional(reader, found, trail, "optional_inputs"),
            _read_optional(reader, found, trail, "optional_outputs"),
        )


def _read_command(reader: GraphReader, value: object, trail: Trail) -> list[str] | None:
    if value is None:
        return None
    words = [reader.text(w, (*trail, i)) for i, w in enumerate(reader.sequence(value, trail))]
    if not words:
        raise reader.error(trail, "expected a program and its arguments, found none")
    return words


def _read_function(reader: GraphReader, value: object, trail: Trail) -> str | None:
    if value is None:
        return None
    text = reader.text(value, trail)
    if not all(name.isidentifier() for name in text.replace(":", ".").split(".")) or (
        text.count(":") != 1
    ):
        raise reader.error(trail, f"expected module:function, found {text!r}")
    return text


def _read_optional(
    reader: GraphReader, found: Mapping[str, Any], trail: Trail, key: str
) -> set[str]:
    rows = reader.sequence(found.get(key) or [], (*trail, key))
    return {reader.dataset_type(name, (*trail, key)).name for name in rows}


def _read_existing(reader: GraphReader, value: object) -> None:
    for index, body in enumerate(reader.sequence(value, ("inputs",))):
        trail: Trail = ("inputs", index)
        found = reader.document.mapping(body, trail, _INPUT)
        kind = reader.dataset_type(found["dataset_type"], (*trail, "dataset_type"))
        data_id = reader.data_id(found["data_id"], kind.dimensions, (*trail, "data_id"))
        run = _read_run(reader, found["run"], (*trail, "run"))
        key = (kind.name, canonical(data_id))
        if key in reader.existing:
            raise reader.error(trail, f"{kind.name} ({format_data_id(data_id)}) is there twice")
        try:
            object_key = names.check_key(reader.text(found["key"], (*trail, "key")), "key")
        except InvalidNameError as error:
            raise reader.error((*trail, "key"), str(error)) from error
        reader.existing[key] = PredictedInput(
            reader.optional_uuid(found.get("dataset_id"), (*trail, "dataset_id"))
            or derived_id("dataset", run, kind.name, data_id),
            kind.name,
            data_id,
            run,
            reader.claim_path(run, kind, data_id, trail),
            key=object_key,
            size_bytes=_read_size(reader, found.get("size_bytes"), (*trail, "size_bytes")),
            checksum=_read_checksum(reader, found.get("checksum"), (*trail, "checksum")),
        )


def _read_size(reader: GraphReader, value: object, trail: Trail) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    raise reader.error(trail, f"expected a number of bytes, found {value!r}")


def _read_checksum(reader: GraphReader, value: object, trail: Trail) -> str | None:
    if value is None or (isinstance(value, str) and _CHECKSUM.match(value)):
        return value
    raise reader.error(trail, f"expected sha256:<64 hex digits>, found {value!r}")


def _read_quanta(reader: GraphReader, value: object) -> list[Quantum]:
    """Read in two passes, because a quantum may stand before the one that makes its inputs."""
    drafts = []
    seen: dict[str, int] = {}
    for index, body in enumerate(reader.sequence(value, ("quanta",))):
        trail: Trail = ("quanta", index)
        found = reader.document.mapping(body, trail, _QUANTUM)
        label = reader.one_of(found["task"], reader.tasks, (*trail, "task"))
        given = reader.mapping(found["data_id"], (*trail, "data_id"))
        known = [d for d in given if d in reader.dimensions]
        data_id = reader.data_id(given, known, (*trail, "data_id"))
        quantum_id = derived_id("quantum", reader.run, label, data_id)
        if quantum_id in seen:
            raise reader.error(
                trail,
                f"{label} ({format_data_id(data_id)}) is also quanta[{seen[quantum_id]}]",
            )
        seen[quantum_id] = index
        outputs = _read_outputs(reader, found.get("outputs") or {}, label, quantum_id, trail)
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
    reader: GraphReader, value: object, label: str, quantum_id: str, trail: Trail
) -> list[PredictedOutput]:
    outputs = []
    for kind, data_id, place in _datasets(reader, value, (*trail, "outputs")):
        key = (kind.name, canonical(data_id))
        name = f"{kind.name} ({format_data_id(data_id)})"
        if key in reader.producers:
            raise reader.error(place, f"{name} is made by two quanta")
        if key in reader.existing:
            raise reader.error(place, f"{name} is also under 'inputs'")
        output = PredictedOutput(
            derived_id("dataset", reader.run, kind.name, data_id),
            kind.name,
            data_id,
            reader.claim_path(reader.run, kind, data_id, place),
            kind.name in reader.optional[label][1],
        )
        reader.producers[key] = (quantum_id, output)
        outputs.append(output)
    return outputs


def _read_inputs(
    reader: GraphReader, value: object, quantum: Quantum, trail: Trail
) -> list[PredictedInput]:
    inputs: list[PredictedInput] = []
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
        if any(found.dataset_id == other.dataset_id for other in inputs):
            raise reader.error(place, f"{kind.name} ({format_data_id(data_id)}) is there twice")
        inputs.append(found)
    return inputs


def _derive_graph_id(run: str, quanta: list[Quantum]) -> str:
    shape = [
        [
            quantum.quantum_id,
            sorted(i.dataset_id for i in quantum.inputs),
            sorted(o.dataset_id for o in quantum.outputs),
        ]
        for quantum in quanta
    ]
    return derived_id("graph", run, sorted(shape))


def _check_no_cycle(reader: GraphReader, graph: Graph) -> None:
    try:
        graph.sorter().prepare()
    except graphlib.CycleError as error:
        around = [graph.by_id[quantum_id] for quantum_id in error.args[1]]
        shown = " → ".join(f"{q.task_label} ({format_data_id(q.data_id)})" for q in around)
        raise reader.error(
            ("quanta",), f"the quanta depend on each other in a circle: {shown}"
        ) from error
