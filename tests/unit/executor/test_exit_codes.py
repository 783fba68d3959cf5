# SPDX-License-Identifier: BSD-3-Clause
"""The table of exit codes in the documents, and what errors end with."""

import enum
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import executor
from executor import exit_codes
from executor.__main__ import _CODES
from executor.cli import app
from merger import exit_codes as merge_exit_codes
from registry.errors import QuantumExecError

DOCUMENT = Path(__file__).parents[3] / "docs" / "exit-codes.md"
ROW = re.compile(r"^\| (\d+) \| ([A-Z_]+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "codes"),
    [("## quantum-exec", exit_codes.ExitCode), ("## registry-merge", merge_exit_codes.ExitCode)],
)
def test_table_has_every_code_and_no_other(heading: str, codes: type[enum.IntEnum]) -> None:
    chapter = DOCUMENT.read_text().partition(f"{heading}\n")[2].partition("\n## ")[0]
    rows = [(int(code), name) for code, name, *_ in ROW.findall(chapter)]
    assert rows == [(code.value, code.name) for code in codes]


def test_the_field_s_codes_are_the_field_s() -> None:
    code = exit_codes.ExitCode
    assert (code.SUCCESS, code.FAILED, code.USAGE) == (0, 1, 2)
    assert (code.REPEATABLE, code.INVALID_QUANTUM) == (20, 21)


def all_errors(above: type[QuantumExecError] = QuantumExecError) -> dict[str, str]:
    """The classes of our errors that are imported, by their ``error_type``."""
    found = {above.error_type: above.__name__}
    for below in above.__subclasses__():
        found.update(all_errors(below))
    return found


def test_every_error_with_a_code_of_its_own_exists() -> None:
    for found in pkgutil.walk_packages(executor.__path__, "executor."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    assert set(_CODES) - set(all_errors()) == set()


def all_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The commands below one, by what a person types."""
    below = getattr(command, "commands", {})
    if not below:
        yield name, command
    for child, found in below.items():
        yield from all_commands(found, f"{name} {child}")


@pytest.mark.parametrize("name", dict(all_commands(typer.main.get_command(app), "quantum-exec")))
def test_help_of_every_command_has_an_example(name: str) -> None:
    command = dict(all_commands(typer.main.get_command(app), "quantum-exec"))[name]
    assert f"Example: {name} " in " ".join(str(command.help).split())
