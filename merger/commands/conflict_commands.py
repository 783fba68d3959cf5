# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge conflicts``: what several attempts claim, and who decides."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
