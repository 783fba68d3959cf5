# SPDX-License-Identifier: BSD-3-Clause
"""Making a bundle: both archives and ``bundle.json``, whole or not at all."""

import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

from executor.bundle.bundle_record import (
    PLUGIN_FILE,
    ArchiveRecord,
    BundleError,
    BundleRecord,
    check_interpreter,
    write_record,
)
from executor.bundle.contents import boto3_members, own_members, start_members
from executor.bundle.zip_archive import zip_bytes
from registry import names
from registry.version import VERSION
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import ObjectStore

LARGEST_PLUGIN_BYTES = 2 * 1000**2
"""It travels with each job through the access point."""
LARGEST_WORKER_BYTES = 10 * 1000**2
_PYTHON_NEEDED = "3.11"


def make_bundle(output: Path, python: str, store: ObjectStore | None = None) -> BundleRecord:
    """Make a bundle in a directory, replacing the one that is there.

    Parameters
    ----------
    python
        Command that runs the archives on execution points.
    store
        Datastore to which the worker archive is uploaded; none to leave that to ``submit``.

    Raises
    ------
    BundleError
        If an archive does not start, is too large, or the directory cannot be written.
    TransferError
        If the upload fails.
    """
    check_interpreter(python)
    shared = boto3_members()
    ours = own_members("registry", "transfer_plugins")
    plugin = zip_bytes(shared | ours | start_members("plugin_start.py"), python)
    ours |= own_members("executor")
    worker = zip_bytes(shared | ours | start_members("worker_start.py"), python)
    _check_size(PLUGIN_FILE, plugin, LARGEST_PLUGIN_BYTES)
    _check_size(names.WORKER_ARCHIVE, worker, LARGEST_WORKER_BYTES)
    record = BundleRecord(
        release=VERSION,
        python=python,
        python_needed=_PYTHON_NEEDED,
        compiled_for=f"{sys.version_info.major}.{sys.version_info.minor}",
        boto3=importlib.metadata.version("boto3"),
        plugin=_record(plugin),
        worker=_record(worker),
        worker_key=names.worker_archive_key(checksum_of_bytes(worker)),
        datastores=[store.uri] if store else [],
    )
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bundle-", dir=output) as scratch:
            _write(Path(scratch), plugin, worker, record)
            if store:
                store.put(record.worker_key, worker)
            for name in (PLUGIN_FILE, names.WORKER_ARCHIVE, "bundle.json"):
                Path(scratch, name).replace(output / name)
    except OSError as error:
        raise BundleError(f"bundle {output}: {error.filename}: {error.strerror}") from error
    return record


def _record(content: bytes) -> ArchiveRecord:
    return ArchiveRecord(len(content), checksum_of_bytes(content))


def _check_size(name: str, content: bytes, largest: int) -> None:
    if len(content) > largest:
        raise BundleError(
            f"{name}: expected at most {largest} bytes, found {len(content)}; another release of "
            "boto3 may be smaller"
        )


def _write(directory: Path, plugin: bytes, worker: bytes, record: BundleRecord) -> None:
    plugin_path, worker_path = directory / PLUGIN_FILE, directory / names.WORKER_ARCHIVE
    plugin_path.write_bytes(plugin)
    plugin_path.chmod(0o755)
    worker_path.write_bytes(worker)
    write_record(directory, record)
    _check_start(directory, PLUGIN_FILE, "-classad")
    _check_start(directory, names.WORKER_ARCHIVE, "run", "--help")


def _check_start(directory: Path, name: str, *words: str) -> None:
    """Run an archive with this Python and nothing else of it: no site packages, no environment."""
    command = [sys.executable, "-I", "-S", name, *words]
    done = subprocess.run(command, cwd=directory, env={}, capture_output=True, text=True)
    if done.returncode != 0:
        raise BundleError(f"{name} was made, but does not start: {done.stderr.strip()}")
