# SPDX-License-Identifier: BSD-3-Clause
"""The command line: help, and no secret in arguments."""

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from merger.cli import app
from merger.exit_codes import ExitCode

COMMANDS = ["init", "migrate", "merge", "verify"]
runner = CliRunner()

ADDRESSES_WITH_A_SECRET = [
    "postgresql://user:hidden-word@host/name",
    "postgresql+psycopg://user:hidden-word@host/name",
    "postgresql://user@host/name?password=hidden-word",
    "host=h user=u password=hidden-word",
    "host=h sslpassword=hidden-word",
    # Nobody knows which part of it is the password.
    "garbage hidden-word =",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_explains_every_option(command: str) -> None:
    shown = runner.invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"Example: registry-merge {command}" in shown.output
    for parameter in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        assert parameter.help, parameter.name


def test_all_commands_are_tested() -> None:
    assert sorted(get_command(app).commands) == sorted(COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("address", ADDRESSES_WITH_A_SECRET)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("by_option", [True, False])
def test_secret_is_refused_and_not_repeated(command: str, address: str, by_option: bool) -> None:
    arguments = ["file:///nowhere", "u/run"] if command in ("merge", "verify") else []
    option = ["--database", address] if by_option else []
    environment = {} if by_option else {"REGISTRY_MERGE_DATABASE": address}
    ended = runner.invoke(app, [command, *arguments, *option], env=environment)
    assert ended.exit_code == ExitCode.USAGE
    assert ended.stderr.startswith("registry-merge: ")
    assert "hidden-word" not in ended.output


def test_no_database_at_all() -> None:
    ended = runner.invoke(app, ["init"], env={"REGISTRY_MERGE_DATABASE": ""})
    assert ended.exit_code == ExitCode.USAGE
    assert "no database given: use --database" in ended.stderr


@pytest.mark.parametrize("option", [["--batch-size", "0"], ["--threads", "0"], ["--nonsense"]])
def test_usage_errors(option: list[str]) -> None:
    ended = runner.invoke(app, ["merge", "file:///nowhere", "u/run", *option])
    assert ended.exit_code == ExitCode.USAGE


def test_exit_codes_are_distinct_and_documented() -> None:
    assert len(set(ExitCode)) == len(ExitCode.__members__) == 14
