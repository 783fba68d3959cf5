# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec shell``: options, banner and report; the work is in `executor.submit.shell`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from executor.command_options import DatastoreOption, EndpointOption, JsonOption
from executor.terminal_text import plain

if TYPE_CHECKING:
    from executor.submit.shell import OpenSandbox
    from executor.submit.shell_findings import Findings
    from registry.delta import Delta
    from registry.job import Job

_ERROR_LINES = 15


def shell(
    run: Annotated[str, typer.Argument(help="RUN of the quantum")],
    datastore: DatastoreOption,
    command: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it at run time
        typer.Argument(help="what to run in the sandbox, behind --; default: your $SHELL"),
    ] = None,
    quantum: Annotated[Optional[str], typer.Option("--quantum", help="quantum id")] = None,  # noqa: UP045
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--task", help="task label of the quantum, instead of its id"),
    ] = None,
    data_id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--data-id", help='data ID of the quantum: "exposure=3,detector=1"'),
    ] = None,
    attempt: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--attempt", help="take the inputs that this attempt read, not the newest"),
    ] = None,
    sandbox: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--sandbox", help="empty or new directory; default: a new one below this"),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="only print the log of the attempt, and open nothing")
    ] = False,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open a quantum's sandbox again: inputs staged, registry seeded, environment of the task.

    The inputs are those that the newest attempt read. In the sandbox ./run-task runs the task,
    and registry.sqlite3 is its private registry. Nothing is ever committed from there; the
    sandbox stays until you remove it. Behind -- stands a command to run in the place of a shell;
    its exit code is passed on. With no terminal and no command the sandbox is only made, and
    its path printed.

    Exit codes: 2 no such RUN, quantum or attempt; 30 an input was not made yet; 37 the sandbox
    cannot be written, or is not empty; 38 datastore.

    Example: quantum-exec shell u/me/night1 --quantum ID --datastore s3://bucket/repo

    Example: quantum-exec shell u/me/night1 --task isr --data-id exposure=3
    --datastore s3://bucket/repo -- sqlite3 registry.sqlite3 .dump
    """
    from executor.graph.selection import Selection, SelectionError
    from executor.sandbox import make_empty_sandbox
    from executor.submit.shell import find_job, former_attempt, log_of, open_sandbox
    from executor.submit.shell_findings import look_into
    from transfer_plugins.object_store import open_store

    wanted = Selection.of(*([found] if found else [] for found in (quantum, task, data_id)))
    if wanted.is_everything:
        raise SelectionError("expected --quantum, or --task and --data-id, found none of them")
    store = open_store(datastore, endpoint_url=endpoint_url)
    job = find_job(store, run, wanted)
    former = former_attempt(store, job, attempt)
    if log:
        sys.stdout.buffer.write(log_of(store, job, former))
        return
    with make_empty_sandbox(job.task_label, sandbox) as directory:
        opened = open_sandbox(job, store, directory, former, Path.cwd())
    code = _work_in(opened, command or [], as_json)
    findings = look_into(opened)
    _tell(opened, findings, command or [], code, as_json)
    raise typer.Exit(code or 0)


def _work_in(opened: "OpenSandbox", command: list[str], as_json: bool) -> int | None:
    """Run the command, or a shell for who sits at a terminal; None if there was nothing to run.

    The code of a shell is that of whatever was typed last in it, so it is not passed on.
    """
    from executor.submit.shell import login_shell, run_in

    if command:
        return run_in(opened, command, sys.stderr if as_json else sys.stdout)
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    print("\n".join(_banner(opened)))
    run_in(opened, login_shell())
    return None


def _tell(
    opened: "OpenSandbox", findings: "Findings", command: list[str], code: int | None, as_json: bool
) -> None:
    from dataclasses import asdict

    from executor.submit.shell_findings import finding_lines

    if as_json:
        print(json.dumps({**_as_object(opened), **asdict(findings), "exit_code": code}))
        return
    is_alone = not command and not sys.stdout.isatty()
    if not is_alone:
        for line in finding_lines(opened, findings):
            print(plain(line), file=sys.stderr)
    # Alone the path is all that is printed, for the `cd "$(…)"` of a script.
    print(
        opened.directory if is_alone else f"sandbox: {opened.directory}",
        file=sys.stdout if is_alone else sys.stderr,
    )


def _as_object(opened: "OpenSandbox") -> dict[str, object]:
    job, former = opened.job, opened.former
    return {
        "run": job.run,
        "quantum_id": job.quantum_id,
        "task_label": job.task_label,
        "data_id": job.data_id,
        "sandbox": str(opened.directory),
        "attempt_id": former.attempt_id if former else None,
        "status": former.status if former else None,
        "error": former.error if former else None,
        "log_key": former.log_key if former else None,
        "missing_inputs": opened.missing,
    }


def _banner(opened: "OpenSandbox") -> list[str]:
    from registry import names
    from registry.model import format_data_id

    job = opened.job
    missing = [
        f"missing:  {i.dataset_type} ({plain(format_data_id(i.data_id))}), which no attempt made"
        for i in job.inputs
        if i.dataset_id in opened.missing
    ]
    return [
        f"quantum:  {job.quantum_id}",
        f"task:     {job.task_label} ({plain(format_data_id(job.data_id))}), RUN {job.run}",
        *_of_attempt(job, opened.former),
        f"sandbox:  {opened.directory}",
        f"          {names.REPO_DIR}/  inputs, and the outputs that the task makes",
        f"          ./run-task  runs the task, from fresh; sqlite3 {names.PRIVATE_REGISTRY}",
        *missing,
        "Nothing is committed from here. Leave with exit or Ctrl-D; the sandbox stays.",
    ]


def _of_attempt(job: "Job", former: "Delta | None") -> list[str]:
    if former is None:
        return ["attempt:  none left a delta; the inputs are those of now"]
    lines = plain(former.error or "").splitlines()[-_ERROR_LINES:]
    return [
        f"attempt:  {former.attempt_id}, {former.status}, {former.finished} on {former.host}",
        *(f"error:    {line}" if n == 0 else f"          {line}" for n, line in enumerate(lines)),
        f"log:      {former.log_key} (quantum-exec shell … --log prints it)",
    ]
