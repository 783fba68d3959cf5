# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge sweep``: objects that nothing names."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
