# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge ingest-files`` and ``ingest-dimensions``: existing objects and records."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
