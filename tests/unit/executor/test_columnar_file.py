# SPDX-License-Identifier: BSD-3-Clause
"""Columnar graph files that are damaged, truncated, newer or no graph files at all."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.graph.columnar_file import HEADER, TABLES, open_columnar
from executor.graph.columnar_output import write_columnar
from executor.graph.graph_file import read_graph
from executor.graph.graph_forms import open_graph
from executor.graph.placed_yaml import GraphError
from executor.graph.selection import SelectionError
from tests.unit.executor.graph_documents import make_document, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole file."""
    made = tmp_path / "graph.qgraph"
    write_columnar(open_graph(write(tmp_path / "graph.yaml", make_document())), made)
    return made


def with_member(path: Path, name: str, content: bytes | None, **options: Any) -> Path:
    """The file with another member, or without it."""
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    members.pop(name)
    made = path.with_name("other.qgraph")
    with zipfile.ZipFile(made, "w", **options) as archive:
        for entry, kept in members.items():
            archive.writestr(entry, kept)
        if content is not None:
            archive.writestr(name, content)
    return made


def with_header(path: Path, **values: object) -> Path:
    """The file with other values in its header."""
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read(HEADER))
    return with_member(path, HEADER, json.dumps({**header, **values}).encode())


def refused(path: Path) -> str:
    """The one line that the file is refused with."""
    with pytest.raises(GraphError) as caught:
        read_graph(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True))
def test_truncated_file_is_refused(path: Path, part: float) -> None:
    content = path.read_bytes()
    cut = path.with_name("cut.qgraph")
    cut.write_bytes(content[: int(part * len(content))])
    refused_text = refused_any(cut)
    assert "cut.qgraph" in refused_text


def refused_any(path: Path) -> str:
    """The message that a file is refused with, whatever form it seems to have."""
    with pytest.raises(GraphError) as caught:
        read_graph(path)
    return str(caught.value)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_makes_another_graph(path: Path, part: float, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[int(part * len(content))] ^= 1 << bit
    damaged = path.with_name("damaged.qgraph")
    damaged.write_bytes(content)
    try:
        # A bit that nothing depends on, such as a date in the ZIP, may be any.
        assert read_graph(damaged) == read_graph(path)
    except GraphError as error:
        assert "damaged.qgraph" in str(error)


@pytest.mark.parametrize("name", TABLES)
def test_damage_names_the_member(path: Path, name: str) -> None:
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name)
    start = entry.header_offset + 30 + len(name)
    end = start + entry.file_size
    column = pq.ParquetFile(io.BytesIO(content[start:end])).metadata.row_group(0).column(0)
    page_end = (
        column.dictionary_page_offset or column.data_page_offset
    ) + column.total_compressed_size
    for place in (start + page_end - 1, end - 20):
        wrong = bytearray(content)
        wrong[place] ^= 255
        damaged = path.with_name("damaged.qgraph")
        damaged.write_bytes(wrong)
        assert refused(damaged).startswith(f"{damaged}: {name}: ")


@pytest.mark.parametrize("name", (HEADER, *TABLES))
def test_missing_member_is_told(path: Path, name: str) -> None:
    text = refused(with_member(path, name, None))
    assert f"expected a graph file, found a ZIP without {name!r}" in text


def test_table_that_is_none(path: Path) -> None:
    assert "quanta: expected a whole table" in refused(with_member(path, "quanta", b"no table"))


def test_table_of_other_columns(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        index = archive.read("index")
        footers = json.loads(archive.read(HEADER))["footers"]
    other = with_header(with_member(path, "quanta", index), footers={**footers})
    other = other.rename(path.with_name("again.qgraph"))
    text = refused(with_header(other, footers={**footers, "quanta": footers["index"]}))
    assert "quanta: expected columns ['task_label: " in text


def test_compressed_members_are_refused(path: Path) -> None:
    other = with_member(path, HEADER, b"{}", compression=zipfile.ZIP_DEFLATED)
    assert "expected a stored member, found another" in refused(other)


HEADERS: dict[str, tuple[dict[str, object], str]] = {
    "newer": ({"quantum_graph_columns": 2}, "expected format 1 or older, found 2; upgrade quantum"),
    "no format": ({"quantum_graph_columns": "1"}, "quantum_graph_columns: expected format 1, fou"),
    "unknown": ({"colour": 1}, "colour: expected one of ['"),
    "name": ({"name": ""}, "name: expected text, found ''"),
    "run": ({"run": "../x"}, "run: RUN '../x': part '..'"),
    "task": ({"tasks": {"count": {}}}, "tasks.count: expected either 'command' or 'function'"),
    "rows": ({"n_rows": {"quanta": 4}}, "quanta: expected 4 rows, found 3"),
    "no rows": ({"n_rows": []}, "n_rows: expected a mapping"),
    "task rows": ({"task_rows": {"count": [0]}}, "task_rows.count: expected two rows, found [0]"),
    "label": ({"task_rows": {"cont": [0, 1]}}, "task_rows.cont: expected one of ['count', 'summ"),
    "graph id": ({"derived_graph_id": "x"}, "derived_graph_id: expected a UUID, found 'x'"),
    "dimensions": ({"dimensions": {"exposure": "int"}}, "columns [], found ['dim_band"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_wrong_header_is_told(path: Path, name: str) -> None:
    values, text = HEADERS[name]
    assert text in refused(with_header(path, **values))


NEITHER: dict[str, bytes] = {
    "empty": b"",
    "binary": b"\x89PNG\r\n\x1a\n\xff\xfe",
    "gzip": b"\x1f\x8b\x08\x00" + bytes(range(256)),
    "parquet": b"PAR1" + bytes(range(200, 256)),
    "text": b"just a text\n",
    "json list": b"[1, 2]",
    "zip of nothing": b"PK\x05\x06" + bytes(18),
    "other zip": b"PK\x03\x04 and no more",
}


@pytest.mark.parametrize("name", NEITHER)
def test_file_of_neither_form(tmp_path: Path, name: str) -> None:
    path = tmp_path / "graph.qgraph"
    path.write_bytes(NEITHER[name])
    text = refused_any(path)
    assert text.startswith(str(path))
    assert "expected" in text and "\n" not in text


def test_directory_is_no_graph(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path)


def test_file_is_replaced_whole(path: Path) -> None:
    graph = open_columnar(path)
    kept = path.read_bytes()
    write_columnar(graph.in_memory(), path)
    assert path.read_bytes() == kept
    assert os.listdir(path.parent).count(path.name) == 1
    assert not list(path.parent.glob(".*"))
    # What was opened before is still there: the file was replaced, not written into.
    assert len(list(graph.quanta())) == 3


def test_directory_that_is_not_there(path: Path) -> None:
    with pytest.raises(GraphError, match="cannot be written"):
        write_columnar(open_columnar(path), path.parent / "none" / "graph.qgraph")


@pytest.mark.parametrize("quantum_id", ["", "x", "9d9c27ac-2f9c-4c65-95b0-4b0ea7d8d2c1"])
def test_no_such_quantum(path: Path, quantum_id: str) -> None:
    with pytest.raises(SelectionError, match="there is no quantum"):
        open_columnar(path).quantum(quantum_id)


def test_no_such_task_label(path: Path) -> None:
    with pytest.raises(SelectionError, match="expected one of the task labels"):
        open_columnar(path).quanta(task_label="cont")
