# SPDX-License-Identifier: BSD-3-Clause
"""The directory of a local runner, in which it makes its sandboxes."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from executor.sandbox_files import SandboxError, remove_tree

_PREFIX = "quantum-exec-"
_LOCK = "lock"


@contextmanager
def scratch_directory(parent: Path | None) -> Iterator[Path]:
    """A directory of this runner's own; those that killed runners left behind are removed.

    Raises
    ------
    SandboxError
        If it cannot be made.
    """
    base = Path(tempfile.gettempdir()) if parent is None else parent
    try:
        base.mkdir(parents=True, exist_ok=True)
        _remove_left(base)
        directory, lock = _make(base)
    except OSError as error:
        raise SandboxError(
            f"scratch {base}: expected a directory to write in: {error.strerror}"
        ) from error
    with lock:
        try:
            yield directory
        finally:
            # The lock goes last: without one, nobody would dare to remove what is left.
            for path in directory.iterdir():
                if path.name != _LOCK:
                    remove_tree(path)
            remove_tree(directory)


def _make(base: Path) -> tuple[Path, TextIO]:
    """Make a directory and lock it before it gets the name under which others find it."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=base))
        # If a step finds nothing, another runner took it for one that was killed here.
        with suppress(FileNotFoundError):
            lock = (made / _LOCK).open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return made.rename(made.with_name(made.name.removeprefix("."))), lock
            except BaseException:
                lock.close()
                raise


def _remove_left(base: Path) -> None:
    for left in base.glob(f"{_PREFIX}*"):
        if _is_ours(left) and _is_abandoned(left):
            remove_tree(left)
    # Of runners that were killed between the two names; there is nothing in them but the lock.
    for left in base.glob(f".{_PREFIX}*"):
        with suppress(OSError):
            if _is_ours(left) and (not any(left.iterdir()) or _is_abandoned(left)):
                (left / _LOCK).unlink(missing_ok=True)
                left.rmdir()


def _is_ours(directory: Path) -> bool:
    return directory.is_dir() and directory.stat().st_uid == os.getuid()


def _is_abandoned(directory: Path) -> bool:
    """Whether the runner that made a directory is gone: its lock is free."""
    try:
        with (directory / _LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
