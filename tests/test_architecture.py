# SPDX-License-Identifier: BSD-3-Clause
"""Rules for the whole tree: who imports whom, what a worker loads, help texts, names, sizes."""

import argparse
import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer

from executor import worker_command
from tests.wrapper_process import make_function_sandbox, make_sandbox

ROOT = Path(__file__).parents[1]
PACKAGES = ("registry", "transfer_plugins", "executor", "merger")
SOURCES = sorted(p for name in (*PACKAGES, "benchmarks") for p in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MAX_LINES = 400
MAX_LINES_OF_A_TEST_FILE = 450
MAX_FUNCTION_LINES = 60
MAX_TEST_LINES = 25

BANNED_WORDS = {"manager", "handler", "helper", "helpers", "util", "utils", "common", "misc"}
BANNED_NAMES = {"process", "data", "info", "payload", "item", "items", "base", "core", "main"}

# What a worker must never load for a quantum whose sandbox is staged in.
NOT_ON_A_WORKER = {
    *("boto3", "botocore", "s3transfer", "sqlalchemy", "alembic", "psycopg", "htcondor2"),
    *("classad2", "pyarrow", "msgspec", "typer", "click", "pydantic", "rich", "yaml", "numpy"),
    *(
        "executor.graph",
        "executor.submit",
        "executor.cli",
        "executor.demo",
        "registry.tables",
        "merger",
    ),
}


def name_of(path: Path) -> str:
    """A file as people name it."""
    return path.relative_to(ROOT).as_posix()


def test_import_rules_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


def loaded(modules: str) -> set[str]:
    """What is not for workers, among modules in one line each."""
    names = modules.split()
    assert "registry.delta" in names or "registry.job" in names, "these are no modules"
    parents = {".".join(name.split(".")[:n]) for name in names for n in (1, 2)}
    return parents & NOT_ON_A_WORKER


LIST_MODULES = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, sep="\\n"))
from executor.__main__ import main
sys.argv = ["quantum-exec", "run"]
main()
"""


def test_worker_loads_nothing_of_the_submit_side(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES], cwd=sandbox.directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert loaded(done.stdout) == set()
    assert len(sandbox.delta().rows.dataset) == 1


def test_process_of_a_function_loads_nothing_of_the_submit_side(tmp_path: Path) -> None:
    source = (
        "import sys\ndef main(repo):\n    repo.put('\\n'.join(sys.modules).encode(), 'calexp')\n"
    )
    sandbox = make_function_sandbox(tmp_path, source)
    assert sandbox.run()[0] == 0
    assert loaded(sandbox.output.read_text()) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_ours(package: str) -> None:
    assert importlib.import_module(package).__file__ == str(ROOT / package / "__init__.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_can_be_imported(package: str) -> None:
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not module.name.endswith((".__main__", ".env")) and ".versions." not in module.name:
            importlib.import_module(module.name)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_says_its_licence_and_its_subject(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("# SPDX-License-Identifier: BSD-3-Clause\n")
    assert ast.get_docstring(ast.parse(text)), "there is no docstring"


@pytest.mark.parametrize("path", [p for p in TESTS if p.stem != "__init__"], ids=name_of)
def test_test_module_says_its_subject(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("# SPDX-License-Identifier: BSD-3-Clause\n")
    assert ast.get_docstring(ast.parse(text)), "there is no docstring"


def test_no_file_is_too_long() -> None:
    for paths, limit in ((SOURCES, MAX_LINES), (TESTS, MAX_LINES_OF_A_TEST_FILE)):
        lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in paths}
        assert {name: length for name, length in lengths.items() if length > limit} == {}


def functions(paths: list[Path]) -> Iterator[tuple[str, int]]:
    """The functions in some files, with the lines of their bodies."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.body[0].lineno + 1
                yield f"{name_of(path)}::{node.name}", lines


def test_no_function_is_too_long() -> None:
    # A migration is a list of statements, and is never changed once it is released.
    paths = [path for path in SOURCES if path.parent.name != "versions"]
    assert {n: lines for n, lines in functions(paths) if lines > MAX_FUNCTION_LINES} == {}


def test_no_test_is_too_long() -> None:
    found = {n: lines for n, lines in functions(TESTS) if "::test_" in n and lines > MAX_TEST_LINES}
    assert found == {}


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name_of)
def test_name_says_what_is_in_it(path: Path) -> None:
    words = path.stem.removeprefix("test_").split("_")
    assert not BANNED_WORDS & set(words)
    assert path.stem not in BANNED_NAMES


def test_no_module_has_the_name_of_another_ones_package() -> None:
    others = {"boto3", "botocore", "htcondor", "htcondor2", "classad2", "moto", "psycopg"}
    stems = {path.stem for path in SOURCES}
    assert not stems & others
    top = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert not top & sys.stdlib_module_names


@pytest.mark.parametrize(
    "package",
    [*PACKAGES, "executor.graph", "executor.submit", "executor.bundle", "merger.commands"],
)
def test_package_door_names_every_module(package: str) -> None:
    found = importlib.import_module(package)
    names = {m.name for m in pkgutil.iter_modules(found.__path__)} - {"__main__"}
    told = found.__doc__ or ""
    assert {name for name in names if f"`{name}`" not in told} == set()


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and all below it."""
    yield name, command
    for child, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {child}")


def all_commands() -> dict[str, Any]:
    """Every command of both programs, by what a person types."""
    from executor.cli import app as quantum_exec
    from merger.cli import app as registry_merge

    programs = {"quantum-exec": quantum_exec, "registry-merge": registry_merge}
    found = (commands(typer.main.get_command(app), name) for name, app in programs.items())
    return {name: command for pairs in found for name, command in pairs}


@pytest.mark.parametrize("name", all_commands())
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = all_commands()[name]
    assert command.help
    shown = [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    assert [p.name for p in shown if not getattr(p, "help", None)] == []


def test_every_option_of_the_worker_command_has_a_help_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsers: list[argparse.ArgumentParser] = []

    def look(parser: argparse.ArgumentParser, arguments: object) -> NoReturn:
        parsers.append(parser)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", look)
    with pytest.raises(SystemExit):
        worker_command.main([])
    (parser,) = parsers
    assert parser.description
    assert [action.dest for action in parser._actions if not action.help] == []


@pytest.mark.parametrize("name", all_commands())
def test_help_can_be_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *words = name.split()
    (script,) = entry_points(group="console_scripts", name=program)
    monkeypatch.setattr(sys, "argv", [program, *words, "--help"])
    with pytest.raises(SystemExit) as ended:
        script.load()()
    assert not ended.value.code
    assert "usage:" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("program", ["quantum-exec", "registry-merge"])
def test_programs_are_installed(program: str) -> None:
    script = Path(sys.executable).with_name(program)
    done = subprocess.run([script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout.lower()
