# SPDX-License-Identifier: BSD-3-Clause
"""What is told of two outputs whose bytes differ, by storage class."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from astropy.io import fits

from executor.submit.output_comparison import compare_files


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Paths of two files that are to be compared."""
    return tmp_path / "old", tmp_path / "new"


Pair = tuple[Path, Path]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"abcd", b"abxd", "first difference at byte 2 (4 bytes)"),
        (b"abcd", b"ab", "first difference at byte 2 (4 bytes, now 2)"),
        (b"", b"a", "first difference at byte 0 (0 bytes, now 1)"),
        (b"x" * 2_000_000 + b"a", b"x" * 2_000_000 + b"b", "first difference at byte 2000000"),
    ],
)
def test_plain_files(pair: Pair, old: bytes, new: bytes, told: str) -> None:
    pair[0].write_bytes(old)
    pair[1].write_bytes(new)
    (line,) = compare_files(*pair, "File")
    assert line.startswith(told)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"a": 1}, {"a": 2}, ["$.a: 1, now 2"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["$.a.b[1]: 2, now 3"]),
        ({"a": 1, "b": 2}, {"b": 2, "c": 3}, ["$.a: missing, was 1", "$.c: extra, is 3"]),
        ([1, 2], [1], ["$: 2 elements, now 1"]),
        ({"a b": 1}, {"a b": True}, ["$['a b']: 1, now True"]),
        ({"a": "x" * 99}, {"a": 1}, ["$.a: '" + "x" * 58 + "…, now 1"]),
    ],
)
@pytest.mark.parametrize("storage_class", ["Json", "Yaml"])
def test_documents(pair: Pair, storage_class: str, old: Any, new: Any, told: list[str]) -> None:
    write = json.dumps if storage_class == "Json" else yaml.safe_dump
    for path, value in zip(pair, (old, new), strict=True):
        path.write_text(write(value))
    assert compare_files(*pair, storage_class) == told


def test_no_more_than_ten_differences_of_a_document_are_told(pair: Pair) -> None:
    pair[0].write_text(json.dumps(list(range(100))))
    pair[1].write_text(json.dumps(list(range(1, 101))))
    told = compare_files(*pair, "Json")
    assert told[0] == "$[0]: 0, now 1"
    assert (len(told), told[-1]) == (11, "and more")


def test_same_content_in_other_bytes_is_told_as_such(pair: Pair) -> None:
    pair[0].write_text('{"a": 1, "b": NaN}')
    pair[1].write_text('{"a":1, "b": NaN}')
    told = "the same content in other bytes, first difference at byte 5 (18 bytes, now 17)"
    assert compare_files(*pair, "Json") == [told]


@pytest.mark.parametrize("storage_class", ["Json", "Yaml", "Parquet", "NumpyArray", "Fits"])
def test_file_of_another_format_is_told_by_its_bytes(pair: Pair, storage_class: str) -> None:
    pair[0].write_bytes(b"{junk \x00 1")
    pair[1].write_bytes(b"{junk \x00 2")
    (told,) = compare_files(*pair, storage_class)
    assert told.startswith(f"first difference at byte 8 (9 bytes); not read as {storage_class}: ")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), ["shape (2, 3), now (3, 2)"]),
        (np.zeros(2, "f4"), np.zeros(2, "f8"), ["type float32, now float64"]),
        (
            np.array([1.0, 2.0, np.nan]),
            np.array([1.0, 2.5, np.nan]),
            ["1 of 3 values differ, the largest difference is 0.5"],
        ),
        (
            np.array([1.0, 2.0]),
            np.array([1.0, np.inf]),
            ["1 of 2 values differ, the largest difference is 0"],
        ),
        (np.array(1.0), np.array(3.0), ["1 of 1 values differ, the largest difference is 2"]),
        (np.array(["a", "b"]), np.array(["a", "c"]), ["1 of 2 values differ"]),
        (
            np.array([1], "u1"),
            np.array([3], "u1"),
            ["1 of 1 values differ, the largest difference is 2"],
        ),
        (
            np.array([(1, 2.0)], "i4,f8"),
            np.array([(1, 4.0)], "i4,f8"),
            ["f1: 1 of 1 values differ, the largest difference is 2"],
        ),
    ],
)
def test_arrays(pair: Pair, old: Any, new: Any, told: list[str]) -> None:
    for path, array in zip(pair, (old, new), strict=True):
        with path.open("wb") as file:
            np.save(file, array)
    assert compare_files(*pair, "NumpyArray") == told


