# SPDX-License-Identifier: BSD-3-Clause
"""Files of a submit configuration as they are written: includes joined, nothing checked yet."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from executor.submit.configuration_error import ConfigurationError

Place = tuple[str, ...]
"""Keys from the top of a file to one of its values."""

_INCLUDES = "includeConfigs"
_MOST_FILES = 100
# Nested aliases make billions of values out of a few lines.
_MOST_VALUES = 100_000


@dataclass(frozen=True)
class Source:
    """A tree of settings, and of each place in it the file that it comes from."""

    path: Path
    tree: dict[str, Any]
    files: dict[Place, Path] = field(default_factory=dict)

    def error(self, place: Place, told: str) -> ConfigurationError:
        """Return the error of what stands at a place."""
        return ConfigurationError(
            f"submit configuration {self.files.get(place, self.path)}: {'.'.join(place)}: {told}"
        )


def read_source(path: Path, environment: Mapping[str, str]) -> Source:
    """Read a file and all that it includes; what includes goes before what is included.

    Raises
    ------
    ConfigurationError
        If a file cannot be read, is no mapping, has a key twice, or includes itself.
    """
    return _read(path, environment, ())


def _read(path: Path, environment: Mapping[str, str], above: tuple[Path, ...]) -> Source:
    if path.resolve() in above or len(above) > _MOST_FILES:
        raise ConfigurationError(f"submit configuration {path}: {_INCLUDES}: includes itself")
    tree = _load(path)
    source = Source(path, {})
    for name in _included(Source(path, tree), environment):
        _join(source, _read(path.parent / name, environment, (*above, path.resolve())))
    own = {key: value for key, value in tree.items() if key != _INCLUDES}
    _join(source, Source(path, own, {place: path for place in places(own)}))
    return source


def _included(source: Source, environment: Mapping[str, str]) -> Iterator[str]:
    names = source.tree.get(_INCLUDES, [])
    for name in [names] if isinstance(names, str) else names or []:
        if not isinstance(name, str):
            raise source.error((_INCLUDES,), f"expected names of files, found {name!r}")
        yield with_variables(name, environment, source, (_INCLUDES,))


def _join(source: Source, other: Source) -> None:
    _join_trees(source.tree, other.tree)
    source.files.update(other.files)


def _join_trees(tree: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        mine = tree.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            _join_trees(mine, value)
        else:
            tree[key] = value


def places(tree: Mapping[str, Any], above: Place = ()) -> Iterator[Place]:
    """All places of a tree, sections included."""
    for key, value in tree.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


def with_variables(text: str, environment: Mapping[str, str], source: Source, place: Place) -> str:
    """Put variables of the environment where ``${NAME}`` stands.

    Raises
    ------
    ConfigurationError
        If a variable is not set.
    """
    parts = text.split("${")
    found = [parts[0]]
    for part in parts[1:]:
        name, closing, rest = part.partition("}")
        if not closing or name not in environment:
            raise source.error(
                place,
                f"expected a variable of the environment, found ${{{name}}}, which is not set",
            )
        found += [environment[name], rest]
    return "".join(found)


class _Loader(yaml.SafeLoader):
    """YAML with text keys that stand once, and numbers as people read them.

    YAML 1.1 would read ``1:30:00`` as a number of base 60, and ``010`` as one of base 8.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key_node.tag not in (_TEXT, _MERGE):
                raise _at(key_node, f"expected a key that is text, found {key!r}")
            if key in seen:
                raise _at(key_node, f"expected each key once, found {key!r} twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z")
_NOT_TAKEN = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"}
_Loader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] not in _NOT_TAKEN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def _at(node: Any, told: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, told, node.start_mark)


def _load(path: Path) -> dict[str, Any]:
    try:
        found = _construct(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        told = " ".join(str(error).split()).replace('in "<unicode string>", ', "")
        raise ConfigurationError(f"submit configuration {path}: {told}") from error
    if not isinstance(found, dict | None):
        kind = type(found).__name__
        raise ConfigurationError(f"submit configuration {path}: expected keys, found a {kind}")
    return found or {}


def _construct(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:  # A file of comments.
            return None
        if _n_values(node, {}) > _MOST_VALUES:
            raise _at(node, f"expected {_MOST_VALUES} values at most, found more by aliases")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node, those of aliases as often as they stand for them."""
    if id(node) not in known:
        if isinstance(node, yaml.ScalarNode):
            return 1
        # For one that holds itself.
        known[id(node)] = _MOST_VALUES + 1
        below = node.value
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in below for part in pair]
        known[id(node)] = 1 + sum(_n_values(part, known) for part in below)
    return known[id(node)]
