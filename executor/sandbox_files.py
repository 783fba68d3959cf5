# SPDX-License-Identifier: BSD-3-Clause
"""The wrapper's own files in a sandbox, which the task could have put anything in the place of."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from registry.errors import QuantumExecError

RESERVE_FILE = ".quantum-exec-reserve"
_RESERVE_BYTES = 256 * 1024


class SandboxError(QuantumExecError):
    """The sandbox cannot be written: wrong rights, no space, or not a directory."""

    error_type = "sandbox_unusable"


def reserve_space(sandbox: Path) -> None:
    """Take the space for log end, delta and stage-out list, so that a full disk can be told.

    Raises
    ------
    SandboxError
        If the sandbox cannot be written at all.
    """
    try:
        write_own_file(sandbox / RESERVE_FILE, b"")
        with (sandbox / RESERVE_FILE).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
    except OSError as error:
        raise _unusable(sandbox, error) from error


def take_back(sandbox: Path) -> None:
    """Give ourselves the rights in the sandbox that a task may have taken away."""
    with suppress(OSError):
        os.chmod(sandbox, stat.S_IMODE(os.stat(sandbox).st_mode) | stat.S_IRWXU)


def release_space(sandbox: Path) -> None:
    """Give the reserved space back."""
    with suppress(OSError):
        (sandbox / RESERVE_FILE).unlink()


def write_own_file(path: Path, content: bytes) -> None:
    """Write a file that is new, whatever a task left under its name; links are not followed."""
    clear(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
        file.write(content)


def clear(path: Path) -> None:
    """Remove what is under a name, also a directory."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def make_place(path: Path) -> None:
    """Make the directories above an output; a file of an earlier try under its name is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()


def remove_tree(directory: Path) -> None:
    """Remove a directory with everything in it, also where a task took its rights away."""
    # Late: most sandboxes of a pool are removed by HTCondor.
    import shutil

    shutil.rmtree(directory, ignore_errors=True)
    if not directory.exists():
        return
    _own(directory)
    for above, below, _ in os.walk(directory):
        for name in below:
            _own(Path(above, name))
    shutil.rmtree(directory, ignore_errors=True)


def _own(directory: Path) -> None:
    with suppress(OSError):
        if not directory.is_symlink():
            directory.chmod(stat.S_IRWXU)


def is_full(sandbox: Path) -> bool:
    """Whether the disk of a sandbox has hardly a byte left for its user."""
    try:
        found = os.statvfs(sandbox)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < 4096 * 4


def _unusable(sandbox: Path, error: OSError) -> SandboxError:
    return SandboxError(
        f"sandbox {sandbox}: expected a directory to write in, found: {error.strerror or error}"
    )
