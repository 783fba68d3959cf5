# SPDX-License-Identifier: BSD-3-Clause
"""The program ``registry-merge``: its commands are in `merger.commands`."""

import importlib.metadata
import inspect
import io
import re
import sys
from typing import Annotated

import typer

from merger.commands import (
    archive_command,
    collection_commands,
    conflict_commands,
    doctor_command,
    forget_command,
    import_command,
    ingest_commands,
    merge_command,
    quarantine_commands,
    requests_command,
    schema_commands,
    sweep_command,
    verify_command,
)
from merger.exit_codes import ExitCode
from registry.hidden_words import has_secret

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"registry-merge {importlib.metadata.version('quantum-exec')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Merge deltas of quantum-exec into the central registry (PostgreSQL)."""


# In the order in which --help shows them.
for _module in (
    *(schema_commands, doctor_command, merge_command, verify_command),
    *(conflict_commands, quarantine_commands, forget_command, sweep_command, archive_command),
    *(collection_commands, ingest_commands, import_command, requests_command),
):
    _module.add_to(app)


def _join_lines(group: typer.Typer) -> None:
    """Let help texts break where the terminal ends, and not where the lines of the source do."""
    for command in group.registered_commands:
        text = inspect.getdoc(command.callback) or ""
        command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", text)
    for registered in group.registered_groups:
        if registered.typer_instance is not None:
            _join_lines(registered.typer_instance)


_join_lines(app)


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may be no UTF-8, and a terminal may know fewer characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    _refuse_secrets(sys.argv[1:])
    app()


def _refuse_secrets(words: list[str]) -> None:
    """End before anything repeats a word with a secret, as messages about wrong words do."""
    for number, word in enumerate(words, 1):
        if has_secret(word):
            print(
                f"registry-merge: argument {number} holds a password or key: expected none, "
                "because every user of this machine can read it; put that of the database in "
                "~/.pgpass, a libpq service file, PGPASSWORD, or a private file given by --config",
                file=sys.stderr,
            )
            sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    main()
