# SPDX-License-Identifier: BSD-3-Clause
"""The command of a benchmark: its options, its table, its line of JSON."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping


def run_command(
    document: str, title: str, full: str, measure: Callable[[bool], Mapping[str, float | str]]
) -> None:
    """Measure, show a table, and with ``--json`` one line.

    Parameters
    ----------
    document
        Docstring of the benchmark; its first line is shown by ``--help``.
    full
        What ``--full`` does.
    measure
        Gives the figures by name; told whether ``--full`` was given.
    """
    parser = argparse.ArgumentParser(description=document.splitlines()[0] if document else None)
    parser.add_argument("--full", action="store_true", help=full)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    # So that what was started is stopped, and temporary files go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    figures = measure(options.full)
    # Only now: a child's peak RSS begins at what its parent had (execve(2) keeps the high mark).
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        table.add_row(name, value if isinstance(value, str) else f"{value:g}")
    Console(stderr=options.json).print(table)
    if options.json:
        print(json.dumps(figures))
