# SPDX-License-Identifier: BSD-3-Clause
"""The commands that the documents show are run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from executor.submit.configuration import read_submit_configuration

ROOT = Path(__file__).parents[2]
# These need a pool and are run by tests/pool with the same words.
_POOL_COMMANDS = ("submit", "status", "logs", "pause", "rerun")
_ON_A_POOL = tuple(f"quantum-exec {name}" for name in _POOL_COMMANDS)


def shell_blocks(document: Path) -> list[str]:
    """The blocks of a document that are marked as shell."""
    return re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)


def run_block(block: str, directory: Path) -> str:
    """Run a block in a copy of the project's configuration; returns what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the project's configuration, to run commands in."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("u"))
    return tmp_path


def test_the_tour_of_the_readme_runs_as_it_stands(project: Path, empty_database: str) -> None:
    """Local run, a look at a delta, init, merge and verify; the database is ours."""
    blocks = shell_blocks(ROOT / "README.md")
    local = [block for block in blocks if not block.startswith(_ON_A_POOL)]
    assert len(local) == 4
    printed = [run_block(b.replace("postgresql:///survey", empty_database), project) for b in local]
    assert "summarize" in printed[0]
    assert '"status":"successful"' in printed[1]
    assert "\tput\tfile:///" in printed[2]
    assert "equal" in printed[3]


def test_commands_of_the_pool_tier_are_known(project: Path) -> None:
    """The other commands of the README exist with these options."""
    blocks = [b for b in shell_blocks(ROOT / "README.md") if b.startswith(_ON_A_POOL)]
    words = [w for line in "".join(blocks).splitlines() for w in line.split("#")[0].split()]
    printed = "".join(
        run_block(f"COLUMNS=200 quantum-exec {name} --help", project) for name in _POOL_COMMANDS
    )
    for option in (word for word in words if word.startswith("--")):
        assert option in printed


def test_the_guide_tells_how_workers_get_the_programs(project: Path) -> None:
    """Its one command makes a bundle, its settings are those of a submit configuration."""
    guide = (ROOT / "docs/pool.md").read_text()
    section = guide.partition("## How a worker gets the programs")[2].partition("\n## ")[0]
    (project / "section.md").write_text(section)
    [block] = shell_blocks(project / "section.md")
    assert "worker.pyz" in run_block(block, project)
    made = {path.name for path in (project / "bundle").iterdir()}
    assert made == {"quantum_exec_plugin", "worker.pyz", "bundle.json"}
    [settings] = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    (project / "submit.yaml").write_text(f"{settings}bundle: {project / 'bundle'}\n")
    found = read_submit_configuration(project / "submit.yaml").requests_of("isr", None)
    assert "qs3" in found.submit_lines["requirements"]
    for name in re.findall(r"`(configs/[^`]+)`", section):
        assert (ROOT / name).is_file(), name
