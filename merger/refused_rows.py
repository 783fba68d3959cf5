# SPDX-License-Identifier: BSD-3-Clause
"""Which deltas of a refused batch are to blame: their rows are tried in temporary tables.

PostgreSQL names the row of a COPY at which it stopped, and that is where the rows are divided, else
in the middle. So many bad deltas in a batch cost little more than one, and are found before any
of the others has been inserted.
"""

import re
import uuid
from collections.abc import Iterator, Sequence

import psycopg
import pyarrow as pa
from psycopg import Cursor

from merger import refusal_statements as statements
from merger.collation import collate
from merger.copy_format import CopyRows
from merger.database_errors import describe
from merger.delta_checks import GoodDelta
from merger.prepared_batch import MISFITS, encode_deltas

REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)
"""What says that rows can never be inserted."""

_ROW = re.compile(r"COPY \w+\D+(\d+)")
"""Number of a row in the context of an error, in whatever language."""


def refusal(error: psycopg.Error) -> str:
    """Return the message for a delta of which PostgreSQL refuses a row."""
    return f"PostgreSQL refuses its rows: {describe(error)} ({error.sqlstate})"


def find_refused(cursor: Cursor, ordered: Sequence[GoodDelta]) -> dict[str, str]:
    """Find the attempts of which a row can never be inserted, whatever else is there.

    Parameters
    ----------
    ordered
        Deltas in the order of their attempt ids.

    Returns
    -------
    dict
        Attempts, each with the message. There may be more when these are left out.
    """
    try:
        tables = collate(ordered)
    except MISFITS:
        return _find_misfits(ordered)
    cursor.execute(statements.STAGE_TRIAL)
    indexes = cursor.execute(statements.READ_INDEXES, (list(tables),)).fetchall()
    for (create_index,) in indexes:
        cursor.execute(create_index.encode())
    refused: dict[str, str] = {}
    for name, table in tables.items():
        # A dataset has one datastore record, and both tables are sorted alike.
        owners = tables["dataset" if name == "datastore_record" else name]["attempt_id"]
        for row, message in _refused_rows(cursor, f"tried_{name}", table):
            refused.setdefault(str(uuid.UUID(bytes=owners[row].as_py())), message)
    return refused


def _find_misfits(ordered: Sequence[GoodDelta]) -> dict[str, str]:
    """Find the deltas with a value that fits no column."""
    try:
        encode_deltas(ordered)
    except MISFITS as error:
        if len(ordered) == 1:
            return {ordered[0].delta.attempt_id: str(error)}
        middle = len(ordered) // 2
        return _find_misfits(ordered[:middle]) | _find_misfits(ordered[middle:])
    return {}


def _message(error: Exception) -> str:
    return refusal(error) if isinstance(error, psycopg.Error) else str(error)


def _row_of(error: Exception) -> int:
    """Return the place of the row at which a COPY stopped; -1 if it is not told."""
    context = error.diag.context if isinstance(error, psycopg.Error) else None
    told = _ROW.search(context or "")
    return int(told[1]) - 1 if told else -1


def _refused_rows(cursor: Cursor, into: str, table: pa.Table) -> Iterator[tuple[int, str]]:
    left = [(0, table.num_rows)] if table.num_rows else []
    while left:
        start, stop = left.pop()
        try:
            with cursor.connection.transaction():
                rows = table.take(pa.array(range(start, stop)))
                CopyRows.encode(rows).copy_into(cursor, into)
        except (*REFUSALS, *MISFITS) as error:
            if stop - start == 1:
                yield start, _message(error)
                continue
            place = start + _row_of(error)
            if not start <= place < stop:
                # Not told.
                place = (start + stop) // 2
            parts = ((start, place), (place, place + 1), (place + 1, stop))
            left += [part for part in parts if part[0] < part[1]]
