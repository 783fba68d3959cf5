# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge import``: an SQLite registry into the central one."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
