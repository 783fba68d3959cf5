# SPDX-License-Identifier: BSD-3-Clause
"""Dimension records: attempts may agree on one, and must not silently disagree.

Of several contents of one record the one with the greatest JSON text (by bytes) stays, whoever
brought it and whenever. Nothing is ever taken away, so the outcome depends on content only.
"""

import itertools
import json

from psycopg import Cursor

from merger import conflict_statements, statements
from merger.conflict_records import ConflictSide, NeedsCareError, replace_conflicts
from merger.copy_format import CopyRows
from registry.typed_json import canonical

Contended = list[tuple[str, str]]


def insert_dimensions(cursor: Cursor, rows: CopyRows, *, careful: bool) -> int:
    """Ensure the dimension records of a batch and note who brought them.

    Returns
    -------
    int
        Number of conflicts that were not recorded before.

    Raises
    ------
    NeedsCareError
        On the plain way, if a record is there with other content.
    """
    if rows.n_rows == 0:
        return 0
    cursor.execute(statements.STAGE_DIMENSIONS)
    rows.copy_into(cursor, "staged_dimension")
    cursor.execute(statements.INSERT_DIMENSION_SOURCES)
    cursor.execute(statements.INSERT_DIMENSIONS)
    contended = cursor.execute(statements.READ_CONTENDED_DIMENSIONS).fetchall()
    if not contended:
        return 0
    if not careful:
        raise NeedsCareError
    return _settle(cursor, contended)


def _settle(cursor: Cursor, contended: Contended) -> int:
    dimensions, data_ids = zip(*contended, strict=True)
    cursor.execute(
        conflict_statements.READ_DIMENSION_SIDES,
        {"dimensions": list(dimensions), "data_ids": list(data_ids)},
    )
    found = sorted(cursor.fetchall(), key=lambda side: side[:2])
    keys, sides = [], []
    for (dimension, data_id), group in itertools.groupby(found, key=lambda side: side[:2]):
        contents = [(record, attempt_id) for _, _, record, attempt_id in group]
        kept = max((record for record, _ in contents), key=str.encode)
        cursor.execute(
            conflict_statements.UPDATE_DIMENSION,
            {"dimension": dimension, "data_id": data_id, "record": kept},
        )
        key = {"dimension": dimension, "data_id": json.loads(data_id)}
        keys.append(canonical(key))
        if len(contents) > 1:
            sides += [
                ConflictSide(
                    conflict_key=keys[-1],
                    # Spliced, not parsed: a float would lose digits that PostgreSQL keeps.
                    content=f'{{"dimension":{canonical(dimension)},"data_id":{data_id},'
                    f'"record":{record}}}',
                    attempt_id=attempt_id,
                    kept=record == kept,
                )
                for record, attempt_id in contents
            ]
    return replace_conflicts(cursor, "dimension_record", keys, sides)
