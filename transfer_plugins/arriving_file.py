# SPDX-License-Identifier: BSD-3-Clause
"""Files that are being written: no objects yet, and nobody reads them."""

import os
import tempfile
from pathlib import Path

PART = ".part-"
"""How their names begin."""


def is_part(key: str) -> bool:
    """Tell whether the file with this path is one that is being written."""
    return key.rpartition("/")[2].startswith(PART)


class ArrivingFile:
    """A file that gets its name only when it is whole and on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=PART, dir=self.path.parent)
        # mkstemp makes files that only their owner reads; objects are for the whole site.
        os.fchmod(handle, 0o644)
        os.close(handle)
        self.part = Path(name)
        return self.part

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if error is None:
                with self.part.open("rb") as file:
                    os.fsync(file.fileno())
                self.part.replace(self.path)
        finally:
            self.part.unlink(missing_ok=True)
