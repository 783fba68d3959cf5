# SPDX-License-Identifier: BSD-3-Clause
"""FITS files compared with astropy: HDUs, keywords, pixels and table columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAX_KEYWORDS = 5


def compare_fits(old: Path, new: Path) -> list[str]:
    """Compare two FITS files; raises `OSError` if one is none."""
    import warnings

    from astropy.io import fits

    with warnings.catch_warnings():
        # What astropy finds to say of a file is no difference.
        warnings.simplefilter("ignore")
        with fits.open(old) as before, fits.open(new) as after:
            difference = fits.FITSDiff(before, after)
            return list(_told(difference, before, after))


def _told(difference: Any, before: Any, after: Any) -> Iterator[str]:
    if difference.diff_hdu_count:
        yield "{} HDUs, now {}".format(*difference.diff_hdu_count)
    for index, hdu, name, _version in difference.diff_hdus:
        label = f"HDU {index} ({name})" if name else f"HDU {index}"
        if hdu.diff_extnames:
            yield "{}: name {!r}, now {!r}".format(label, *hdu.diff_extnames)
        if hdu.diff_extension_types:
            yield "{}: {}, now {}".format(label, *hdu.diff_extension_types)
        if hdu.diff_headers and not hdu.diff_headers.identical:
            yield from (f"{label}: {line}" for line in _header(hdu.diff_headers))
        if hdu.diff_data and not hdu.diff_data.identical:
            told = _values(hdu.diff_data, before[index], after[index])
            yield from (f"{label}: {line}" for line in told)


def _header(difference: Any) -> list[str]:
    found = []
    for keyword, pairs in difference.diff_keyword_values.items():
        for pair in pairs:
            # Of a keyword that stands there several times only some may differ.
            if pair is not None:
                found.append(f"keyword {keyword} {pair[0]!r}, now {pair[1]!r}")
    found += [f"comment of keyword {keyword}" for keyword in difference.diff_keyword_comments]
    if difference.diff_keywords:
        missing, extra = difference.diff_keywords
        found += [f"keyword {keyword} is missing" for keyword in missing]
        found += [f"keyword {keyword} is extra" for keyword in extra]
    shown = found[:_MAX_KEYWORDS]
    return shown if len(shown) == len(found) else [*shown, f"{len(found) - len(shown)} more"]


def _values(difference: Any, before: Any, after: Any) -> Iterator[str]:
    from astropy.io.fits import ImageDataDiff, TableDataDiff

    from executor.submit.array_comparison import largest_difference

    if isinstance(difference, ImageDataDiff):
        if difference.diff_dimensions:
            yield f"shape {before.shape}, now {after.shape}"
        else:
            largest = largest_difference(before.data, after.data)
            yield f"{difference.diff_total} of {before.data.size} pixels differ, {largest}"
    elif isinstance(difference, TableDataDiff):
        yield from _table(difference, before, after)
    else:
        yield "other data"


def _table(difference: Any, before: Any, after: Any) -> Iterator[str]:
    if difference.diff_column_names:
        missing, extra = difference.diff_column_names
        yield from (f"column {name} is missing" for name in missing)
        yield from (f"column {name} is extra" for name in extra)
    if difference.diff_rows:
        yield "{} rows, now {}".format(*difference.diff_rows)
        return
    from executor.submit.array_comparison import compare_arrays

    for name in before.columns.names:
        if name in after.columns.names:
            told = compare_arrays(before.data[name], after.data[name])
            yield from (f"column {name}: {line}" for line in told)
