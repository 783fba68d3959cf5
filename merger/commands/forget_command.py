# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge forget``: taking out what a RUN or a quantum put in."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
