# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge archive``: the deltas of a RUN as a few Parquet files."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
