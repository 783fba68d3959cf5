# SPDX-License-Identifier: BSD-3-Clause
"""What reading a graph file gathers, and checks of single values that name their place."""

import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from executor.graph.placed_yaml import GraphError, PlacedDocument, Trail
from registry import names
from registry.errors import InvalidNameError
from registry.job import PredictedInput, PredictedOutput, TaskCall
from registry.model import DataId, DatasetType, check_identifier
from registry.typed_json import canonical, load

DatasetKey = tuple[str, str]
"""Dataset type and canonical data ID: what names a dataset within a graph."""

# S3 allows 1024 bytes, and an attempt adds 21; the prefix of a datastore needs some.
_MAX_PATH_BYTES = 900


@dataclass
class GraphReader:
    """What is known of a graph file so far, and the checks of single values in it."""

    document: PlacedDocument
    run: str = ""
    dimensions: dict[str, type] = field(default_factory=dict)
    dataset_types: dict[str, DatasetType] = field(default_factory=dict)
    tasks: dict[str, TaskCall] = field(default_factory=dict)
    optional: dict[str, tuple[set[str], set[str]]] = field(default_factory=dict)
    existing: dict[DatasetKey, PredictedInput] = field(default_factory=dict)
    producers: dict[DatasetKey, tuple[str, PredictedOutput]] = field(default_factory=dict)
    paths: dict[str, DatasetKey] = field(default_factory=dict)

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
        if len(path) > _MAX_PATH_BYTES:
            raise self.error(trail, f"its key would be longer than the 1024 bytes of S3: {path!r}")
        return path
