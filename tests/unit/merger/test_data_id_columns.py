# SPDX-License-Identifier: BSD-3-Clause
"""Data IDs and ids from columns are those that the rest of the project gives one by one."""

import uuid

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from merger.data_id_columns import ValueKind, canonical_data_ids, derived_ids
from registry.model import derived_id
from registry.typed_json import canonical

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROWS = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), TEXTS), min_size=1, max_size=10)


@given(ROWS, st.from_regex(r"[a-z/]{1,20}", fullmatch=True))
def test_ids_and_texts_are_those_of_a_graph(rows: list[tuple[int, str]], run: str) -> None:
    numbers, texts = map(list, zip(*rows, strict=True))
    values = {"visit": pa.array(numbers, pa.int64()), "band": pa.array(texts, pa.string())}
    kinds = {"visit": ValueKind.INTEGER, "band": ValueKind.TEXT}
    data_ids = canonical_data_ids(values, kinds, len(rows))
    expected = [{"visit": number, "band": text} for number, text in rows]
    assert data_ids.to_pylist() == [canonical(data_id) for data_id in expected]
    found = [str(uuid.UUID(bytes=raw)) for raw in derived_ids(run, "raw", data_ids).to_pylist()]
    assert found == [derived_id("dataset", run, "raw", data_id) for data_id in expected]


def test_dataset_type_without_dimensions() -> None:
    assert canonical_data_ids({}, {}, 2).to_pylist() == ["{}", "{}"]