def test_pickles_in_arrays_are_not_loaded(pair: Pair) -> None:
    for number, path in enumerate(pair):
        with path.open("wb") as file:
            np.save(file, np.array([{"number": number}]), allow_pickle=True)
    (told,) = compare_files(*pair, "NumpyArray")
    assert "not read as NumpyArray: ValueError" in told


STARS = {"star": [1, 2, 3], "flux": [1.5, 2.5, 3.5], "name": ["a", None, "c"]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"flux": [1.5, 2.5, 4.0]}, "column flux: 1 of 3 values differ, the largest difference"),
        ({"name": ["a", "b", "c"]}, "column name: 1 of 3 values differ"),
        ({"flux": None}, "column flux: missing"),
        ({"seeing": [1, 2, 3]}, "column seeing: extra"),
        ({"star": [1.0, 2.0, 3.0]}, "column star: type int64, now double"),
        ({"star": [1, None, 5]}, "column star: 2 of 3 values differ, the largest difference is 2"),
        ({"star": [1], "flux": [1.0], "name": ["a"]}, "3 rows, now 1"),
    ],
)
def test_tables(pair: Pair, changes: dict[str, Any], told: str) -> None:
    new = {name: value for name, value in {**STARS, **changes}.items() if value is not None}
    for path, columns in zip(pair, (STARS, new), strict=True):
        pq.write_table(pa.table(columns), path)
    (line,) = compare_files(*pair, "Parquet")
    assert line.startswith(told)


def test_columns_in_another_order(pair: Pair) -> None:
    pq.write_table(pa.table(STARS), pair[0])
    pq.write_table(pa.table(STARS).select(["flux", "star", "name"]), pair[1])
    (line,) = compare_files(*pair, "Parquet")
    assert line.startswith("order of columns ['star', 'flux', 'name'], now ['flux', 'star'")


def image(**header: Any) -> fits.HDUList:
    """A FITS file with an image of 4 by 3 pixels and a table."""
    pixels = fits.ImageHDU(np.zeros((3, 4), "f4"), name="SCI")
    stars = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.ones(2, "f4"))])
    primary = fits.PrimaryHDU()
    primary.header.update(header)
    return fits.HDUList([primary, pixels, stars])


def compare_images(pair: Pair, old: fits.HDUList, new: fits.HDUList) -> list[str]:
    """Write both and compare the files."""
    old.writeto(pair[0])
    new.writeto(pair[1])
    return compare_files(*pair, "Fits")


def test_pixels_keywords_and_columns_of_fits(pair: Pair) -> None:
    new = image(SEEING=1.5, EXTRA=1)
    new["SCI"].data[1, 2] = 3.0
    new[2].data["flux"][1] = 5.0
    assert compare_images(pair, image(SEEING=1.0), new) == [
        "HDU 0 (PRIMARY): keyword SEEING 1.0, now 1.5",
        "HDU 0 (PRIMARY): keyword EXTRA is extra",
        "HDU 1 (SCI): 1 of 12 pixels differ, the largest difference is 3",
        "HDU 2: column flux: 1 of 2 values differ, the largest difference is 4",
    ]


def test_shapes_of_fits(pair: Pair) -> None:
    new = image()
    new["SCI"].data = np.zeros((3, 5), "f4")
    told = compare_images(pair, image(), new)
    assert "HDU 1 (SCI): shape (3, 4), now (3, 5)" in told


def test_number_of_hdus(pair: Pair) -> None:
    assert compare_images(pair, image(), image()[:2]) == ["3 HDUs, now 2"]


def test_rows_of_a_fits_table(pair: Pair) -> None:
    column = fits.Column("flux", "E", array=np.ones(3, "f4"))
    new = fits.HDUList([*image()[:2], fits.BinTableHDU.from_columns([column])])
    assert "HDU 2: 2 rows, now 3" in compare_images(pair, image(), new)


def test_without_astropy_the_bytes_are_told_and_what_is_missing(pair: Pair) -> None:
    image().writeto(pair[0])
    image(SEEING=1.0).writeto(pair[1])
    source = (
        "import sys; sys.modules['astropy'] = None\n"
        "from pathlib import Path\n"
        "from executor.submit.output_comparison import compare_files\n"
        "print(compare_files(Path(sys.argv[1]), Path(sys.argv[2]), 'Fits'))"
    )
    command = [sys.executable, "-c", source, *map(str, pair)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "first difference at byte" in done.stdout
    assert "for what differs, install the Python package 'astropy" in done.stdout
