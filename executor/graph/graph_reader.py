# SPDX-License-Identifier: BSD-3-Clause
"""What reading a graph file gathers, and checks of single values that name their place."""

import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from executor.graph.placed_yaml import GraphError, PlacedDocument, Trail
from executor.graph.quantum_graph import OptionalTypes
from registry import names
from registry.errors import InvalidNameError
from registry.job import PredictedInput, PredictedOutput, TaskCall
from registry.model import DataId, DatasetType, check_identifier, derived_id
from registry.typed_json import canonical, load

DatasetKey = tuple[str, str]
"""Dataset type and canonical data ID: what names a dataset within a graph."""

# S3 allows 1024 bytes, and an attempt adds 21; the prefix of a datastore needs some.
MAX_PATH_BYTES = 900
_MAX_KEY_BYTES = 1024
MAX_INTEGER = 2**63 - 1
"""Of a data ID value or a size: columns, SQLite and PostgreSQL have 64 bits."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass
class GraphReader:
    """What is known of a graph file so far, and the checks of single values in it."""

    document: PlacedDocument
    run: str = ""
    dimensions: dict[str, type] = field(default_factory=dict)
    dataset_types: dict[str, DatasetType] = field(default_factory=dict)
    tasks: dict[str, TaskCall] = field(default_factory=dict)
    optional: dict[str, OptionalTypes] = field(default_factory=dict)
    existing: dict[DatasetKey, PredictedInput] = field(default_factory=dict)
    producers: dict[DatasetKey, tuple[str, PredictedOutput]] = field(default_factory=dict)
    paths: dict[str, DatasetKey] = field(default_factory=dict)
    ids: dict[str, DatasetKey] = field(default_factory=dict)

    def error(self, trail: Trail, message: str) -> GraphError:
        """The error for the value at a trail, to be raised."""
        return self.document.error(trail, message)

    def text(self, value: object, trail: Trail) -> str:
        """A text that is not empty."""
        if not isinstance(value, str) or not value:
            raise self.error(trail, f"expected text, found {value!r}")
        return value

    def named(self, value: object, trail: Trail, what: str) -> str:
        """A plain identifier."""
        try:
            return check_identifier(self.text(value, trail), what)
        except InvalidNameError as error:
            raise self.error(trail, str(error)) from error

    def one_of(self, value: object, known: Iterable[str], trail: Trail) -> str:
        """One of some names."""
        names = sorted(known)
        if not isinstance(value, str) or value not in names:
            raise self.error(trail, f"expected one of {names}, found {value!r}")
        return value

    def optional_uuid(self, value: object, trail: Trail) -> str | None:
        """A UUID in its usual form, if there is one."""
        if value is None:
            return None
        with suppress(ValueError):
            if isinstance(value, str) and str(uuid.UUID(value)) == value:
                return value
        raise self.error(trail, f"expected a UUID, found {value!r}")

    def plain(self, value: dict[str, Any], trail: Trail) -> dict[str, Any]:
        """Values that JSON has, so that a worker reads what the file says."""
        try:
            is_same = load(canonical(value), "value") == value
        except (TypeError, ValueError) as error:
            raise self.error(trail, f"expected plain values, {error}") from error
        if not is_same:
            raise self.error(trail, "expected text as keys, found numbers or others")
        return value

    def mapping(self, value: object, trail: Trail) -> dict[str, Any]:
        """A mapping with text as keys."""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.error(trail, f"expected a mapping with text as keys, found {value!r}")
        return value

    def sequence(self, value: object, trail: Trail) -> list[Any]:
        """A list."""
        if not isinstance(value, list):
            raise self.error(trail, f"expected a list, found {value!r}")
        return value

    def data_id(self, value: object, dimensions: list[str], trail: Trail) -> DataId:
        """A data ID with exactly these dimensions, in their order, each value of its kind."""
        found = self.mapping(value, trail)
        if set(found) != set(dimensions):
            raise self.error(
                trail, f"expected a data ID with dimensions {dimensions}, found {sorted(found)}"
            )
        for dimension, part in found.items():
            kind = self.dimensions[dimension]
            if type(part) is not kind:
                raise self.error((*trail, dimension), f"expected {kind.__name__}, found {part!r}")
            problem = value_problem(part)
            if problem:
                raise self.error((*trail, dimension), f"expected {problem}, found {part!r}")
        return {dimension: found[dimension] for dimension in dimensions}

    def dataset_type(self, name: object, trail: Trail) -> DatasetType:
        """The dataset type of this name."""
        if not isinstance(name, str) or name not in self.dataset_types:
            raise self.error(
                trail,
                f"expected one of the dataset types {sorted(self.dataset_types)}, found {name!r}",
            )
        return self.dataset_types[name]

    def claim_path(self, run: str, kind: DatasetType, data_id: DataId, trail: Trail) -> str:
        """The path of a dataset in a repo, which no other dataset of the graph may have."""
        path = names.dataset_path(run, kind.name, data_id, kind.extension)
        key = (kind.name, canonical(data_id))
        if self.paths.setdefault(path, key) != key:
            raise self.error(trail, f"two datasets would have the path {path!r}")
        if len(path) > MAX_PATH_BYTES:
            raise self.error(trail, f"its key would be longer than the 1024 bytes of S3: {path!r}")
        return path

    def claim_id(
        self, given: str | None, run: str, kind: DatasetType, data_id: DataId, trail: Trail
    ) -> str:
        """The id of a dataset, given or derived, which no other dataset of the graph may have."""
        dataset_id = given or derived_id("dataset", run, kind.name, data_id)
        key = (kind.name, canonical(data_id))
        if self.ids.setdefault(dataset_id, key) != key:
            raise self.error(trail, f"two datasets would have the id {dataset_id}")
        return dataset_id

    def object_key(self, value: object, trail: Trail) -> str:
        """A key relative to the datastore."""
        text = self.text(value, trail)
        problem = key_problem(text)
        if problem:
            raise self.error(trail, f"key: expected {problem}; found {text!r}")
        return text

    def size(self, value: object, trail: Trail) -> int | None:
        """A number of bytes, if it is known."""
        if value is None or (type(value) is int and 0 <= value <= MAX_INTEGER):
            return value
        raise self.error(trail, f"expected a number of bytes, found {value!r}")

    def checksum(self, value: object, trail: Trail) -> str | None:
        """A checksum as deltas have it, if it is known."""
        if value is None or (isinstance(value, str) and _CHECKSUM.match(value)):
            return value
        raise self.error(trail, f"expected sha256:<64 hex digits>, found {value!r}")


def value_problem(value: object) -> str:
    """What a data ID value should be and is not; empty if it is right."""
    if isinstance(value, int):
        return "" if -MAX_INTEGER <= value <= MAX_INTEGER else "an integer of 64 bits"
    # A lone surrogate, which YAML can write, comes back as '?'.
    is_right = "\0" not in str(value) and str(value).encode(errors="replace").decode() == value
    return "" if is_right else "text that UTF-8 has, without NUL"


def key_problem(key: str) -> str:
    """What the key of an input should be and is not; empty if it is right."""
    if _SCHEME.match(key):
        return "a key relative to the datastore, not a URI"
    try:
        names.check_key(key, "key")
        is_long = len(key.encode()) > _MAX_KEY_BYTES
    except InvalidNameError:
        return "a key relative to the datastore, without empty, '.' or '..' parts"
    except UnicodeEncodeError:
        return "a key that UTF-8 has"
    return f"a key of at most {_MAX_KEY_BYTES} bytes, as S3 has it" if is_long else ""
