# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge collections``: RUNs and the chains made of them."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
