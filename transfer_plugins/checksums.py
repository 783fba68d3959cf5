# SPDX-License-Identifier: BSD-3-Clause
"""Checksums of files and bytes, always written ``sha256:<64 hex digits>``."""

import hashlib
from pathlib import Path


def checksum_of_file(path: Path) -> str:
    """Return the checksum of a file; raises `OSError`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def checksum_of_bytes(content: bytes) -> str:
    """Return the checksum of bytes in memory."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
