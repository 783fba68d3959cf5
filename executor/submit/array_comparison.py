# SPDX-License-Identifier: BSD-3-Clause
"""NumPy arrays compared: shape, type, number of differing values and the largest difference."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def compare_array_files(old: Path, new: Path) -> list[str]:
    """Compare two ``.npy`` files without unpickling; raises `ValueError` if one is none."""
    import numpy as np

    return compare_arrays(
        np.load(old, mmap_mode="r", allow_pickle=False),
        np.load(new, mmap_mode="r", allow_pickle=False),
    )


def compare_arrays(old: "np.ndarray[Any, Any]", new: "np.ndarray[Any, Any]") -> list[str]:
    """Compare two arrays; returns nothing if all is equal, NaN to NaN as well."""
    found = []
    if old.shape != new.shape:
        found.append(f"shape {old.shape}, now {new.shape}")
    if old.dtype != new.dtype:
        found.append(f"type {old.dtype}, now {new.dtype}")
    if found or old.dtype.names is not None:
        return found + ([] if found else _compare_fields(old, new))
    told = told_values(old, new)
    return [told] if told else []


def _compare_fields(old: "np.ndarray[Any, Any]", new: "np.ndarray[Any, Any]") -> list[str]:
    found = ((name, told_values(old[name], new[name])) for name in old.dtype.names or ())
    return [f"{name}: {told}" for name, told in found if told]


def told_values(old: "np.ndarray[Any, Any]", new: "np.ndarray[Any, Any]") -> str:
    """Count the values of two arrays of one shape that differ; an empty text if none does."""
    import numpy as np

    is_number = old.dtype.kind in "iufcb" and new.dtype.kind in "iufcb"
    differs = np.atleast_1d(np.asarray(old != new))
    if is_number:
        # NaN is no difference to NaN.
        differs &= ~np.atleast_1d((old != old) & (new != new))
    number = int(differs.sum())
    if not number:
        return ""
    text = f"{number} of {differs.size} values differ"
    return f"{text}, {largest_difference(old, new)}" if is_number else text


def largest_difference(old: "np.ndarray[Any, Any]", new: "np.ndarray[Any, Any]") -> str:
    """Tell the largest difference of the numbers of two arrays of one shape."""
    import numpy as np

    kind = np.complex128 if "c" in (old.dtype.kind, new.dtype.kind) else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.abs(np.atleast_1d(new).astype(kind) - np.atleast_1d(old).astype(kind))
    finite = gaps[np.isfinite(gaps)]
    if not finite.size:
        return "all of them not finite"
    return f"the largest difference is {float(finite.max()):g}"
