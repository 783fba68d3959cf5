# SPDX-License-Identifier: BSD-3-Clause
"""Readers and writers of datasets, by storage class; never pickle.

Another package adds a storage class by an entry point that names a `StorageClass`::

    [project.entry-points."quantum_exec.storage_classes"]
    Hdf5 = "my_package.storage:HDF5"
"""

import functools
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from registry.errors import QuantumExecError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "quantum_exec.storage_classes"


class UnknownStorageClassError(QuantumExecError, LookupError):
    """There is no reader or writer for a storage class; use the path of the ref instead."""

    error_type = "unknown_storage_class"


class StorageClassPluginError(QuantumExecError):
    """A storage class that another package registers cannot be used; mend its installation."""

    error_type = "storage_class_plugin"


@dataclass(frozen=True, slots=True)
class StorageClass:
    """How values of one storage class are read from and written to a file, or bytes.

    ``read`` gives a new value each time. ``write`` gets a path in an existing directory, with the
    extension of the dataset type; it need not care for what a failure leaves there. The forms for
    bytes spare datasets in S3 a temporary file, and may be left out.
    """

    read: Callable[[Path], Any]
    write: Callable[[Any, Path], None]
    read_bytes: Callable[[bytes], Any] | None = None
    write_bytes: Callable[[Any], bytes] | None = None


def storage_class(name: str) -> StorageClass:
    """Return the reader and writer of a storage class, ours or registered by another package.

    Raises
    ------
    UnknownStorageClassError
        If there is none of that name.
    StorageClassPluginError
        If two packages register it, or the one that does cannot be imported.
    """
    return _STORAGE_CLASSES.get(name) or _registered(name)


@functools.cache
def _registered(name: str) -> StorageClass:
    # Only now: reading the metadata of all installed packages takes longer than most quanta.
    from importlib.metadata import entry_points

    # The same package may be found twice on the path, then with the same value.
    found = {(e.value, _distribution(e)): e for e in entry_points(group=ENTRY_POINTS, name=name)}
    if not found:
        known = sorted({*_STORAGE_CLASSES, *entry_points(group=ENTRY_POINTS).names})
        raise UnknownStorageClassError(f"storage class: expected one of {known}, found {name!r}")
    if len(found) > 1:
        places = ", ".join(f"{value} of {package}" for value, package in sorted(found))
        raise StorageClassPluginError(
            f"storage class {name!r}: expected one entry point in {ENTRY_POINTS!r}, found {places}"
        )
    return _load(name, *found.values())


def _load(name: str, entry_point: "EntryPoint") -> StorageClass:
    where = f"storage class {name!r}: entry point {entry_point.value!r}"
    try:
        loaded = entry_point.load()
    except Exception as error:
        # Whatever the code of another package raises while it is imported.
        raise StorageClassPluginError(
            f"{where} of {_distribution(entry_point)} cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(loaded, StorageClass):
        raise StorageClassPluginError(
            f"{where}: expected an instance of executor.storage_classes.StorageClass, found "
            f"{type(loaded).__name__}"
        )
    return loaded


def _distribution(entry_point: "EntryPoint") -> str:
    return entry_point.dist.name if entry_point.dist else "an unknown package"


def _of_streams(
    read: Callable[[IO[bytes]], Any], write: Callable[[Any, IO[bytes]], None]
) -> StorageClass:
    """A storage class whose format is read from and written to any binary stream."""

    def read_path(path: Path) -> Any:
        with path.open("rb") as file:
            return read(file)

    def write_path(value: Any, path: Path) -> None:
        with path.open("wb") as file:
            write(value, file)

    def write_bytes(value: Any) -> bytes:
        stream = io.BytesIO()
        write(value, stream)
        return stream.getvalue()

    return StorageClass(
        read_path, write_path, lambda content: read(io.BytesIO(content)), write_bytes
    )


def _write_json(value: Any, file: IO[bytes]) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    file.write(text.encode() + b"\n")


def _read_yaml(file: IO[bytes]) -> Any:
    import yaml

    return yaml.safe_load(file.read().decode())


def _write_yaml(value: Any, file: IO[bytes]) -> None:
    import yaml

    yaml.safe_dump(value, file, allow_unicode=True, sort_keys=False, encoding="utf-8")


def _read_numpy(file: IO[bytes]) -> Any:
    from numpy.lib import format as npy

    # Not numpy.load, which takes an archive of arrays, too, and reads it after the file is closed.
    return npy.read_array(file, allow_pickle=False)


def _write_numpy(value: Any, file: IO[bytes]) -> None:
    import numpy

    numpy.save(file, value, allow_pickle=False)


def _read_parquet(file: IO[bytes]) -> Any:
    # Not read_table(path): a directory called "exposure=3" above would become a column.
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as found:
        return found.read()


def _write_parquet(value: Any, file: IO[bytes]) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    if not isinstance(value, pyarrow.Table):
        if not hasattr(value, "__arrow_c_stream__"):
            raise TypeError("expected a pyarrow.Table, or a table with __arrow_c_stream__")
        value = pyarrow.table(value)
    write_table(value, file)


def _read_fits(source: Path | io.BytesIO) -> Any:
    from astropy.io import fits

    with fits.open(source, memmap=False, lazy_load_hdus=False) as found:
        for hdu in found:
            hdu.data  # noqa: B018 - astropy reads pixels on first access, and the file closes now
        return fits.HDUList([hdu.copy() for hdu in found])


def _write_fits(value: Any, path: Path) -> None:
    value.writeto(path, overwrite=True, output_verify="exception")


def _fits_bytes(value: Any) -> bytes:
    stream = io.BytesIO()
    value.writeto(stream, output_verify="exception")
    return stream.getvalue()


def _write_file(value: Any, path: Path) -> None:
    if isinstance(value, Path):
        # Its own imports (lzma, bz2) cost a function more than reading a small file.
        import shutil

        shutil.copyfile(value, path)
    else:
        path.write_bytes(value)


def _file_bytes(value: Any) -> bytes:
    return value.read_bytes() if isinstance(value, Path) else bytes(memoryview(value))


_STORAGE_CLASSES: dict[str, StorageClass] = {
    "Json": _of_streams(json.load, _write_json),
    "Yaml": _of_streams(_read_yaml, _write_yaml),
    "Parquet": _of_streams(_read_parquet, _write_parquet),
    "NumpyArray": _of_streams(_read_numpy, _write_numpy),
    "Fits": StorageClass(
        _read_fits, _write_fits, lambda content: _read_fits(io.BytesIO(content)), _fits_bytes
    ),
    "File": StorageClass(lambda path: path.read_bytes(), _write_file, bytes, _file_bytes),
}
