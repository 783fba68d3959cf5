# SPDX-License-Identifier: BSD-3-Clause
"""Reading CSV and Parquet: numbers of rows, nulls, malformed rows, and what is no table."""

import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.source_table import SourceTable, SourceTableError

NAMES = ["uri", "n"]
Read = list[tuple[int, str | None, str | int | None]]


def read(path: Path, names: list[str] = NAMES) -> tuple[Read, list[str]]:
    """All rows of a table with their numbers, and what is wrong with others."""
    found: Read = []
    with SourceTable(str(path)) as table:
        for rows in table.batches(names):
            columns = [rows.columns[name].to_pylist() for name in names]
            found += zip(rows.numbers.tolist(), *columns, strict=True)
        return found, table.bad.messages


def written(path: Path, content: bytes) -> Path:
    """A file with this content."""
    path.write_bytes(content)
    return path


def test_csv(tmp_path: Path) -> None:
    text = '\ufeffuri,other,n\na,x,1\n"b,c",,\n\n"d\ne",x,007\n'.encode()
    expected = [(1, "a", "1"), (2, "b,c", None), (4, "d\ne", "007")]
    for name, content in (("a.parquet", text), ("a.csv", gzip.compress(text))):
        assert read(written(tmp_path / name, content)) == (expected, [])


def test_rows_of_wrong_length_are_named_and_counted(tmp_path: Path) -> None:
    lines = ["uri,n", "a,1", "b", *(f"c,{i}" for i in range(50_000)), "d,2,3", "e,4"]
    found, bad = read(written(tmp_path / "a.csv", "\n".join(lines).encode()))
    assert bad == [
        "row 2: expected 2 values, found 1: 'b'",
        "row 50003: expected 2 values, found 3: 'd,2,3'",
    ]
    assert (found[0], found[1]) == ((1, "a", "1"), (3, "c", "0"))
    assert (found[-2], found[-1]) == ((50_002, "c", "49999"), (50_004, "e", "4"))


def test_text_that_is_no_text(tmp_path: Path) -> None:
    _, bad = read(written(tmp_path / "a.csv", b"uri,n\na,1\n\xff\xfe,2\n"))
    assert bad == ["row 2, column 'uri': expected text in UTF-8, found b'\\xff\\xfe'"]


def test_parquet_by_content(tmp_path: Path) -> None:
    path = tmp_path / "named.csv"
    columns = {
        "n": pa.array([1, None], pa.int16()),
        "uri": pa.array(["a", "a"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), path)
    assert read(path) == ([(1, "a", 1), (2, "a", None)], [])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "expected CSV with names of columns, or Parquet, found nothing"),
        (b"uri,uri,n\n1,2,3\n", "expected each column once, found ['uri']"),
        (b"\x7fELF\0\0", "expected CSV or Parquet, found another kind of file"),
        (b"PAR1 cut short", "Parquet magic bytes not found in footer"),
        (b"\x1f\x8b\x08", "Compressed file ended"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SourceTableError) as raised:
        read(written(tmp_path / "a.csv", content))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceTableError, match="No such file"):
        read(tmp_path / "none.csv")


def test_table_that_changes_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"uri,n\na,1\n")
    with SourceTable(str(path)) as table:
        assert len(list(table.batches(NAMES))) == 1
        with path.open("ab") as file:
            file.write(b"b,2\n")
        with pytest.raises(SourceTableError, match="it was changed while it was read"):
            list(table.batches(NAMES))


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            st.one_of(st.just(""), st.from_regex(r"[0-9]{1,9}", fullmatch=True)),
        ),
        max_size=20,
    )
)
def test_what_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([NAMES, *rows])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    found, bad = read(written(path, text.getvalue().encode()))
    assert bad == []
    assert found == [(i, a, b or None) for i, (a, b) in enumerate(rows, 1)]
