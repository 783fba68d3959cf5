# SPDX-License-Identifier: BSD-3-Clause
"""Dataset types, data IDs and dataset refs, named as in LSST's Butler."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from registry.errors import InvalidNameError
from registry.typed_json import canonical

DataIdValue = str | int
DataId = dict[str, DataIdValue]

# Every id that is derived and not given comes from this name space, so that the same graph read
# twice, or on two machines, has the same ids.
ID_NAMESPACE = bytes.fromhex("7f0a2c0e63f55b2c9f432d8b1a3a9d51")

MAX_NAME_LENGTH = 120
"""Characters of a dataset type or a part of a RUN: both are names of directories (255 bytes)."""

_IDENTIFIER = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{MAX_NAME_LENGTH - 1}}}\Z")

EXTENSIONS = {
    "Json": ".json",
    "Yaml": ".yaml",
    "Parquet": ".parquet",
    "NumpyArray": ".npy",
    "Fits": ".fits",
    "File": "",
}
"""File extension of each storage class that we read and write; a dataset type may name another."""


@dataclass(frozen=True, slots=True)
class DatasetType:
    """A named kind of dataset.

    ``extension`` begins with a dot or is empty; ``dimensions`` are the keys of its data IDs.
    """

    name: str
    dimensions: list[str]
    storage_class: str
    extension: str


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """The identity of a dataset: type, data ID, RUN, and a UUID fixed before anything runs."""

    dataset_id: str
    dataset_type: str
    data_id: DataId
    run: str


@dataclass(frozen=True, slots=True)
class DimensionRecord:
    """Facts about one value of a dimension, such as the airmass of an exposure."""

    dimension: str
    data_id: DataId
    record: dict[str, object]


def check_identifier(name: str, what: str) -> str:
    """Return a dataset type, dimension or task name that is a plain identifier.

    Raises
    ------
    InvalidNameError
        If it is not: names become parts of keys, columns of tables and words in messages.
    """
    if not _IDENTIFIER.match(name):
        raise InvalidNameError(
            f"{what}: expected letters, digits and underscores, not first a digit, at most "
            f"{MAX_NAME_LENGTH}; found {name!r}"
        )
    return name


def derived_id(*parts: object) -> str:
    """Return the UUID (version 5) that stands for these parts, always the same."""
    # Ids are derived where graphs are made; a worker is given them.
    import uuid

    return str(uuid.uuid5(uuid.UUID(bytes=ID_NAMESPACE), canonical(list(parts))))


def format_data_id(data_id: Mapping[str, object]) -> str:
    """Return a data ID as people write it: ``exposure=3, detector=1``."""
    return ", ".join(f"{key}={printable(str(value))}" for key, value in data_id.items())


def printable(text: str) -> str:
    """Return a text with its control characters escaped: one line, which steers no terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
