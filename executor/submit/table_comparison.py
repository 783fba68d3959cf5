# SPDX-License-Identifier: BSD-3-Clause
"""Parquet tables compared: schema, rows, and per column what differs."""

from pathlib import Path
from typing import Any

_MAX_COLUMNS = 10


def compare_tables(old: Path, new: Path) -> list[str]:
    """Compare two Parquet files; raises `pyarrow.ArrowException` if one is none."""
    import pyarrow.parquet as pq

    before, after = pq.read_table(old), pq.read_table(new)
    found = _compare_schemas(before.schema, after.schema)
    if before.num_rows != after.num_rows:
        return [*found, f"{before.num_rows} rows, now {after.num_rows}"]
    for name in before.schema.names:
        if before.schema.names.count(name) == after.schema.names.count(name) == 1:
            told = _compare_columns(before.column(name), after.column(name))
            if told:
                found.append(f"column {name}: {told}")
    shown = found[:_MAX_COLUMNS]
    return shown if len(found) == len(shown) else [*shown, f"and {len(found) - len(shown)} more"]


def _compare_schemas(old: Any, new: Any) -> list[str]:
    found = [f"column {name}: missing" for name in old.names if name not in new.names]
    found += [f"column {name}: extra" for name in new.names if name not in old.names]
    both = [name for name in old.names if name in new.names]
    found += [
        f"column {name}: type {old.field(name).type}, now {new.field(name).type}"
        for name in both
        if old.names.count(name) == new.names.count(name) == 1
        and old.field(name).type != new.field(name).type
    ]
    if not found and old.names != new.names:
        found.append(f"order of columns {old.names}, now {new.names}")
    return found


def _compare_columns(old: Any, new: Any) -> str:
    """Tell how many values differ; a null is no difference to a null, nor NaN to NaN."""
    import pyarrow as pa

    if old.type != new.type or old.equals(new):
        return ""
    is_number = pa.types.is_integer(old.type) or pa.types.is_floating(old.type)
    if is_number and not old.null_count and not new.null_count:
        from executor.submit.array_comparison import told_values

        return told_values(old.to_numpy(), new.to_numpy())
    pairs = list(zip(old.to_pylist(), new.to_pylist(), strict=True))
    differing = [(a, b) for a, b in pairs if a != b and not (a != a and b != b)]
    if not differing:
        return ""
    text = f"{len(differing)} of {len(pairs)} values differ"
    if not is_number:
        return text
    gaps = [abs(b - a) for a, b in differing if a is not None and b is not None]
    return f"{text}, the largest difference is {max(gaps):g}" if gaps else text
