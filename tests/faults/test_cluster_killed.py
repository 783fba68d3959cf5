# SPDX-License-Identifier: BSD-3-Clause
"""Wrapper or stage-out of a cluster killed at a step: what is finished counts, the rest is run."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from registry import names
from tests.cluster_jobs import RUN, ClusterRun, Spec, quantum_id
from tests.halted_processes import Halt, mark, marked_processes, wait_halted
from tests.processes import wait_until
from tests.wrapper_process import COMMAND
from transfer_plugins.object_store import ObjectStore, open_store

SPECS = (
    Spec("first", "raw", "a", not_kept="a"),
    Spec("second", "a raw", "b", not_kept="b"),
    Spec("third", "b", "c"),
)
RESULT = b"raw\nfirst\nraw\nsecond\nthird\n"

STEPS = {
    "first task starts": (Halt("run", "subprocess.Popen", "^sh "), 0),
    "first recorded": (Halt("run", "os.rename", r"/stage-out\.json\.part "), 0),
    "input of second brought": (Halt("run", "os.rename", rf"/\.part-.*/{RUN}/a/"), 1),
    "second task starts": (Halt("run", "subprocess.Popen", "^sh ", 2), 1),
    "second recorded": (Halt("run", "os.rename", r"/stage-out\.json\.part ", 2), 1),
    "third recorded": (Halt("run", "os.rename", r"/stage-out\.json\.part ", 3), 2),
    "delta of first written again": (Halt("run", "os.rename", r"/stage-out\.json\.part ", 4), 3),
    "delta of second written again": (Halt("run", "os.rename", r"/stage-out\.json\.part ", 5), 3),
}
"""Where the wrapper stands when it is killed, and how many quanta are finished by then."""


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """An empty datastore."""
    return open_store((tmp_path / "store").as_uri())


def halted(run: ClusterRun, halt: Halt, command: list[str]) -> "subprocess.Popen[str]":
    """Start a process and wait until it stands."""
    marker = run.directory / "halted"
    process = subprocess.Popen(
        command,
        cwd=run.sandbox,
        env={**os.environ, **mark(run.directory), **halt.environment(marker)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: marker.exists() or process.poll() is not None, "it stands")
    assert process.poll() is None, process.communicate()
    wait_halted(marker)
    return process


def kill(run: ClusterRun, process: "subprocess.Popen[str]") -> None:
    """Kill it, and wait until nothing of it is left."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    wait_until(lambda: not marked_processes(run.directory), "nothing of it runs")


@pytest.mark.parametrize("step", STEPS)
def test_killed_wrapper_leaves_what_is_finished(
    store: ObjectStore, tmp_path: Path, step: str
) -> None:
    run = ClusterRun(store, tmp_path / "sandbox", SPECS).publish()
    run.stage_in()
    halt, n_finished = STEPS[step]
    kill(run, halted(run, halt, COMMAND))
    run.stage_out()
    labels = [spec.label for spec in SPECS]
    assert run.done() == labels[:n_finished]
    again = ClusterRun(store, tmp_path / "again", SPECS)
    code, stderr = again.whole()
    assert code == 0, stderr
    assert again.done() == labels
    assert again.content("c") == RESULT


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("where", ["before", "after"])
def test_stage_out_killed_at_a_delta_is_repeated(
    store: ObjectStore, tmp_path: Path, number: int, where: str
) -> None:
    """The deltas come in order, so that one never counts before what it was made from."""
    kept = [Spec(s.label, s.inputs, s.outputs) for s in SPECS]
    run = ClusterRun(store, tmp_path / "sandbox", kept).publish()
    event = "os.rename" if where == "before" else "os.remove"
    command = [*COMMAND, run.uri, "--sandbox", str(tmp_path / "by-uri")]
    kill(run, halted(run, Halt("run", event, r"/deltas/\.part-", number), command))
    labels = [spec.label for spec in SPECS]
    assert run.done() == labels[: number - (where == "before")]
    done = subprocess.run([*COMMAND, run.uri], cwd=run.sandbox, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert run.done() == labels
    assert run.content("c") == RESULT
    assert len(run.deltas()) == 3


def test_sandbox_that_was_changed_behind_the_wrapper_is_not_committed(
    store: ObjectStore, tmp_path: Path
) -> None:
    """A later task of the cluster writes over what an earlier one made."""
    target = f"../{quantum_id('first')}/{names.REPO_DIR}/{RUN}/a/a_1.txt"
    run = ClusterRun(
        store,
        tmp_path / "sandbox",
        [Spec("first", "raw", "a"), Spec("hostile", "raw", "h", f"echo x > {target}")],
    ).publish()
    run.stage_in()
    assert run.run()[0] == 0
    with pytest.raises(Exception, match="it changed after it was recorded"):
        run.stage_out()
    assert run.done() == ["hostile"]
