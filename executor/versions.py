# SPDX-License-Identifier: BSD-3-Clause
"""The versions of what ran: ours, Python's, the system's, and those that the task reports."""

import json
import os
import stat
import sys
from pathlib import Path

from registry import names
from registry.delta import MAX_TEXT_LENGTH
from registry.version import VERSION

_MAX_FILE_BYTES = 64 * 1024
MAX_REPORTED_VERSIONS = 150
"""Versions that a task may report; a delta has room for these and our own."""


class VersionsError(Exception):
    """The file of versions that a task left is not as it should be; its content is left out."""


def own_versions() -> dict[str, str]:
    """The versions of the wrapper and of the machine."""
    system = os.uname()
    return {
        "quantum-exec": VERSION,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "system": f"{system.sysname} {system.release} {system.machine}"[:MAX_TEXT_LENGTH],
    }


def reported_versions(sandbox: Path) -> dict[str, str]:
    """The versions in the file that ``$QUANTUM_EXEC_VERSIONS`` names: an object of texts.

    Raises
    ------
    VersionsError
        If the file is there and is not a JSON object of at most 150 texts of at most 200
        characters. No version is worth a failed quantum, so this is told and not more.
    """
    path = sandbox / names.VERSIONS_FILE
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise VersionsError("expected a regular file")
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_FILE_BYTES + 1).decode("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise VersionsError(f"expected a JSON object of at most 64 KiB, found: {error}") from error
    if not isinstance(found, dict) or len(found) > MAX_REPORTED_VERSIONS:
        raise VersionsError(f"expected a JSON object of at most {MAX_REPORTED_VERSIONS} texts")
    for name, version in found.items():
        if not isinstance(version, str) or not _is_storable(name) or not _is_storable(version):
            raise VersionsError(
                f"{name[:MAX_TEXT_LENGTH]!r}: expected text of at most {MAX_TEXT_LENGTH} characters"
            )
    return found


def _is_storable(text: str) -> bool:
    """Whether PostgreSQL takes a text: no NUL, no lone surrogate."""
    is_whole = not any("\ud800" <= character <= "\udfff" for character in text)
    return is_whole and "\0" not in text and 0 < len(text) <= MAX_TEXT_LENGTH
