# SPDX-License-Identifier: BSD-3-Clause
"""The central registry against the objects in the bucket, for verify."""

import tempfile
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from merger.dataset_conflicts import Side
from merger.findings import Finding, FindingKind
from merger.registry_rows import RegistryRows
from registry import names
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore

_THREADS = 8
"""Datasets fetched at once; they may be large, and the network is the limit soon."""


def list_datasets(store: ObjectStore, run: str) -> dict[str, int]:
    """Return the size in bytes of every object of a RUN that is no control object, by key."""
    control = names.control_prefix(run)
    return {
        stored.key: stored.size_bytes
        for stored in store.list_objects(f"{run}/")
        if not stored.key.startswith(control)
    }


def run_of_control_object(key: str) -> str | None:
    """Return the RUN that a control object belongs to; None if the key is that of a dataset."""
    run, control, _ = key.partition(f"/{names.CONTROL}/")
    return run if control else None


def without_other_runs(keys: Collection[str], run: str) -> set[str]:
    """Leave out the objects of RUNs whose names begin with that of this one and a slash.

    They have control objects of their own, and are nobody's orphans.
    """
    found = map(run_of_control_object, keys)
    others = tuple({f"{other}/" for other in found if other is not None and other != run})
    return {key for key in keys if not key.startswith(others)}


def list_logs(store: ObjectStore, run: str) -> list[str]:
    """Return the keys of all logs of a RUN."""
    return [stored.key for stored in store.list_objects(names.log_prefix(run))]


def compare_objects(sizes: dict[str, int], run: str, rows: RegistryRows) -> Iterator[Finding]:
    """Find datasets whose object is missing, or has another size."""
    for side in _in_run(rows, run):
        key = str(side.object_key)
        found = sizes.get(key)
        if found is None:
            yield Finding(FindingKind.OBJECT_MISSING, side.dataset_id, key, side.checksum, "none")
        elif side.size_bytes is not None and side.size_bytes != found:
            wanted = f"{side.size_bytes} bytes"
            yield Finding(FindingKind.OBJECT_SIZE, side.dataset_id, key, wanted, f"{found} bytes")


def compare_checksums(
    store: ObjectStore, sizes: dict[str, int], run: str, rows: RegistryRows
) -> Iterator[Finding]:
    """Fetch every dataset that is there and compare its bytes; nothing is kept on disk."""
    there = [s for s in _in_run(rows, run) if s.object_key in sizes and s.checksum is not None]
    with tempfile.TemporaryDirectory(prefix="registry-merge-") as directory:
        with ThreadPoolExecutor(_THREADS, "checksum") as pool:
            found = pool.map(lambda side: _checksum(store, side, Path(directory)), there)
            for side, checksum in zip(there, found, strict=True):
                if checksum != side.checksum:
                    yield Finding(
                        FindingKind.OBJECT_CHECKSUM,
                        side.dataset_id,
                        side.object_key,
                        side.checksum,
                        checksum,
                    )


def _checksum(store: ObjectStore, side: Side, directory: Path) -> str:
    path = directory / side.dataset_id
    try:
        return store.download(str(side.object_key), path)[1]
    except ObjectNotFoundError:
        return "none"
    finally:
        path.unlink(missing_ok=True)


def _in_run(rows: RegistryRows, run: str) -> Iterable[Side]:
    """Datasets whose object belongs to the RUN; those registered from outside may lie anywhere."""
    return [s for s in rows.datasets.values() if str(s.object_key).startswith(f"{run}/")]
