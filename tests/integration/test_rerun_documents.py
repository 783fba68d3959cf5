# SPDX-License-Identifier: BSD-3-Clause
"""The reruns that the operations guide shows are run, with the names of a graph at hand."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from tests.local_graphs import RUN, GraphRun, make_survey
from tests.rerun_process import append_to_task, call, quantum_of

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"
FAILING = 3

# What each command of the guide ends with, in its order there.
AFTER_A_FAILURE = {"--quantum": 3, "--downstream --graph": 0, "--dry-run": 0}
WHEN_ALL_IS_WELL = {
    "--compare --datastore": 0,
    "--compare --graph": ExitCode.OUTPUTS_DIFFER,
    "--into": 0,
    "--replace --dry-run": 0,
    "--replace --downstream": 0,
}


def shown_reruns() -> list[str]:
    """The commands of the guide that need no pool."""
    lines = re.findall(r"^    quantum-exec (rerun .*)$", GUIDE.read_text(), re.MULTILINE)
    return [line.partition("#")[0].strip() for line in lines if "--pool" not in line]


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> GraphRun:
    """A graph that was run, and of which one fit failed."""
    directory = tmp_path_factory.mktemp("failed")
    found = GraphRun(directory, (directory / "store").as_uri(), make_survey(FAILING + 1))
    found.fail("fit", exposure=FAILING)
    assert found.run("-j", "2").code == ExitCode.FAILED
    return found


@pytest.fixture
def graph_run(failed: GraphRun, tmp_path: Path) -> GraphRun:
    """A copy of it for one test, its task mended in the graph file only."""
    shutil.copytree(failed.directory, tmp_path, dirs_exist_ok=True)
    found = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(FAILING + 1))
    found.graph_file.unlink()
    found.prepare()
    return found


def run_shown(graph_run: GraphRun, command: str) -> int:
    """Run a command of the guide; returns its exit code."""
    quantum_id = quantum_of(graph_run, "fit", exposure=FAILING)
    words = [quantum_id if word == "ID" else word for word in shlex.split(command)]
    assert words[:2] == ["rerun", "u/me/night1"]
    place = words.index("--datastore")
    assert words[place + 1] == "s3://bucket/repo"
    done = call(graph_run, *words[2:place], *words[place + 2 :])
    assert "Traceback" not in done.stderr
    return done.returncode


def test_every_command_is_tried() -> None:
    tried = {**AFTER_A_FAILURE, **WHEN_ALL_IS_WELL}
    for command in shown_reruns():
        assert [part for part in tried if part in command], command
    assert len(shown_reruns()) == len(tried)


@pytest.mark.parametrize("part", AFTER_A_FAILURE)
def test_reruns_of_what_failed(graph_run: GraphRun, part: str) -> None:
    command = next(c for c in shown_reruns() if part in c)
    assert run_shown(graph_run, command) == AFTER_A_FAILURE[part]


@pytest.mark.parametrize("part", WHEN_ALL_IS_WELL)
def test_reruns_of_what_was_successful(graph_run: GraphRun, part: str) -> None:
    assert graph_run.run("-j", "2").code == 0
    append_to_task(graph_run, "fit", "echo changed >> $1")
    command = next(c for c in shown_reruns() if part in c)
    assert run_shown(graph_run, command) == WHEN_ALL_IS_WELL[part]
    assert RUN in str(graph_run.keys())
