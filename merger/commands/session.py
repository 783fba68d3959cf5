# SPDX-License-Identifier: BSD-3-Clause
"""What every command does around its work: open things, report, turn errors into messages."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import typer
from rich.console import Console

from merger.failures import exit_code_of, message_of
from merger.settings import ConfigFile, SettingsError, database_address, read_config
from registry.errors import QuantumExecError
from transfer_plugins.object_store import ObjectStore, open_store

if TYPE_CHECKING:
    from merger.central_registry import CentralRegistry
    from merger.conflict_policy import ConflictPolicies
    from merger.progress import Progress

Report = Callable[[dict[str, object], Callable[[Console], None]], None]


@contextmanager
def reported(as_json: bool) -> Iterator[Report]:
    """Give a function that reports in the form asked for, and turn errors into messages."""

    def report(as_object: dict[str, object], show: Callable[[Console], None]) -> None:
        if as_json:
            print(json.dumps(as_object))
        else:
            show(Console())

    try:
        yield report
    except (QuantumExecError, psycopg.Error) as error:
        error_type = getattr(error, "error_type", "central_registry")
        message, code = message_of(error), exit_code_of(error)
        if as_json:
            told = {"error_type": error_type, "message": message, "exit_code": int(code)}
            print(json.dumps(told))
        print(f"registry-merge: {message}", file=sys.stderr)
        raise typer.Exit(code) from None


@contextmanager
def open_registry(
    database: str | None, config: Path | None, on_wait: Callable[[str], None] | None = None
) -> Iterator["CentralRegistry"]:
    """Give the central registry that options and configuration name; closed at the end."""
    from merger.central_registry import CentralRegistry

    address = database_address(database, read_config(config))
    with CentralRegistry(address, on_wait=on_wait) as registry:
        yield registry


def open_datastore(
    names: list[str], config: Path | None, endpoint_url: str | None
) -> tuple[ObjectStore, str, ConfigFile]:
    """Return the datastore and the RUN of a command line ``[DATASTORE] RUN``.

    Returns
    -------
    store, run, config
        The last one is what the configuration file says.

    Raises
    ------
    SettingsError
        If there are too many names or too few.
    transfer_plugins.object_store.InvalidDatastoreError
    """
    read = read_config(config)
    if len(names) == 2:
        datastore, run = names
    elif len(names) == 1 and read.datastore is not None:
        datastore, run = read.datastore, names[0]
    else:
        raise SettingsError(
            f"expected DATASTORE and RUN, or a RUN and 'datastore' in --config, found {names}"
        )
    return open_store(datastore, endpoint_url=endpoint_url or read.endpoint_url), run, read


def policies_of(on_conflict: list[str] | None, config: ConfigFile) -> "ConflictPolicies":
    """Return the conflict policies of options, or else of the configuration file.

    Raises
    ------
    merger.conflict_policy.PolicyError
    """
    from merger.conflict_policy import parse

    return parse(on_conflict or config.on_conflict or [])


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator["Progress"]:
    """Show progress on stderr: a bar on a terminal, else a line now and then."""
    from merger.shown_progress import shown_progress

    with shown_progress(sys.stderr, title, quiet=quiet) as progress:
        yield progress
