# SPDX-License-Identifier: BSD-3-Clause
"""A bundle, made once in a session by the command, and a Python that has nothing else."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import plugin_process

BARE_PYTHON: list[str | Path] = [sys.executable, "-I", "-S"]
"""No site packages, no variable of Python's: what a worker has that nobody prepared."""


def make_bundle(directory: Path, *words: str, **options: Any) -> dict[str, Any]:
    """Make a bundle; returns what the command reports."""
    program = Path(sys.executable).with_name("quantum-exec")
    command: list[str | Path] = [program, "bundle", "--output", directory]
    done = subprocess.run(
        [*command, "--json", *words], capture_output=True, text=True, check=True, **options
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a bundle."""
    directory = tmp_path_factory.mktemp("bundle")
    make_bundle(directory)
    return directory


@pytest.fixture(params=["installed", "bundled"])
def plugin_command(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> list[str | Path]:
    """The plugin as it is installed, and as it travels with a job; what `PluginCall` starts."""
    command: list[str | Path] = [*plugin_process.COMMAND]
    if request.param == "bundled":
        directory = request.getfixturevalue("bundle")
        command = [*BARE_PYTHON, directory / "quantum_exec_plugin"]
    monkeypatch.setattr(plugin_process, "COMMAND", command)
    return command
