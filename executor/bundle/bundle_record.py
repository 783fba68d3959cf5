# SPDX-License-Identifier: BSD-3-Clause
"""``bundle.json``: what a bundle is, for ``submit`` and for people."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from registry import names
from registry.errors import FormatError, QuantumExecError
from registry.typed_json import decode
from transfer_plugins.checksums import checksum_of_file

PLUGIN_FILE = "quantum_exec_plugin"
RECORD_FILE = "bundle.json"

_INTERPRETER = re.compile(r"/[A-Za-z0-9_./+-]+( [A-Za-z0-9_./+-]+)?\Z")


class BundleError(QuantumExecError, ValueError):
    """A bundle cannot be made or used as it is; make it anew with ``quantum-exec bundle``."""

    error_type = "bundle"


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """One file of a bundle; ``checksum`` is ``sha256:…``."""

    size_bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """What ``bundle.json`` holds.

    ``python`` is the command that runs the archives on an execution point, ``compiled_for`` the
    Python for which they hold byte code; any other from ``python_needed`` on takes longer to start.
    ``worker_key`` is where the worker archive belongs in every datastore, ``datastores`` those to
    which it was uploaded when the bundle was made.
    """

    release: str
    python: str
    python_needed: str
    compiled_for: str
    boto3: str
    plugin: ArchiveRecord
    worker: ArchiveRecord
    worker_key: str
    datastores: list[str]


def check_interpreter(words: str) -> str:
    """Return a command that can stand behind ``#!``; raises `BundleError`."""
    if not _INTERPRETER.match(words):
        raise BundleError(
            "--python: expected an absolute path, and at most one word behind it, as in "
            f"'/usr/bin/env python3'; found {words!r}"
        )
    return words


def write_record(directory: Path, record: BundleRecord) -> None:
    """Write ``bundle.json``."""
    (directory / RECORD_FILE).write_text(f"{json.dumps(asdict(record), indent=2)}\n")


def read_bundle(directory: Path) -> BundleRecord:
    """Read ``bundle.json`` and compare both archives with it.

    Raises
    ------
    BundleError
        If a file is missing, cannot be read, or is not the one that was made.
    """
    path = directory / RECORD_FILE
    try:
        record = decode(BundleRecord, path.read_bytes(), str(path))
        for name, expected in (
            (PLUGIN_FILE, record.plugin),
            (names.WORKER_ARCHIVE, record.worker),
        ):
            found = checksum_of_file(directory / name)
            if found != expected.checksum:
                raise BundleError(
                    f"bundle {directory}: expected {name} with {expected.checksum}, found {found}; "
                    f"make it anew: quantum-exec bundle --output {directory}"
                )
    except FormatError as error:
        raise BundleError(
            f"bundle {directory}: {error}; make it anew: quantum-exec bundle --output {directory}"
        ) from error
    except OSError as error:
        raise BundleError(
            f"bundle {directory}: {error.filename}: {error.strerror}; expected a directory made by "
            "quantum-exec bundle --output"
        ) from error
    check_interpreter(record.python)
    return record
