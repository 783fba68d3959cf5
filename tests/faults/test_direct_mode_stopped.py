# SPDX-License-Identifier: BSD-3-Clause
"""Clusters stopped and killed whose tasks write to S3 themselves, and clusters on a laptop."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from executor.exit_codes import code_of_signal
from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from merger.sweep import Sweep
from registry import names
from registry.attempt import AttemptStatus, short_attempt
from registry.job import DataMode, Job, TaskCall
from tests.cluster_jobs import CHAIN, RUN, ClusterRun, Spec
from tests.processes import wait_until
from tests.wrapper_process import COMMAND
from transfer_plugins.object_store import ObjectStore, open_store

DONE, ABORTED = AttemptStatus.SUCCESSFUL, AttemptStatus.ABORTED

# Copies its inputs and its label into each output; the second then tells that it runs, and waits.
COPY_IN_S3 = """
import os, pathlib, sys, time, boto3
label, n_inputs, *uris = sys.argv[1:]
client = boto3.client("s3")
places = [dict(zip(("Bucket", "Key"), uri[5:].split("/", 1))) for uri in uris]
inputs, outputs = places[:int(n_inputs)], places[int(n_inputs):]
content = b"".join(client.get_object(**place)["Body"].read() for place in inputs)
for place in outputs:
    client.put_object(**place, Body=content + label.encode() + b"\\n")
if label == "second" and not os.environ.get("GO"):
    pathlib.Path("../../begun").touch()
    time.sleep(600)
"""
WAIT = '[ -n "$GO" ] || { touch ../../begun; sleep 600; }'


class DirectRun(ClusterRun):
    """A cluster whose tasks read and write the datastore."""

    def job(self, spec: Spec) -> Job:
        """The job of a quantum, in direct mode."""
        inputs = [f"{{input:{name}}}" for name in spec.inputs.split()]
        outputs = [f"{{output:{name}}}" for name in spec.outputs.split()]
        command = [sys.executable, "-c", COPY_IN_S3, spec.label, str(len(inputs))]
        task = TaskCall([*command, *inputs, *outputs])
        return replace(super().job(spec), data_mode=DataMode.DIRECT, task=task)


@pytest.fixture
def store(datastore: str) -> ObjectStore:
    """A datastore in S3."""
    return open_store(datastore)


def stop(process: "subprocess.Popen[str]", begun: Path, number: int) -> tuple[int, str]:
    """Send a signal when the second task runs; returns exit code and standard error."""
    wait_until(lambda: begun.exists() or process.poll() is not None, "the task runs")
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=100)
    return process.returncode, stderr


def statuses(run: ClusterRun) -> list[tuple[str, AttemptStatus]]:
    """What was committed, in the order of the time at which the attempts began."""
    # Not of the attempt ids: stage-in makes those of a cluster within one millisecond.
    found = sorted(run.deltas(), key=lambda delta: delta.started)
    return [(delta.task_label, delta.status) for delta in found]


def attempt_of_second(run: ClusterRun) -> str:
    """The attempt that stage-in named."""
    return short_attempt(run.report("second").attempt_id)


def finish(store: ObjectStore, directory: Path, database: str) -> set[str]:
    """Run the rest, merge all; returns the keys of datasets that are left for ``sweep``."""
    again = DirectRun(store, directory, CHAIN, {"GO": "yes"})
    again.whole()
    assert again.done() == ["first", "second", "third"]
    assert again.content("c") == b"raw\nfirst\nraw\nsecond\nthird\n"
    # What lies in the datastore already is no saving to leave out.
    assert again.datasets() == {"a", "b", "c"}
    with CentralRegistry(database) as registry:
        merge_run(registry, store, RUN)
        with Sweep(registry, store, RUN, older_than_s=0.0) as sweep:
            sweep.run()
            return {one.key for one in sweep.left()}


def test_stopped_cluster_commits_through_links(
    store: ObjectStore, tmp_path: Path, database: str
) -> None:
    run = DirectRun(store, tmp_path / "sandbox").publish()
    run.stage_in(link_lifetime_s=600)
    code, stderr = stop(run.start(), run.sandbox / "begun", signal.SIGTERM)
    assert code == code_of_signal(signal.SIGTERM)
    assert statuses(run) == [("first", DONE), ("second", ABORTED)], stderr
    (left,) = finish(store, tmp_path / "again", database)
    assert left.startswith(f"{RUN}/b/")
    assert attempt_of_second(run) in left


def test_killed_cluster_commits_what_was_finished(
    store: ObjectStore, tmp_path: Path, database: str
) -> None:
    run = DirectRun(store, tmp_path / "sandbox").publish()
    run.stage_in(link_lifetime_s=600)
    code, _ = stop(run.start(), run.sandbox / "begun", signal.SIGKILL)
    assert (code, statuses(run)) == (-signal.SIGKILL, [])
    # HTCondor calls the plugin after a job that was killed.
    run.stage_out()
    assert statuses(run) == [("first", DONE)]
    (left,) = finish(store, tmp_path / "again", database)
    assert attempt_of_second(run) in left


@pytest.mark.parametrize("is_direct", [False, True], ids=["staged", "direct"])
def test_cluster_stopped_on_a_laptop_commits_what_is_finished(
    store: ObjectStore, tmp_path: Path, is_direct: bool
) -> None:
    """The process has credentials itself: ``quantum-exec run URI`` uploads without links."""
    specs = [replace(spec, script=WAIT if spec.label == "second" else "true") for spec in CHAIN]
    run = (DirectRun if is_direct else ClusterRun)(store, tmp_path / "x", specs).publish()
    words = [*COMMAND, run.uri, "--sandbox", str(run.sandbox)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, env=os.environ, stdout=pipe, stderr=pipe, text=True)
    code, stderr = stop(process, run.sandbox / "begun", signal.SIGTERM)
    assert code == code_of_signal(signal.SIGTERM)
    assert statuses(run) == [("first", DONE), ("second", ABORTED)], stderr
    assert run.content("a") == b"raw\nfirst\n"
    assert not list(run.sandbox.rglob(names.COMMIT_LINKS))
    done = subprocess.run(
        [*COMMAND, run.uri], env={**os.environ, "GO": "yes"}, cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert statuses(run)[2:] == [("second", DONE), ("third", DONE)]
