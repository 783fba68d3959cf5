# SPDX-License-Identifier: BSD-3-Clause
"""YAML whose every value knows its line, so that an error can name the place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from registry.errors import QuantumExecError
from registry.model import printable

Trail = tuple[str | int, ...]

# A value takes two characters or more; nested aliases could make billions out of a few lines.
_PLACES_PER_CHARACTER = 10
_FEW_PLACES = 10_000


class GraphError(QuantumExecError, ValueError):
    """A graph file is wrong; the message names file, line, place, what was expected and found."""

    error_type = "graph"


@dataclass
class PlacedDocument:
    """A document as plain values, with the line of each if it is one that people write."""

    name: str
    value: Any
    lines: dict[Trail, int] = field(default_factory=dict)
    max_places: int = 0

    def error(self, trail: Trail, message: str) -> GraphError:
        """Make the error for the value at a trail of keys and indexes."""
        told = printable(f"{show_trail(trail)}{message}")
        if not self.lines:
            return GraphError(f"{self.name}: {told}")
        known = trail
        while known and known not in self.lines:
            known = known[:-1]
        return GraphError(f"{self.name}:{self.lines.get(known, 1)}: {told}")

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
        if isinstance(step, int):
            text += f"[{step}]"
        elif step:
            text += f".{step}" if text else step
    return f"{text}: " if text else ""


def read_placed_yaml(path: Path) -> PlacedDocument:
    """Read a YAML file safely: plain values only, no key twice.

    Raises
    ------
    GraphError
        If it cannot be read, or is no YAML.
    """
    document = PlacedDocument(str(path), None)
    try:
        text = path.read_text(encoding="utf-8")
        document.max_places = _FEW_PLACES + _PLACES_PER_CHARACTER * len(text)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        if node is not None:
            document.value = _build(node, (), document, yaml.SafeLoader(""))
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise GraphError(
            f"{path}: expected a graph file, YAML or columnar, found neither: {error}"
        ) from error
    except yaml.YAMLError as error:
        raise GraphError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise GraphError(
            f"{path}: expected a document of finite depth, found one that holds itself, or is "
            "nested too deep"
        ) from error
    return document


def _build(
    node: yaml.Node, trail: Trail, document: PlacedDocument, constructor: yaml.SafeLoader
) -> Any:
    document.lines[trail] = node.start_mark.line + 1
    if len(document.lines) > document.max_places:
        raise document.error(trail, "expected few aliases, found that they multiply the document")
    if isinstance(node, yaml.MappingNode):
        built: dict[object, Any] = {}
        for key_node, value_node in node.value:
            key = _key_of(key_node, trail, document, constructor)
            step = (*trail, str(key))
            if key in built:
                document.lines[step] = key_node.start_mark.line + 1
                raise document.error(step, "is there twice")
            built[key] = _build(value_node, step, document, constructor)
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(n, (*trail, i), document, constructor) for i, n in enumerate(node.value)]
    return _scalar(node, trail, document, constructor)


def _key_of(
    node: yaml.Node, trail: Trail, document: PlacedDocument, constructor: yaml.SafeLoader
) -> Any:
    document.lines[*trail, ""] = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:merge":
        raise document.error((*trail, ""), "expected plain text as a key; << is not read")
    return _scalar(node, (*trail, ""), document, constructor)


def _scalar(
    node: yaml.Node, trail: Trail, document: PlacedDocument, constructor: yaml.SafeLoader
) -> Any:
    try:
        return constructor.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or error
        raise document.error(trail, f"expected a plain value, {problem}") from error
