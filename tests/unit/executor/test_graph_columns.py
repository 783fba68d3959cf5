# SPDX-License-Identifier: BSD-3-Clause
"""Columns of a graph give what the same question gives for one row at a time."""

import graphlib
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.graph.column_codes import (
    combine_codes,
    first_duplicate,
    name_codes,
    ranges,
    value_codes,
)
from executor.graph.derived_columns import dataset_paths, derived_ids, id_texts
from executor.graph.levels import Edges
from executor.graph.selection import Selection, SelectionError, matches, parse_data_id
from registry import names
from registry.model import DatasetType, derived_id

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["", ".", "..", "~", "a/b", "é" * 50, "x" * 300]
)
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2)
ROWS = st.lists(st.fixed_dictionaries({"z": TEXTS, "b": INTEGERS}), max_size=20)
EDGES = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=15)
    )
)


def columns_of(rows: list[dict[str, Any]]) -> dict[str, pa.ChunkedArray]:
    """Rows as columns of two chunks."""
    kinds = {"z": pa.string(), "b": pa.int64()}
    middle = len(rows) // 2
    return {
        name: pa.chunked_array(
            [pa.array([r[name] for r in part], kind) for part in (rows[:middle], rows[middle:])]
        )
        for name, kind in kinds.items()
    }


@given(ROWS)
def test_ids_of_columns(rows: list[dict[str, Any]]) -> None:
    ids = derived_ids("dataset", "u/me", "raw", columns_of(rows), len(rows))
    assert id_texts(ids) == [derived_id("dataset", "u/me", "raw", row) for row in rows]


@given(ROWS)
def test_paths_of_columns(rows: list[dict[str, Any]]) -> None:
    kind = DatasetType("raw", ["z", "b"], "File", ".txt")
    expected = [
        names.dataset_path("u/me", "raw", {"z": row["z"], "b": row["b"]}, ".txt") for row in rows
    ]
    assert dataset_paths("u/me", kind, columns_of(rows), len(rows)).to_pylist() == expected


def test_data_ids_without_dimensions() -> None:
    kind = DatasetType("summary", [], "File", "")
    assert id_texts(derived_ids("dataset", "r", "summary", {}, 1)) == [
        derived_id("dataset", "r", "summary", {})
    ]
    assert dataset_paths("r", kind, {}, 1).to_pylist() == ["r/summary/summary"]


@given(ROWS)
def test_codes_are_equal_where_rows_are(rows: list[dict[str, Any]]) -> None:
    columns = [value_codes(column) for column in columns_of(rows).values()]
    codes = combine_codes(columns, len(rows)).tolist()
    for one, code in zip(rows, codes, strict=True):
        assert [code == other for other in codes] == [one == other for other in rows]


@given(st.lists(st.integers(0, 9)))
def test_first_duplicate(codes: list[int]) -> None:
    expected = next(
        ((row, codes.index(c)) for row, c in enumerate(codes) if codes.index(c) != row), None
    )
    assert first_duplicate(np.array(codes, np.int64)) == expected


def test_codes_of_names() -> None:
    chunks = [pa.array(["a", None, "c"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()]
    assert name_codes(pa.chunked_array(chunks), ["b", "a"]).tolist() == [1, -1, -1, 0]
    assert name_codes(pa.chunked_array([["b", "x"]]), ["b", "a"]).tolist() == [0, -1]


def test_ranges() -> None:
    assert ranges(np.array([5, 0, 2]), np.array([2, 0, 3])).tolist() == [5, 6, 2, 3, 4]


@given(EDGES)
def test_levels_and_circles(graph: tuple[int, list[tuple[int, int]]]) -> None:
    n_quanta, pairs = graph
    parents, children = np.array(pairs, np.int64).reshape(-1, 2).T
    edges = Edges(parents, children, n_quanta)
    levels = edges.levels()
    circle = edges.circle(levels)
    waits = {row: {p for p, c in pairs if c == row} for row in range(n_quanta)}
    try:
        order = list(graphlib.TopologicalSorter(waits).static_order())
    except graphlib.CycleError:
        assert circle[0] == circle[-1] and len(circle) > 1
        assert all((p, c) in pairs for p, c in itertools.pairwise(circle))
        return
    expected: dict[int, int] = {}
    for row in order:
        expected[row] = 1 + max((expected[parent] for parent in waits[row]), default=-1)
    assert circle == []
    assert levels.tolist() == [expected[row] for row in range(n_quanta)]


@given(EDGES)
def test_what_follows(graph: tuple[int, list[tuple[int, int]]]) -> None:
    n_quanta, pairs = graph
    parents, children = np.array(pairs, np.int64).reshape(-1, 2).T
    reached = {0}
    for _ in range(n_quanta):
        reached |= {child for parent, child in pairs if parent in reached}
    edges = Edges(parents, children, n_quanta)
    assert set(edges.following(np.array([0])).tolist()) == reached
    turned = Edges(children, parents, n_quanta)
    assert set(turned.following(np.array([0]), upwards=True).tolist()) == reached


@pytest.mark.parametrize(
    ("text", "data_id", "is_match"),
    [
        ("exposure=3", {"exposure": 3, "detector": 1}, True),
        ("exposure=3, detector=1", {"exposure": 3, "detector": 1}, True),
        ("exposure=3", {"exposure": "3"}, True),
        ("exposure=03", {"exposure": 3}, False),
        ("exposure=3", {"detector": 3}, False),
        ("field=", {"field": ""}, True),
        ("field=a=b", {"field": "a=b"}, True),
        ('{"field": "a,b", "exposure": 3}', {"field": "a,b", "exposure": 3}, True),
        ("field=é ü", {"field": "é ü"}, True),
    ],
)
def test_data_id_as_a_person_types_it(
    text: str, data_id: dict[str, int | str], is_match: bool
) -> None:
    assert matches(data_id, parse_data_id(text)) is is_match


@pytest.mark.parametrize(
    "text", ["", "3", "a=1,a=2", "=1", "a=1,", "{", "{}", '{"a": 1.5}', "a b=1"]
)
def test_what_is_no_data_id(text: str) -> None:
    with pytest.raises(SelectionError, match="data ID: expected"):
        parse_data_id(text)


def test_selection() -> None:
    assert Selection.of().is_everything
    found = Selection.of(["q"], ["isr", "warp"], ["exposure=1", "exposure=2"])
    assert found.takes("q", "warp", {"exposure": 2})
    assert not found.takes("p", "warp", {"exposure": 2})
    assert not found.takes("q", "coadd", {"exposure": 2})
    assert not found.takes("q", "isr", {"exposure": 3})
