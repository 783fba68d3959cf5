# SPDX-License-Identifier: BSD-3-Clause
"""Dataset types of the central registry: one definition each, whoever brings it."""

from psycopg import Cursor

from merger import statements
from registry.errors import QuantumExecError
from registry.model import DatasetType
from registry.typed_json import canonical


class DatasetTypeConflictError(QuantumExecError):
    """A dataset type is defined in another way than the central registry has it."""

    error_type = "dataset_type_conflict"


def ensure_dataset_type(cursor: Cursor, dataset_type: DatasetType, source: str) -> int:
    """Insert a dataset type, or see that it is there with this definition; returns how many.

    Parameters
    ----------
    source
        Who defines it so, for the message: "graph '…'".

    Raises
    ------
    DatasetTypeConflictError
    """
    name = dataset_type.name
    dimensions, storage_class = dataset_type.dimensions, dataset_type.storage_class
    row = (name, canonical(dimensions), storage_class)
    n_inserted = cursor.execute(statements.ENSURE_DATASET_TYPE, row).rowcount
    found = read_dataset_type(cursor, name)
    if found is None or (found.dimensions, found.storage_class) != (dimensions, storage_class):
        raise DatasetTypeConflictError(
            f"dataset type {name!r}: the central registry has dimensions and storage class "
            f"{found and (found.dimensions, found.storage_class)}, {source} has "
            f"{(dimensions, storage_class)}; rename one of them, or use another registry"
        )
    return n_inserted


def read_dataset_type(cursor: Cursor, name: str) -> DatasetType | None:
    """Return a dataset type as the central registry has it; its extension is not known there."""
    row = cursor.execute(statements.READ_DATASET_TYPE, (name,)).fetchone()
    return None if row is None else DatasetType(name, row[0], row[1], "")
