# SPDX-License-Identifier: BSD-3-Clause
"""YAML whose every value knows its line, so that an error can name the place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from registry.errors import QuantumExecError

Trail = tuple[str | int, ...]


class GraphError(QuantumExecError, ValueError):
    """A graph file is wrong; the message names file, line, place, what was expected and found."""

    error_type = "graph"


@dataclass
class PlacedDocument:
    """A YAML document as plain values, with the line of each."""

    name: str
    value: Any
    lines: dict[Trail, int] = field(default_factory=dict)

    def error(self, trail: Trail, message: str) -> GraphError:
        """Make the error for the value at a trail of keys and indexes."""
        known = trail
        while known and known not in self.lines:
            known = known[:-1]
        return GraphError(f"{self.name}:{self.lines.get(known, 1)}: {show_trail(trail)}{message}")

    def mapping(self, value: object, trail: Trail, keys: Mapping[str, bool]) -> dict[str, Any]:
        """Return a mapping whose keys are known and whose required ones (True) are there.

        Raises
        ------
        GraphError
        """
        if not isinstance(value, dict):
            raise self.error(trail, f"expected a mapping, found {value!r}")
        for key in value:
            if key not in keys:
                raise self.error((*trail, key), f"expected one of {sorted(keys)}, found {key!r}")
        for key, is_required in keys.items():
            if is_required and key not in value:
                raise self.error(trail, f"{key!r} is missing")
        return value


def show_trail(trail: Trail) -> str:
    """A trail as people write it: ``quanta[3].inputs.raw: ``."""
    text = ""
    for step in trail:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return f"{text}: " if text else ""


def read_placed_yaml(path: Path) -> PlacedDocument:
    """Read a YAML file safely: plain values only, no key twice.

    Raises
    ------
    GraphError
        If it cannot be read, or is no YAML.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise GraphError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise GraphError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from error
    document = PlacedDocument(str(path), None)
    if node is not None:
        constructor = yaml.SafeLoader("")
        document.value = _build(node, (), document, constructor)
    return document


def _build(
    node: yaml.Node, trail: Trail, document: PlacedDocument, constructor: yaml.SafeLoader
) -> Any:
    document.lines[trail] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        built: dict[object, Any] = {}
        for key_node, value_node in node.value:
            key = constructor.construct_object(key_node, deep=True)
            step = (*trail, str(key))
            if key in built:
                document.lines[step] = key_node.start_mark.line + 1
                raise document.error(step, "is there twice")
            built[key] = _build(value_node, step, document, constructor)
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(n, (*trail, i), document, constructor) for i, n in enumerate(node.value)]
    return constructor.construct_object(node)
