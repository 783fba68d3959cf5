# SPDX-License-Identifier: BSD-3-Clause
"""What Arrow holds is what PostgreSQL reads, for every type and for nulls."""

import datetime
import uuid
from typing import Any

import psycopg
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merger.collation import BIGINT, BOOLEAN, DOUBLE, INTEGER, JSON, TEXT, TIME
from merger.copy_format import CopyRows
from merger.uuid_arrays import UUID, uuid_array
from registry.typed_json import canonical

KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "uuid": (UUID, st.uuids().map(str)),
    "text": (TEXT, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    "boolean": (BOOLEAN, st.booleans()),
    "integer": (INTEGER, st.integers(-(2**31), 2**31 - 1)),
    "bigint": (BIGINT, st.integers(-(2**63), 2**63 - 1)),
    "double precision": (DOUBLE, st.floats(allow_nan=False)),
    "timestamptz": (
        TIME,
        st.datetimes(
            datetime.datetime(1900, 1, 1),
            datetime.datetime(2200, 1, 1),
            timezones=st.just(datetime.UTC),
        ),
    ),
}
documents = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.integers() | st.booleans() | st.none(),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Types of columns, and rows; any column may be null, some are null in every row."""
    kinds = draw(st.lists(st.sampled_from([*KINDS, "jsonb"]), min_size=1, max_size=6))
    columns = [
        draw(st.sampled_from([st.none(), filled, st.none() | filled]))
        for filled in (documents if kind == "jsonb" else KINDS[kind][1] for kind in kinds)
    ]
    return kinds, draw(st.lists(st.tuples(*columns), max_size=20))


def to_arrow(kinds: list[str], rows: list[tuple[Any, ...]]) -> pa.Table:
    arrays = []
    for place, kind in enumerate(kinds):
        values = [row[place] for row in rows]
        if kind == "uuid":
            arrays.append(uuid_array(values))
        elif kind == "jsonb":
            texts = [None if value is None else canonical(value).encode() for value in values]
            arrays.append(pa.array(texts, JSON))
        else:
            arrays.append(pa.array(values, KINDS[kind][0]))
    return pa.Table.from_arrays(arrays, names=[f"c{place}" for place in range(len(kinds))])


@given(tables())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(database: str, table: tuple[list[str], list[tuple[Any, ...]]]) -> None:
    kinds, rows = table
    columns = ", ".join(f"c{place} {kind}" for place, kind in enumerate(kinds))
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute(f"CREATE TEMPORARY TABLE t ({columns}) ON COMMIT DROP".encode())
        CopyRows.encode(to_arrow(kinds, rows)).copy_into(cursor, "t")
        found = cursor.execute("SELECT * FROM t").fetchall()
    expected = [
        tuple(uuid.UUID(v) if k == "uuid" and v else v for k, v in zip(kinds, row, strict=True))
        for row in rows
    ]
    assert found == expected
