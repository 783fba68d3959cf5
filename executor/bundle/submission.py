# SPDX-License-Identifier: BSD-3-Clause
"""A bundle in a submission: its archive in the datastore, and the lines of a submit file."""

from collections.abc import Mapping
from pathlib import Path

from executor.bundle.bundle_record import PLUGIN_FILE, BundleRecord, read_bundle
from executor.submit.configuration import SubmitConfiguration
from registry import names
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore
from transfer_plugins.plugin_protocol import (
    JOB_SCHEME,
    OBJECT_SCHEME,
    WORKER_ATTRIBUTE,
    WORKER_CHECKSUM_ATTRIBUTE,
)


def publish_worker(directory: Path, store: ObjectStore) -> BundleRecord:
    """Upload the worker archive of a bundle if the datastore has none of its checksum.

    Raises
    ------
    BundleError
        If the bundle is damaged or not there.
    TransferError
        If the datastore cannot be reached, or refuses.
    """
    record = read_bundle(directory)
    try:
        found = store.head(record.worker_key)
        # A worker compares it anyway; here a damaged one is mended before anything is queued.
        is_there = found.size_bytes == record.worker.size_bytes and (
            found.checksum in (None, record.worker.checksum)
        )
    except ObjectNotFoundError:
        is_there = False
    if not is_there:
        path = directory / names.WORKER_ARCHIVE
        store.upload(path, record.worker_key, record.worker.checksum)
    return record


def bundled(
    lines: Mapping[str, str], configuration: SubmitConfiguration, datastore: str
) -> dict[str, str]:
    """Return the lines of a submit description for jobs that bring their own programs.

    The plugin travels with the job and brings the worker archive; Python is the machine's own.
    Without a bundle in the configuration the lines stay as they are.

    Raises
    ------
    BundleError
        If the bundle is damaged or not there.
    """
    if not configuration.bundle:
        return dict(lines)
    directory = Path(configuration.bundle).resolve()
    record = read_bundle(directory)
    executable, *words = record.python.split()
    archive = f"{datastore.rstrip('/')}/{record.worker_key}"
    return {
        **lines,
        "executable": executable,
        "transfer_executable": "false",
        "arguments": " ".join([*words, names.WORKER_ARCHIVE, lines["arguments"]]),
        "transfer_plugins": f"{OBJECT_SCHEME},{JOB_SCHEME}={directory / PLUGIN_FILE}",
        f"My.{WORKER_ATTRIBUTE}": f'"{archive}"',
        f"My.{WORKER_CHECKSUM_ATTRIBUTE}": f'"{record.worker.checksum}"',
    }
