# SPDX-License-Identifier: BSD-3-Clause
"""Collation: columns as the tables have them, UUIDs, and which attempt counts in a batch."""

import uuid

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from merger.collation import SCHEMAS, collate
from merger.delta_checks import GoodDelta
from merger.uuid_arrays import uuid_array
from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.tables import metadata
from tests import factories

GRAPH = factories.make_graph()
WIRE = {
    "UUID": "fixed_size_binary[16]",
    "TEXT": "string",
    "JSONB": "binary",
    "BOOLEAN": "bool",
    "INTEGER": "int32",
    "BIGINT": "int64",
    "DOUBLE PRECISION": "double",
    "TIMESTAMP WITH TIME ZONE": "timestamp[us, tz=UTC]",
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_columns_are_those_of_the_table(name: str) -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    expected = [(c.name, WIRE[c.type.compile(dialect)]) for c in metadata.tables[name].columns]
    assert [(field.name, str(field.type)) for field in SCHEMAS[name]] == expected


@given(st.lists(st.none() | st.uuids()))
def test_uuids(ids: list[uuid.UUID | None]) -> None:
    array = uuid_array([None if found is None else str(found) for found in ids])
    array.validate(full=True)
    assert array.to_pylist() == [None if found is None else found.bytes for found in ids]


GOOD = "0190a1b2-0000-7000-8000-00000000abcd"


@pytest.mark.parametrize(
    "texts",
    [
        [""],
        ["nonsense"],
        [GOOD.upper()],
        [GOOD.replace("-", "")],
        [GOOD[:-1]],
        [GOOD + "0"],
        # Together as long as two, and hyphens at the right distance.
        [GOOD[:-1], "0" + GOOD],
        [GOOD[:-1] + "g"],
        [GOOD[:-1] + " "],
        [" " + GOOD[1:]],
        [GOOD[:-1] + "-"],
        [GOOD[:-1] + "\u0661"],
        [GOOD, None, "x"],
        ["{" + GOOD[1:-1] + "}"],
    ],
)
def test_what_is_no_uuid_is_refused(texts: list[str | None]) -> None:
    with pytest.raises(ValueError, match="expected UUIDs"):
        uuid_array(texts)


def good(*deltas: Delta) -> list[GoodDelta]:
    return [GoodDelta("key", "sha256:0", delta) for delta in deltas]


def test_datasets_are_those_of_the_newest_success() -> None:
    tables = collate(
        good(
            factories.make_delta(GRAPH, 0, 1),
            factories.make_delta(GRAPH, 0, 2),
            factories.make_delta(GRAPH, 0, 3, status=AttemptStatus.FAILED),
        )
    )
    attempts = set(tables["dataset"]["attempt_id"].to_pylist())
    assert attempts == {uuid.UUID(factories.attempt(2)).bytes}
    assert tables["attempt"]["superseded"].to_pylist() == [True, False, False]
    assert tables["quantum"]["status"].to_pylist() == ["successful"]
    assert tables["quantum_input"].num_rows == 3
    assert tables["merged_attempt"].num_rows == 3


def test_outranked_success_brings_no_datasets() -> None:
    tables = collate(good(factories.make_delta(GRAPH, 0, 1)), {factories.attempt(1)})
    assert tables["dataset"].num_rows == tables["datastore_record"].num_rows == 0
    assert tables["attempt"]["superseded"].to_pylist() == [True]


def test_every_table_keeps_its_schema_when_empty() -> None:
    assert {name: table.schema for name, table in collate([]).items()} == SCHEMAS
    assert all(isinstance(table, pa.Table) for table in collate([]).values())
