# SPDX-License-Identifier: BSD-3-Clause
"""The command line: help, and no secret in arguments."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from merger.cli import app, main
from merger.exit_codes import ExitCode

_PLACE = ["file:///nowhere", "u/run"]
COMMANDS: dict[str, list[str]] = {
    **{"init": [], "migrate": [], "doctor": []},
    **dict.fromkeys(("merge", "verify", "sweep", "archive", "quarantine retry"), _PLACE),
    **{"requests": ["u/run"], "forget": ["u/run", "--yes"], "quarantine drop": ["u/run", "--all"]},
    "ingest-files": ["raw", "u/run", "table.csv"],
    "ingest-dimensions": ["visit", "table.csv"],
    "import": ["registry.sqlite3"],
    **{"conflicts list": [], "quarantine list": [], "collections list": []},
    "conflicts show": ["3f2a9c"],
    "conflicts settle": ["--run", "u/run", "--decision", "keep"],
    "collections chain": ["u/all", "u/run"],
    "collections show": ["u/all"],
}
"""Every command, with what it must be given."""

_FILE_FIRST = {"ingest-files", "ingest-dimensions", "import"}
WITH_DATABASE = sorted(COMMANDS.keys() - {"archive"} - _FILE_FIRST)
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
    shown = runner.invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert f"Example: registry-merge {command}" in shown.output
    for parameter in dict(all_commands(get_command(app), ()))[command].params:
        assert parameter.help, parameter.name


def test_help_is_broken_where_the_terminal_ends() -> None:
    shown = runner.invoke(app, ["merge", "--help"], env={"COLUMNS": "80"})
    assert "same. SIGTERM lets it finish what it has begun" in " ".join(shown.output.split())
    lines = [line.strip() for line in shown.output.split("Arguments")[0].splitlines()]
    assert min(len(line) for line in lines[5:-3] if line) > 40


def test_version() -> None:
    shown = runner.invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"registry-merge {version('quantum-exec')}\n")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--poll", "3"], "--poll: expected --follow"),
        (["--retries", "0"], "--retries: expected --follow"),
        (
            ["--follow", "--retries", "1", "--dag-status", "s"],
            "--retries: expected no --dag-status",
        ),
        (["--dag-status", "/nowhere/node-status.txt"], "found no such directory: '/nowhere/"),
        (["--dag-status", "/"], "found something else: '/'"),
        (["--follow", "--dag-status", "/"], "found something else: '/'"),
        (["--dry-run", "--follow"], "--follow: expected no --dry-run"),
        (["--dry-run", "--dag-status", "status"], "--dag-status: expected no --dry-run"),
        (["--dry-run", "--output-chain", "u/all"], "--output-chain: expected no --dry-run"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], message: str) -> None:
    ended = runner.invoke(app, ["merge", *_PLACE, *options])
    assert ended.exit_code == ExitCode.USAGE
    assert message in ended.stderr


def all_commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The commands below one, by what a person types."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(words), command
    for word, child in (below or {}).items():
        yield from all_commands(child, (*words, word))


def test_all_commands_are_tested() -> None:
    assert {words for words, _ in all_commands(get_command(app), ())} == COMMANDS.keys()


@pytest.mark.parametrize("address", ADDRESSES_WITH_A_SECRET)
@pytest.mark.parametrize("command", WITH_DATABASE)
@pytest.mark.parametrize("by_option", [True, False])
def test_secret_is_refused_and_not_repeated(command: str, address: str, by_option: bool) -> None:
    option = ["--database", address] if by_option else []
    environment = {} if by_option else {"REGISTRY_MERGE_DATABASE": address}
    words = [*command.split(), *COMMANDS[command], *option]
    ended = runner.invoke(app, words, env=environment)
    assert ended.exit_code == ExitCode.USAGE
    assert ended.stderr.startswith("registry-merge: ")
    assert "hidden-word" not in ended.output


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", [[], ["--endpoint-url"], ["--config"], ["--batch-size"]])
def test_no_word_with_a_secret_is_repeated(
    command: str,
    option: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wherever it stands: a message about a wrong word would show it."""
    words = [*command.split(), *COMMANDS[command], *option, "http://key:hidden-word@host:1/x"]
    monkeypatch.setattr("sys.argv", ["registry-merge", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (ExitCode.USAGE, "")
    assert told.err.startswith(f"registry-merge: argument {len(words)} holds a password or key: ")
    assert "hidden-word" not in told.err


@pytest.mark.parametrize("key", ["endpoint_url", "datastore"])
def test_addresses_with_a_secret_in_the_file(key: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    lines = {"datastore": "s3://b/x", "endpoint_url": "http://h", key: "s3://a:hidden-word@b/x"}
    path.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    ended = runner.invoke(app, ["archive", "u/run", "--config", str(path), "--json"])
    assert ended.exit_code == ExitCode.USAGE, ended.output
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
