# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec rerun`` as a process, on a graph that was run locally."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from executor.submit.bucket_run import read_bucket_run
from registry.delta import Delta, read_delta
from registry.names import delta_prefix
from tests.local_graphs import RUN, GraphRun
from transfer_plugins.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class Rerun:
    """What ``rerun --json`` said; the report is empty if it ended before."""

    code: int
    report: dict[str, Any]
    stderr: str

    @property
    def labels(self) -> list[str]:
        """Task labels of the quanta of the plan."""
        return [quantum["task_label"] for quantum in self.report["quanta"]]


def command(graph_run: GraphRun, *options: str) -> list[str]:
    """The command line of a rerun."""
    words = ["rerun", RUN, "--datastore", graph_run.datastore, *options]
    return [sys.executable, "-m", "executor", *words]


def call(graph_run: GraphRun, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end; scratch space is below the test's directory."""
    return subprocess.run(
        command(graph_run, *options),
        cwd=graph_run.directory,
        env={**os.environ, **graph_run.environment, "TMPDIR": str(graph_run.directory)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def rerun(graph_run: GraphRun, *options: str) -> Rerun:
    """Run the command to its end and read its report."""
    done = call(graph_run, *options, "--json")
    report = json.loads(done.stdout) if done.stdout.strip() else {}
    return Rerun(done.returncode, report, done.stderr)


def quantum_of(graph_run: GraphRun, label: str, **data_id: int) -> str:
    """The id of the quantum of a task and a data ID."""
    quanta = read_bucket_run(graph_run.store, RUN).quanta.values()
    (found,) = (q for q in quanta if (q.task_label, q.data_id) == (label, data_id))
    return found.quantum_id


def deltas_of(store: ObjectStore, run: str) -> list[Delta]:
    """All deltas of a RUN, verified, oldest attempts first."""
    keys = [stored.key for stored in store.list_objects(delta_prefix(run))]
    return sorted((read_delta(store.get(k), k) for k in keys), key=lambda d: d.attempt_id)


def append_to_task(graph_run: GraphRun, label: str, script: str) -> None:
    """Let a task do something to its output (``$1``) when it is done, and write the graph file."""
    before: Sequence[str] = graph_run.document["tasks"][label]["command"]
    output = f"{{output:{label}}}"
    after = ["sh", "-c", f'o=$1; shift; "$@" && {{ set -- $o; {script}; }}', "sh", output, *before]
    graph_run.document["tasks"][label]["command"] = after
    graph_run.prepare()
