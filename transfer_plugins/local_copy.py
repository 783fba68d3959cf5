# SPDX-License-Identifier: BSD-3-Clause
"""A dataset that is in a sandbox already, copied to another one on the same machine."""

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from registry.errors import QuantumExecError
from transfer_plugins.arriving_file import PART
from transfer_plugins.checksums import checksum_of_file


class LocalCopyError(QuantumExecError):
    """A file of another sandbox cannot be copied, or is not the one that was recorded there."""

    error_type = "local_copy"


def copy_verified(source: Path, target: Path, size_bytes: int, checksum: str) -> None:
    """Copy a file under a temporary name, compare the copy, rename it.

    A copy and no link: a task may change its inputs, and another one reads the same dataset.

    Raises
    ------
    LocalCopyError
        If the file is missing, no regular file, or has another size or checksum.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PART, dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, _open_regular(source) as original:
            shutil.copyfileobj(original, file, 1 << 20)
        size, found = part.stat().st_size, checksum_of_file(part)
        if (size, found) != (size_bytes, checksum):
            raise LocalCopyError(
                f"{source}: expected {size_bytes} bytes with {checksum}, found {size} with {found}"
            )
        part.replace(target)
    except OSError as error:
        raise LocalCopyError(f"{source}: cannot be copied to {target}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _open_regular(path: Path) -> BinaryIO:
    """Open what must be a regular file: a task may have put a pipe or a link in its place."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise LocalCopyError(f"{path}: expected a regular file, found another kind")
    return os.fdopen(handle, "rb")
