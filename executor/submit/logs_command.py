# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec logs``: what tasks wrote, from the datastore, for one quantum or for many."""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TextIO

import typer

from executor.command_options import (
    DataIdsOption,
    DatastoreOption,
    EndpointOption,
    JsonOption,
    QuantaOption,
    TasksOption,
)
from executor.terminal_text import plain
from registry.errors import FormatError

if TYPE_CHECKING:
    from executor.submit.attempt_logs import AttemptLog


def logs(
    run: Annotated[str, typer.Argument(help="RUN of the quanta")],
    datastore: DatastoreOption,
    quantum: QuantaOption = None,
    task: TasksOption = None,
    data_id: DataIdsOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="only quanta whose newest attempt failed")
    ] = False,
    attempt: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option("--attempt", help="this attempt, not the newest"),
    ] = None,
    all_attempts: Annotated[
        bool, typer.Option("--all-attempts", help="every attempt, oldest first")
    ] = False,
    grep: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--grep", help="only lines that this regular expression finds"),
    ] = None,
    tail: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--tail", min=0, help="only so many lines at the end"),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", help="directory to write them to, one file for each attempt"),
    ] = None,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the logs of quanta: of the newest attempt of each, unless others are asked for.

    Several criteria narrow the selection, several values of one widen it. An attempt that left no
    log, or a damaged one, is told.

    Exit codes: 1 none of the attempts left a whole log; 2 no such RUN, quantum or attempt, or a
    wrong regular expression; 38 datastore.

    Example: quantum-exec logs u/me/night1 --failed --tail 20 --datastore s3://bucket/repo
    """
    from executor.graph.selection import Selection
    from executor.submit.attempt_logs import fetch_logs, select_attempts
    from executor.submit.bucket_run import read_bucket_run
    from transfer_plugins.object_store import open_store

    if not (quantum or task or data_id or failed or attempt):
        raise typer.BadParameter(
            "expected --quantum, --task, --data-id, --failed or --attempt, found none"
        )
    if attempt and all_attempts:
        raise typer.BadParameter("expected --attempt or --all-attempts, found both")
    try:
        pattern = re.compile(grep) if grep is not None else None
    except re.error as error:
        raise typer.BadParameter(f"--grep: expected a regular expression, {error}") from error
    bucket = read_bucket_run(open_store(datastore, endpoint_url=endpoint_url), run)
    selection = Selection.of(quantum or (), task or (), data_id or ())
    attempts = select_attempts(
        bucket, selection, failed=failed, attempt_id=attempt, all_attempts=all_attempts
    )
    with tempfile.TemporaryDirectory(prefix="quantum-exec-logs-") as scratch:
        found = fetch_logs(bucket, attempts, Path(scratch))
        if as_json:
            n_found = _print_json(run, found, pattern, tail)
        elif output is not None:
            n_found = _write(found, pattern, tail, output)
        else:
            n_found = _print(found, pattern, tail)
    raise typer.Exit(1 if attempts and not n_found else 0)


def _print_json(
    run: str, found: Iterator["AttemptLog"], pattern: re.Pattern[str] | None, tail: int | None
) -> int:
    """One object, written log by log; returns how many logs there are."""
    print(f'{{"run": {json.dumps(run)}, "logs": [', end="")
    n_found = 0
    for number, log in enumerate(found):
        told = _as_object(log, pattern, tail)
        n_found += told["missing"] is None
        print(", " if number else "", json.dumps(told), sep="", end="")
    print("]}")
    return n_found


def _as_object(
    log: "AttemptLog", pattern: re.Pattern[str] | None, tail: int | None
) -> dict[str, Any]:
    from executor.submit.attempt_logs import lines_of

    lines: list[str] = []
    missing = log.missing
    try:
        lines.extend(lines_of(log, pattern, tail))
    except FormatError as error:
        missing = str(error)
    return {
        "quantum_id": log.quantum.quantum_id,
        "task_label": log.quantum.task_label,
        "data_id": log.quantum.data_id,
        "attempt_id": log.attempt_id,
        "status": log.status,
        "error": log.error,
        "log_key": log.key,
        "missing": missing,
        "lines": lines,
    }


def _header(log: "AttemptLog") -> str:
    from registry.model import format_data_id

    quantum = log.quantum
    told = (
        f"==> {quantum.task_label} ({format_data_id(quantum.data_id)}), quantum "
        f"{quantum.quantum_id}, attempt {log.attempt_id}: {log.status or 'left no delta'}"
    )
    first = next(iter((log.error or "").strip().splitlines()), "")
    return plain(f"{told}: {first}" if first else told)


def _print(found: Iterator["AttemptLog"], pattern: re.Pattern[str] | None, tail: int | None) -> int:
    """Logs to standard output; a terminal is not given the control sequences of a task."""
    is_terminal = sys.stdout.isatty()
    n_found = 0
    for log in found:
        print(_header(log))
        n_found += _copy(log, pattern, tail, sys.stdout, plain if is_terminal else str)
    return n_found


def _write(
    found: Iterator["AttemptLog"], pattern: re.Pattern[str] | None, tail: int | None, output: Path
) -> int:
    n_found = 0
    for log in found:
        name = f"{log.quantum.task_label}.{log.quantum.quantum_id}.{log.attempt_id}.log"
        if log.missing:
            print(f"{_header(log)}: {plain(log.missing)}", file=sys.stderr)
            continue
        try:
            output.mkdir(parents=True, exist_ok=True)
            with (output / name).open("w", encoding="utf-8") as file:
                n_found += _copy(log, pattern, tail, file, str)
        except OSError as error:
            raise typer.BadParameter(f"--output {output}: {error.strerror}") from error
    print(f"{n_found} logs written to {output}")
    return n_found


def _copy(
    log: "AttemptLog",
    pattern: re.Pattern[str] | None,
    tail: int | None,
    target: TextIO,
    shown: Callable[[str], str],
) -> bool:
    """Copy the lines; false if there are none to be had, or not all, which is told."""
    from executor.submit.attempt_logs import lines_of

    missing = log.missing
    try:
        for line in lines_of(log, pattern, tail):
            target.write(f"{shown(line)}\n")
    except FormatError as error:
        missing = str(error)
    if missing:
        # Behind the lines that there are.
        target.flush()
        print(plain(missing), file=sys.stderr)
    return not missing
