# SPDX-License-Identifier: BSD-3-Clause
"""Outputs of two attempts at a quantum compared: by checksum, and where that differs, by content.

What differs is told by the storage class; the bytes alone decide what is the same. Nothing is
unpickled, and a file that its format does not fit is told by its first differing byte.
"""

import enum
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.delta import DatasetRow, DatastoreRow, Delta
from registry.model import DataId
from registry.typed_json import canonical
from transfer_plugins.object_store import ObjectStore, TransferError

_CHUNK_BYTES = 1024 * 1024


class Verdict(enum.StrEnum):
    """Whether an output is the same; the values are stable and machine-readable."""

    SAME = "same"
    """The bytes are the same."""
    DIFFERENT = "different"
    """The bytes differ."""
    MISSING = "missing"
    """The new attempt did not make it."""
    EXTRA = "extra"
    """Only the new attempt made it."""


@dataclass(frozen=True, slots=True)
class ComparedOutput:
    """An output of a quantum, and what differs between two attempts, one line each."""

    quantum_id: str
    task_label: str
    dataset_type: str
    data_id: DataId
    verdict: Verdict
    old_key: str | None
    new_key: str | None
    differences: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__}


def compare_outputs(store: ObjectStore, old: Delta | None, new: Delta) -> list[ComparedOutput]:
    """Compare what two successful attempts made; what one of them did not keep is left out.

    Parameters
    ----------
    old
        None if no attempt succeeded before: everything is extra then.
    """
    before = _records(old) if old else {}
    after = _records(new)
    unkept = {key for delta in (old, new) if delta for key in _unkept(delta)}
    return [
        _compare(store, new, before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if key not in unkept
    ]


_Record = tuple[DatasetRow, DatastoreRow]


def _records(delta: Delta) -> dict[tuple[str, str], _Record]:
    """The outputs of an attempt, by dataset type and data ID."""
    records = {row.dataset_id: row for row in delta.rows.datastore_record}
    return {
        (row.dataset_type, canonical(row.data_id)): (row, records[row.dataset_id])
        for row in delta.rows.dataset
        if row.dataset_id in records
    }


def _unkept(delta: Delta) -> set[tuple[str, str]]:
    gone = set(delta.not_kept)
    return {
        (row.dataset_type, canonical(row.data_id))
        for row in delta.rows.dataset
        if row.dataset_id in gone
    }


def _compare(
    store: ObjectStore, new: Delta, before: _Record | None, after: _Record | None
) -> ComparedOutput:
    differences: list[str] = []
    if before is None or after is None:
        verdict = Verdict.EXTRA if before is None else Verdict.MISSING
    elif before[1].checksum == after[1].checksum:
        verdict = Verdict.SAME
    else:
        verdict = Verdict.DIFFERENT
        try:
            differences = _look_into(store, before[1], after[1])
        except TransferError as error:
            # The checksums told already that they differ; the other outputs are looked at.
            differences = [str(error)]
    known = after or before
    assert known is not None
    return ComparedOutput(
        new.quantum_id,
        new.task_label,
        known[0].dataset_type,
        known[0].data_id,
        verdict,
        before[1].object_key if before else None,
        after[1].object_key if after else None,
        differences,
    )


def _look_into(store: ObjectStore, before: DatastoreRow, after: DatastoreRow) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="quantum-exec-compare-") as directory:
        old, new = Path(directory, "old"), Path(directory, "new")
        store.download(before.object_key, old, checksum=before.checksum)
        store.download(after.object_key, new, checksum=after.checksum)
        return compare_files(old, new, after.storage_class)


def compare_files(old: Path, new: Path, storage_class: str) -> list[str]:
    """Return what differs between two files whose bytes differ, one line each."""
    compare = _comparison_of(storage_class)
    note = ""
    if compare is not None:
        try:
            found = compare(old, new)
        except ImportError as error:
            note = f"; for what differs, install the Python package {error.name!r}"
        except Exception as error:
            # Users' files, and readers of four libraries: whatever these say of them.
            told = str(error).partition("\n")[0]
            note = f"; not read as {storage_class}: {type(error).__name__}: {told}"
        else:
            return found or [f"the same content in other bytes, {_first_byte(old, new)}"]
    return [_first_byte(old, new) + note]


def _comparison_of(storage_class: str) -> Callable[[Path, Path], list[str]] | None:
    """The function that looks into files of a storage class; what it needs is imported late."""
    if storage_class == "Fits":
        from executor.submit.fits_comparison import compare_fits

        return compare_fits
    if storage_class == "Parquet":
        from executor.submit.table_comparison import compare_tables

        return compare_tables
    if storage_class == "NumpyArray":
        from executor.submit.array_comparison import compare_array_files

        return compare_array_files
    if storage_class in ("Json", "Yaml"):
        from executor.submit import document_comparison

        is_json = storage_class == "Json"
        return document_comparison.compare_json if is_json else document_comparison.compare_yaml
    return None


def _first_byte(old: Path, new: Path) -> str:
    sizes = (old.stat().st_size, new.stat().st_size)
    text = f"{sizes[0]} bytes" if sizes[0] == sizes[1] else f"{sizes[0]} bytes, now {sizes[1]}"
    place = 0
    with old.open("rb") as first, new.open("rb") as second:
        while True:
            one, two = first.read(_CHUNK_BYTES), second.read(_CHUNK_BYTES)
            if one != two:
                pairs = zip(one, two, strict=False)
                within = next(
                    (i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two))
                )
                return f"first difference at byte {place + within} ({text})"
            if not one:
                return f"no difference ({text})"
            place += len(one)
