# SPDX-License-Identifier: BSD-3-Clause
"""What all quanta of a graph share, checked: both forms of graph file say it in the same words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from executor.graph.graph_reader import MAX_INTEGER, GraphReader
from executor.graph.placed_yaml import Trail
from executor.graph.quantum_graph import OptionalTypes
from registry import names
from registry.errors import InvalidNameError
from registry.job import ResourceRequest, TaskCall
from registry.model import EXTENSIONS, DatasetType, DimensionRecord, format_data_id
from registry.typed_json import canonical

HEADER_KEYS = {
    "name": True,
    "run": True,
    "graph_id": False,
    "dimensions": True,
    "dataset_types": True,
    "tasks": True,
}
_TASK = {
    "command": False,
    "function": False,
    "config": False,
    "environment": False,
    "resources": False,
    "optional_inputs": False,
    "optional_outputs": False,
}
_RESOURCES = {"cpus": False, "memory_mib": False, "scratch_mib": False, "wall_s": False}
_KINDS: dict[str, type] = {"int": int, "str": str}
_MAX_EXTENSION = 32


@dataclass(frozen=True)
class GraphHeader:
    """What all quanta of a graph share.

    ``graph_id`` is None unless it was given: it is derived then. ``dimensions`` gives ``int`` or
    ``str`` for each.
    """

    name: str
    run: str
    graph_id: str | None
    dimensions: dict[str, str]
    dataset_types: dict[str, DatasetType]
    tasks: dict[str, TaskCall]
    optional_types: dict[str, OptionalTypes]


def read_header(reader: GraphReader, top: Mapping[str, Any], run: str | None = None) -> GraphHeader:
    """Check what quanta share, and let the reader know it.

    Parameters
    ----------
    run
        The RUN to write into, instead of the one that the file names.

    Raises
    ------
    GraphError
    """
    own_run = read_run(reader, top["run"], ("run",))
    reader.run = own_run if run is None else read_run(reader, run, ("run",))
    _read_dimensions(reader, top["dimensions"])
    _read_dataset_types(reader, top["dataset_types"])
    _read_tasks(reader, top["tasks"])
    kinds = {kind: name for name, kind in _KINDS.items()}
    return GraphHeader(
        reader.text(top["name"], ("name",)),
        reader.run,
        reader.optional_uuid(top.get("graph_id"), ("graph_id",)),
        {name: kinds[kind] for name, kind in reader.dimensions.items()},
        reader.dataset_types,
        reader.tasks,
        reader.optional,
    )


def read_run(reader: GraphReader, value: object, trail: Trail) -> str:
    """A RUN that keys can be built from; raises `GraphError`."""
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


def read_dimension_records(reader: GraphReader, value: object) -> list[DimensionRecord]:
    """Dimension → list of mappings; raises `GraphError`."""
    records: dict[tuple[str, str], DimensionRecord] = {}
    for dimension, rows in reader.mapping(value, ("dimension_records",)).items():
        trail: Trail = ("dimension_records", dimension)
        reader.one_of(dimension, reader.dimensions, trail)
        for index, row in enumerate(reader.sequence(rows, trail)):
            record = read_dimension_record(reader, dimension, row, (*trail, index))
            key = (dimension, canonical(record.data_id))
            if key in records:
                told = format_data_id(record.data_id)
                raise reader.error((*trail, index), f"{told} is there twice")
            records[key] = record
    return list(records.values())


def read_dimension_record(
    reader: GraphReader, dimension: str, row: object, trail: Trail
) -> DimensionRecord:
    """A record whose keys that are dimensions make its data ID; raises `GraphError`."""
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
            _read_resources(reader, found.get("resources"), (*trail, "resources")),
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


def _read_resources(reader: GraphReader, value: object, trail: Trail) -> ResourceRequest:
    found = reader.document.mapping({} if value is None else value, trail, _RESOURCES)
    for name, amount in found.items():
        kinds = (int, float) if name == "wall_s" else (int,)
        if type(amount) not in kinds or not 0 < amount <= MAX_INTEGER:
            what = "a number" if name == "wall_s" else "a whole number"
            raise reader.error((*trail, name), f"expected {what} above zero, found {amount!r}")
    if "wall_s" in found:
        found = {**found, "wall_s": float(found["wall_s"])}
    return ResourceRequest(**found)


def header_document(header: GraphHeader) -> dict[str, Any]:
    """A header as plain values, in the form that `read_header` takes."""
    return {
        "name": header.name,
        "run": header.run,
        **({} if header.graph_id is None else {"graph_id": header.graph_id}),
        "dimensions": dict(header.dimensions),
        "dataset_types": {
            kind.name: {
                "dimensions": list(kind.dimensions),
                "storage_class": kind.storage_class,
                "extension": kind.extension,
            }
            for kind in header.dataset_types.values()
        },
        "tasks": {
            label: _task_document(call, header.optional_types[label])
            for label, call in header.tasks.items()
        },
    }


def _task_document(call: TaskCall, optional: OptionalTypes) -> dict[str, Any]:
    resources = {name: getattr(call.resources, name) for name in _RESOURCES}
    document: dict[str, Any] = {
        "command": call.command,
        "function": call.function,
        "config": call.config,
        "environment": call.environment,
        "resources": {name: value for name, value in resources.items() if value is not None},
        "optional_inputs": sorted(optional[0]),
        "optional_outputs": sorted(optional[1]),
    }
    return {name: value for name, value in document.items() if value}
