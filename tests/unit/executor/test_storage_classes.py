# SPDX-License-Identifier: BSD-3-Clause
"""What is written as a storage class is read again; never with pickle."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.storage_classes import UnknownStorageClassError, storage_class
from registry.model import EXTENSIONS
from tests.unit.registry.test_typed_json import JSON_VALUES

# YAML has no control characters, and PyYAML reads some separators as line ends.
PLAIN_TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0xD7FF, exclude_categories=["C"])
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN_TEXT, inner, max_size=3),
    max_leaves=6,
)
ONE_DIRECTORY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def through_file(name: str, value: Any, path: Path) -> Any:
    """Write a value and read it, from the file and from its bytes."""
    found = storage_class(name)
    found.write(value, path)
    assert found.read_bytes and found.write_bytes
    read, from_bytes = found.read(path), found.read_bytes(found.write_bytes(value))
    assert found.write_bytes(read) == found.write_bytes(from_bytes)
    return read


@ONE_DIRECTORY
@given(JSON_VALUES)
def test_json(tmp_path: Path, value: Any) -> None:
    assert through_file("Json", value, tmp_path / "x") == value


@ONE_DIRECTORY
@given(PLAIN)
def test_yaml(tmp_path: Path, value: Any) -> None:
    assert through_file("Yaml", value, tmp_path / "x") == value


@ONE_DIRECTORY
@given(st.binary())
def test_file_is_bytes(tmp_path: Path, value: bytes) -> None:
    assert through_file("File", value, tmp_path / "x") == value


def test_file_may_be_given_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"by another program")
    assert through_file("File", tmp_path / "made", tmp_path / "x") == b"by another program"


@pytest.mark.parametrize("kind", ["<f4", ">i2", "u1", "?", "<U5", "<c16"])
def test_numpy_array(tmp_path: Path, kind: str) -> None:
    value = np.arange(12).reshape(3, 4).astype(kind)
    found = through_file("NumpyArray", value, tmp_path / "x.npy")
    assert found.dtype == value.dtype
    assert np.array_equal(found, value)


def test_numpy_array_keeps_its_name(tmp_path: Path) -> None:
    through_file("NumpyArray", np.zeros(1), tmp_path / "no-extension")
    assert [path.name for path in tmp_path.iterdir()] == ["no-extension"]


def test_pickles_are_neither_written_nor_read(tmp_path: Path) -> None:
    found = storage_class("NumpyArray")
    with pytest.raises(ValueError, match="allow_pickle=False"):
        found.write(np.array([object()]), tmp_path / "x")
    np.save(tmp_path / "y.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        found.read(tmp_path / "y.npy")


def test_archive_of_arrays_is_no_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "y.npz", a=np.zeros(1))
    with pytest.raises(ValueError, match="magic string is not correct"):
        storage_class("NumpyArray").read(tmp_path / "y.npz")


TABLE = pa.table({"flux": [1.5, None], "name": ["a", "b"]}).replace_schema_metadata({"unit": "nJy"})


def test_parquet(tmp_path: Path) -> None:
    # The directory must not become a column.
    path = tmp_path / "exposure=3" / "x.parquet"
    path.parent.mkdir()
    found = through_file("Parquet", TABLE, path)
    assert found.equals(TABLE, check_metadata=True)


@pytest.mark.parametrize(
    "value", [TABLE.to_reader(), TABLE.to_batches()[0]], ids=["reader", "batch"]
)
def test_parquet_takes_any_arrow_stream(tmp_path: Path, value: object) -> None:
    found = storage_class("Parquet")
    found.write(value, tmp_path / "x")
    assert found.read(tmp_path / "x").equals(TABLE)


def test_parquet_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"expected a pyarrow\.Table"):
        storage_class("Parquet").write({"flux": [1.5]}, tmp_path / "x")


def test_fits_with_several_units(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=">f4").reshape(2, 3)
    table = fits.BinTableHDU.from_columns(
        [fits.Column("flux", "D", array=[1.5, 2.5])], name="STARS"
    )
    header = fits.Header({"EXPTIME": 30.0})
    value = fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(pixels, name="SCI"), table])
    found = through_file("Fits", value, tmp_path / "x.fits")
    (tmp_path / "x.fits").unlink()
    assert found[0].header["EXPTIME"] == 30.0
    assert np.array_equal(found["SCI"].data, pixels)
    assert list(found["STARS"].data["flux"]) == [1.5, 2.5]


def test_fits_is_compressed_by_its_name(tmp_path: Path) -> None:
    value = fits.PrimaryHDU(np.zeros((100, 100)))
    found = through_file("Fits", value, tmp_path / "x.fits.gz")
    assert (tmp_path / "x.fits.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert found[0].data.shape == (100, 100)


def test_fits_replaces_what_is_there(tmp_path: Path) -> None:
    for number in (1, 2):
        value = fits.PrimaryHDU(np.full((2, 2), number, dtype="i2"))
        assert through_file("Fits", value, tmp_path / "x")[0].data[0, 0] == number


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage_class("Json").write({"a": value}, tmp_path / "x")


def test_unknown_class_is_told() -> None:
    with pytest.raises(UnknownStorageClassError) as caught:
        storage_class("Pickle")
    known = ["File", "Fits", "Json", "NumpyArray", "Parquet", "Yaml"]
    assert str(caught.value) == f"storage class: expected one of {known}, found 'Pickle'"
    assert set(known) == EXTENSIONS.keys()
