# SPDX-License-Identifier: BSD-3-Clause
"""The directory that a quantum runs in: made, or refused with the reason."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from executor.sandbox_files import SandboxError
from registry.errors import QuantumExecError


@contextmanager
def make_sandbox(task_label: str, named: Path | None = None) -> Iterator[Path]:
    """Make the directory ``named``, or a new one below the current directory.

    One that was made is removed if what is to be staged into it cannot be.

    Raises
    ------
    SandboxError
        If it is no directory or cannot be written.
    """
    # Late: a job of a pool finds its sandbox made, and this costs 10 ms.
    import shutil
    import tempfile

    where = named or Path()
    is_new = not where.exists() if named else True
    with telling_of_disk(where):
        if named is None:
            # Costs as much as a tenth of a no-op quantum, which needs none by itself.
            import tempfile

            sandbox = Path(tempfile.mkdtemp(prefix=f"{task_label}-", dir=where)).resolve()
        else:
            named.mkdir(parents=True, exist_ok=True)
            sandbox = named.resolve()
            if not os.access(sandbox, os.W_OK | os.X_OK):
                raise SandboxError(f"sandbox {named}: expected a directory to write in, found none")
        try:
            yield sandbox
        except BaseException:
            if is_new:
                shutil.rmtree(sandbox, ignore_errors=True)
            raise


@contextmanager
def make_empty_sandbox(task_label: str, named: Path | None = None) -> Iterator[Path]:
    """The same, but refuse a directory with something in it; raises `SandboxError`."""
    with make_sandbox(task_label, named) as sandbox:
        first = next(sandbox.iterdir(), None)
        if first is not None:
            raise SandboxError(
                f"sandbox {sandbox}: expected an empty or a new directory, found {first.name!r} "
                "in it"
            )
        yield sandbox


@contextmanager
def telling_of_disk(sandbox: Path) -> Iterator[None]:
    """Turn errors of the file system into `SandboxError`, with the path and the reason."""
    try:
        yield
    except QuantumExecError:
        # Some of ours are errors of the file system as well: an object that is not there.
        raise
    except OSError as error:
        where = error.filename or sandbox
        raise SandboxError(
            f"sandbox {sandbox}: expected a directory to write in, found {str(where)!r}: "
            f"{error.strerror or error}"
        ) from error
