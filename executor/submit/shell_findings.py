# SPDX-License-Identifier: BSD-3-Clause
"""What was done in an opened sandbox: outputs made, rows added, as short as ``git status``."""

import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from executor import private_registry
from executor.submit.shell import OpenSandbox
from registry import names
from registry.errors import QuantumExecError
from registry.model import format_data_id

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Findings:
    """Paths below the sandbox of the predicted outputs and of other new files in the repo.

    ``added_rows`` has the number of new rows by table; ``registry_error`` says instead why an
    attempt with this registry would fail.
    """

    outputs: list[str]
    missing_outputs: list[str]
    unexpected_files: list[str]
    added_rows: dict[str, int]
    registry_error: str | None


def look_into(opened: OpenSandbox) -> Findings:
    """Compare a sandbox with what the graph predicts and with what was seeded."""
    paths = [f"{names.REPO_DIR}/{output.path}" for output in opened.job.outputs]
    there = [path for path in paths if _is_regular(opened.directory / path)]
    known = {*paths, *(f"{names.REPO_DIR}/{i.path}" for i in opened.job.inputs)}
    rows: dict[str, int] = {}
    registry_error = None
    try:
        added = private_registry.added_rows(
            opened.directory / names.PRIVATE_REGISTRY,
            opened.seeded,
            opened.job,
            opened.attempt_id,
        )
        rows = {name: len(found) for name, found in asdict(added).items() if found}
    except QuantumExecError as error:
        registry_error = str(error)
    return Findings(
        there,
        [path for path in paths if path not in there],
        sorted(set(_files_in_repo(opened.directory)) - known),
        rows,
        registry_error,
    )


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _files_in_repo(sandbox: Path) -> Iterator[str]:
    for directory, _, files in os.walk(sandbox / names.REPO_DIR):
        for name in files:
            yield Path(directory, name).relative_to(sandbox).as_posix()


def finding_lines(opened: OpenSandbox, findings: Findings) -> Iterator[str]:
    """The findings as a person reads them."""
    labels = {
        f"{names.REPO_DIR}/{o.path}": f"{o.dataset_type} ({format_data_id(o.data_id)})"
        + (", optional" if o.optional else "")
        for o in opened.job.outputs
    }
    lines = [f"  made:       {path}  {labels[path]}" for path in findings.outputs]
    lines += [f"  missing:    {path}  {labels[path]}" for path in findings.missing_outputs]
    lines += [f"  unexpected: {path}" for path in findings.unexpected_files]
    yield "outputs:" if lines else "outputs: none predicted"
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"  … and {len(lines) - _SHOWN} more"
    if findings.registry_error is not None:
        yield f"registry: would fail the attempt: {findings.registry_error}"
    else:
        rows = [f"{table} {number}" for table, number in findings.added_rows.items()]
        yield f"registry: rows added: {', '.join(rows) or 'none'}"
