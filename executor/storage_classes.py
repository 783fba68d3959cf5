# SPDX-License-Identifier: BSD-3-Clause
"""Readers and writers of datasets, by storage class; never pickle."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.errors import QuantumExecError


class UnknownStorageClassError(QuantumExecError, LookupError):
    """There is no reader or writer for a storage class; use the path of the ref instead."""

    error_type = "unknown_storage_class"


@dataclass(frozen=True, slots=True)
class StorageClass:
    """How values of one storage class are read from and written to a file."""

    read: Callable[[Path], Any]
    write: Callable[[Any, Path], None]


def storage_class(name: str) -> StorageClass:
    """Return the reader and writer of a storage class.

    Raises
    ------
    UnknownStorageClassError
    """
    try:
        return _STORAGE_CLASSES[name]
    except KeyError:
        raise UnknownStorageClassError(
            f"storage class: expected one of {sorted(_STORAGE_CLASSES)}, found {name!r}"
        ) from None


def _write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _read_yaml(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _write_yaml(value: Any, path: Path) -> None:
    import yaml

    path.write_text(yaml.safe_dump(value, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _read_numpy(path: Path) -> Any:
    import numpy

    return numpy.load(path, allow_pickle=False)


def _write_numpy(value: Any, path: Path) -> None:
    import numpy

    with path.open("wb") as file:
        numpy.save(file, value, allow_pickle=False)


def _read_fits(path: Path) -> Any:
    from astropy.io import fits

    with fits.open(path, memmap=False, lazy_load_hdus=False) as found:
        for hdu in found:
            hdu.data  # noqa: B018 - astropy reads pixels on first access, and the file closes now
        return fits.HDUList([hdu.copy() for hdu in found])


def _write_fits(value: Any, path: Path) -> None:
    value.writeto(path, overwrite=True, output_verify="exception")


def _write_file(value: Any, path: Path) -> None:
    if isinstance(value, Path):
        shutil.copyfile(value, path)
    else:
        path.write_bytes(value)


_STORAGE_CLASSES = {
    "Json": StorageClass(lambda path: json.loads(path.read_bytes()), _write_json),
    "Yaml": StorageClass(_read_yaml, _write_yaml),
    "NumpyArray": StorageClass(_read_numpy, _write_numpy),
    "Fits": StorageClass(_read_fits, _write_fits),
    "File": StorageClass(lambda path: path.read_bytes(), _write_file),
}
