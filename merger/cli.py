# SPDX-License-Identifier: BSD-3-Clause
"""The program ``registry-merge``: its commands are in `merger.commands`."""

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
    app()


if __name__ == "__main__":
    main()
