# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge quarantine``: bad deltas and what becomes of them."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
