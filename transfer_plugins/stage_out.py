# SPDX-License-Identifier: BSD-3-Clause
"""Stage-out: the files of a stage-out list into the datastore, the delta alone and last."""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from registry import names, staging
from registry.errors import FormatError, QuantumExecError
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import ObjectStore, TransferError

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


class ChangedFileError(QuantumExecError):
    """A file is not what the stage-out list recorded; it must not be uploaded under its name."""

    error_type = "changed_file"


@dataclass(frozen=True, slots=True)
class Moved:
    """What a staging step moved."""

    n_files: int
    n_bytes: int


def read_list(sandbox: Path) -> staging.StageOutList:
    """Read the stage-out list of a sandbox; raises `FormatError` or `InvalidNameError`."""
    path = sandbox / names.STAGE_OUT_FILE
    try:
        text = path.read_bytes()
    except OSError as error:
        raise FormatError(
            f"stage-out list {path}: expected a file, found none: {error.strerror}"
        ) from error
    return staging.read_stage_out_list(text, f"stage-out list {path}")


def stage_out(
    stage_out_list: staging.StageOutList, store: ObjectStore, sandbox: Path, *, patience_s: float
) -> Moved:
    """Upload the files of a list, many at once; then, only if all are there, the delta.

    Parameters
    ----------
    patience_s
        Seconds for which failed uploads are tried again: a computation would be lost with them.

    Raises
    ------
    ChangedFileError
        If a file is missing, no regular file, or changed since it was recorded.
    TransferError
        If an upload still fails when patience is over; then no delta was uploaded.
    """
    deadline = time.monotonic() + patience_s
    files = stage_out_list.files
    map_concurrently(lambda entry: upload(entry, store, sandbox, deadline), files)
    if stage_out_list.delta:
        upload(stage_out_list.delta, store, sandbox, deadline)
        files = [*files, stage_out_list.delta]
    return Moved(len(files), sum(entry.size_bytes for entry in files))


def upload(entry: staging.StageOutFile, store: ObjectStore, sandbox: Path, deadline: float) -> None:
    """Upload a file of a stage-out list, again and again until a deadline of the monotonic clock.

    Raises
    ------
    ChangedFileError, TransferError
    """
    path = sandbox / entry.path
    pause = _FIRST_PAUSE_S
    while True:
        check_unchanged(sandbox, entry)
        try:
            store.upload(path, entry.key, entry.checksum)
        except TransferError as error:
            if not error.is_retryable or time.monotonic() + pause > deadline:
                raise
        else:
            return
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def check_unchanged(sandbox: Path, entry: staging.StageOutFile) -> None:
    """Compare a file with what was recorded of it; raises `ChangedFileError`."""
    path = sandbox / entry.path
    try:
        found = os.lstat(path)
    except OSError as error:
        raise ChangedFileError(
            f"{entry.path}: expected {entry.size_bytes} bytes, found none: {error.strerror}"
        ) from error
    is_inside = path.resolve().is_relative_to(sandbox.resolve())
    if not stat.S_ISREG(found.st_mode) or not is_inside:
        raise ChangedFileError(
            f"{entry.path}: expected a regular file in the sandbox, found another kind or a link "
            "out of it"
        )
    if (found.st_size, found.st_mtime_ns) != (entry.size_bytes, entry.mtime_ns):
        raise ChangedFileError(
            f"{entry.path}: expected {entry.size_bytes} bytes last changed at {entry.mtime_ns} ns, "
            f"found {found.st_size} bytes at {found.st_mtime_ns} ns; it changed after it was "
            "recorded"
        )
