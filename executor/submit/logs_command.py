# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec logs``: what tasks wrote, from the datastore, for one quantum or for many."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

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
    log is told.

    Exit codes: 1 none of the attempts left a log; 2 no such RUN, quantum or attempt, or a wrong
    regular expression; 38 datastore.

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
    found = fetch_logs(bucket, attempts)
    if as_json:
        told = [_as_object(log, pattern, tail) for log in found]
        print(json.dumps({"run": run, "logs": told}))
    elif output is not None:
        _write(found, pattern, tail, output)
    else:
        _print(found, pattern, tail)
    raise typer.Exit(1 if found and all(log.missing for log in found) else 0)


def _as_object(
    log: "AttemptLog", pattern: re.Pattern[str] | None, tail: int | None
) -> dict[str, Any]:
    from executor.submit.attempt_logs import lines_of

    return {
        "quantum_id": log.quantum.quantum_id,
        "task_label": log.quantum.task_label,
        "data_id": log.quantum.data_id,
        "attempt_id": log.attempt_id,
        "status": log.status,
        "error": log.error,
        "log_key": log.key,
        "missing": log.missing,
        "lines": list(lines_of(log, pattern, tail)),
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


def _print(found: list["AttemptLog"], pattern: re.Pattern[str] | None, tail: int | None) -> None:
    """Logs to standard output; a terminal is not given the control sequences of a task."""
    from executor.submit.attempt_logs import lines_of

    is_terminal = sys.stdout.isatty()
    for log in found:
        print(_header(log))
        if log.missing:
            print(plain(log.missing), file=sys.stderr)
        for line in lines_of(log, pattern, tail):
            print(plain(line) if is_terminal else line)


def _write(
    found: list["AttemptLog"], pattern: re.Pattern[str] | None, tail: int | None, output: Path
) -> None:
    from executor.submit.attempt_logs import lines_of

    output.mkdir(parents=True, exist_ok=True)
    n_written = 0
    for log in found:
        if log.missing:
            print(f"{_header(log)}: {plain(log.missing)}", file=sys.stderr)
            continue
        name = f"{log.quantum.task_label}.{log.quantum.quantum_id}.{log.attempt_id}.log"
        text = "".join(f"{line}\n" for line in lines_of(log, pattern, tail))
        (output / name).write_text(text)
        n_written += 1
    print(f"{n_written} logs written to {output}")
