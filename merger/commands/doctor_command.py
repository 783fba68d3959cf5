# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge doctor``: is this place fit for a merge?"""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
