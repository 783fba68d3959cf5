# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec status``: how a RUN stands, by task label, without asking the schedd."""

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from executor.command_options import ConfigOption, EndpointOption, JsonOption

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from executor.submit.run_status import RunStatus
    from executor.submit.status_reading import StatusReader
    from transfer_plugins.object_store import ObjectStore

_WIDE = 100_000


def status(
    run: Annotated[str, typer.Argument(help="RUN that was submitted")],
    datastore: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option("--datastore", help="look at its deltas, too: s3://bucket/prefix"),
    ] = None,
    config: ConfigOption = None,
    directory: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--directory", help="directory of a submission, instead of the newest"),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="show it again and again, until the DAG has ended")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="seconds between two looks of --watch")
    ] = 10.0,
    failed: Annotated[bool, typer.Option("--failed", help="list every failed quantum")] = False,
    held: Annotated[bool, typer.Option("--held", help="list every held job")] = False,
    html: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--html", help="write a page with plots over time to this file"),
    ] = None,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell how a RUN stands: its quanta by task label and state, holds, failures, what is left.

    Reads the event logs of the DAG below submitPath, never the schedd. With --datastore the deltas
    are counted as well, and failures have their errors; where no submit directory is left, the
    datastore alone tells. With --watch --json each look is one line.

    Exit codes: 0 the DAG is under way or ended well; 1 it ended with failures, or was removed;
    2 no such RUN, directory or configuration; 38 datastore.

    Example: quantum-exec status u/me/night1 --datastore s3://bucket/repo --config submit.yaml
    """
    from executor.submit.configuration import read_submit_configuration
    from executor.submit.status_reading import StatusReader, status_of_datastore
    from executor.submit.submissions import NoSubmissionError, find_submissions
    from registry import names
    from transfer_plugins.object_store import open_store

    names.check_run(run)
    if html is not None and not os.access(html.parent, os.W_OK | os.X_OK):
        # Told now, and not when a DAG that is watched has ended.
        raise typer.BadParameter(
            f"--html: expected a directory that exists and can be written, "
            f"found {str(html.parent)!r}"
        )
    configuration = read_submit_configuration(config).with_endpoint(endpoint_url)
    store: ObjectStore | None = None
    if datastore is not None:
        store = open_store(datastore, endpoint_url=configuration.s3_endpoint_url or None)
    place = directory or Path(configuration.submit_path)
    found = find_submissions(place, run)
    if found:
        reader = StatusReader(run, found, store)
        last = _watch(reader, interval, failed, held, as_json) if watch else reader.read()
    elif store is not None and directory is None:
        reader, last = None, status_of_datastore(run, store)
    else:
        raise NoSubmissionError(
            f"RUN {run!r}: expected a submission below {str(place)!r}, found none; give --config "
            "or --directory, or --datastore for what the datastore alone tells"
        )
    if not watch or reader is None:
        _show(last, failed, held, as_json)
    if html is not None:
        _write_page(html, last, reader)
    raise typer.Exit(1 if last.is_bad else 0)


def _console() -> "Console":
    """Standard output; lines are not broken where nobody looks at them in a terminal."""
    from rich.console import Console

    found = Console()
    # An empty COLUMNS, as some CI systems set it, states no width.
    if not found.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        found.width = _WIDE
    return found


def _show(found: "RunStatus", failed: bool, held: bool, as_json: bool) -> None:
    from executor.submit.status_tables import status_view

    if as_json:
        print(json.dumps(found.as_dict()), flush=True)
    else:
        _console().print(status_view(found, failed=failed, held=held))


def _live(console: "Console") -> "Live":
    from rich.live import Live

    return Live(console=console, auto_refresh=False)


def _watch(
    reader: "StatusReader", interval_s: float, failed: bool, held: bool, as_json: bool
) -> "RunStatus":
    """Look until the DAG has ended, or somebody types Ctrl-C."""
    from executor.submit.status_tables import status_view

    found = reader.read()
    with ExitStack() as at_end:
        console = _console()
        in_place = console.is_terminal and not as_json
        live = at_end.enter_context(_live(console)) if in_place else None
        while True:
            if live is None:
                _show(found, failed, held, as_json)
            else:
                live.update(status_view(found, failed=failed, held=held), refresh=True)
            if found.is_over:
                return found
            try:
                time.sleep(interval_s)
            except KeyboardInterrupt:
                return found
            found = reader.read()


def _write_page(path: Path, found: "RunStatus", reader: "StatusReader | None") -> None:
    from executor.submit.status_page import status_page

    samples = [s for sub in reader.submissions for s in sub.log.series.samples] if reader else []
    try:
        path.write_text(status_page(found, samples), encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"--html {path}: {error.strerror}") from error
