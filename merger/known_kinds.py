# SPDX-License-Identifier: BSD-3-Clause
"""What the values of dimensions are in the central registry: integers or text?

Asked of the kind of data IDs that is ingested, then of the records of the dimension itself, then of
all other records and dataset types that have it. Where these do not agree nobody knows.
"""

from collections.abc import Iterable, Mapping

from psycopg import Cursor

from merger import outside_statements as statements
from merger.data_id_columns import ValueKind

_KINDS = {"string": ValueKind.TEXT, "number": ValueKind.INTEGER}


def kinds_of_datasets(
    cursor: Cursor, dataset_type: str, dimensions: Iterable[str]
) -> dict[str, ValueKind]:
    """Return what is known of the dimensions of a dataset type."""
    cursor.execute(statements.READ_SOME_DATA_ID, (dataset_type,))
    return _with_others(cursor, dimensions, _kinds(cursor))


def kinds_of_records(
    cursor: Cursor, dimension: str, key: Iterable[str]
) -> tuple[dict[str, ValueKind], set[str]]:
    """Return what is known of the key of dimension records, and which facts are text."""
    cursor.execute(statements.READ_SOME_RECORD, (dimension,))
    found = cursor.fetchone()
    data_id, facts = found or ({}, {})
    kinds = {name: _kind(value) for name, value in data_id.items()}
    texts = {name for name, value in facts.items() if isinstance(value, str)}
    return _with_others(cursor, key, kinds), texts


def _kinds(cursor: Cursor) -> dict[str, ValueKind]:
    return {name: _kind(value) for (data_id,) in cursor for name, value in data_id.items()}


def _kind(value: object) -> ValueKind:
    return ValueKind.TEXT if isinstance(value, str) else ValueKind.INTEGER


def _with_others(
    cursor: Cursor, dimensions: Iterable[str], known: Mapping[str, ValueKind]
) -> dict[str, ValueKind]:
    kinds = dict(known)
    for name in dimensions:
        for statement in (statements.READ_OWN_KIND, statements.READ_OTHER_KINDS):
            if name not in kinds:
                found = cursor.execute(statement, {"dimension": name}).fetchall()
                if len(found) == 1 and found[0][0] in _KINDS:
                    kinds[name] = _KINDS[found[0][0]]
    return kinds
