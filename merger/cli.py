# SPDX-License-Identifier: BSD-3-Clause
"""The program ``registry-merge``: its commands are in `merger.commands`."""

import io
import sys

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
    schema_commands,
    sweep_command,
    verify_command,
)
from merger.exit_codes import ExitCode
from registry.hidden_words import has_secret

app = typer.Typer(
    help="Merge deltas of quantum-exec into the central registry (PostgreSQL).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

# In the order in which --help shows them.
for _module in (
    *(schema_commands, doctor_command, merge_command, verify_command),
    *(conflict_commands, quarantine_commands, forget_command, sweep_command, archive_command),
    *(collection_commands, ingest_commands, import_command),
):
    _module.add_to(app)


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
