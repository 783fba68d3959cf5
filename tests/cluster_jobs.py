# SPDX-License-Identifier: BSD-3-Clause
"""Quanta of shell commands in one cluster: published, staged in, run and staged out."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from registry import names, staging
from registry.delta import Delta, read_delta
from registry.graph_record import (
    GRAPH_RECORD_FORMAT,
    GraphRecord,
    PredictedQuantum,
    write_graph_record,
    write_predicted_quanta,
)
from registry.job import JOB_FORMAT, Job, PredictedInput, PredictedOutput, TaskCall, write_job
from registry.model import DatasetType, derived_id
from registry.quantum_cluster import ClusterMember, QuantumCluster, write_quantum_cluster
from tests.wrapper_process import COMMAND
from transfer_plugins.deltas import standing_of
from transfer_plugins.object_store import ObjectStore
from transfer_plugins.stage_in_cluster import StagedCluster, stage_in_cluster
from transfer_plugins.stage_out_cluster import stage_out_cluster

RUN = "u/tester/clusters"
GRAPH_ID = derived_id("graph", RUN)
RAW_RUN = "raw/all"
EXPOSURE: dict[str, str | int] = {"exposure": 1}

# Reads its inputs and writes all of them, and its label, to each output.
COPY = 'n=$1; shift; cat "$@" /dev/null > part; echo $n >> part'


def quantum_id(label: str) -> str:
    """Id of the quantum of a label."""
    return derived_id("quantum", RUN, label)


def dataset_id(name: str) -> str:
    """Id of a dataset; there is one of each type."""
    return derived_id("dataset", RUN, name)


@dataclass(frozen=True, slots=True)
class Spec:
    """A quantum: its inputs and outputs by dataset type, ``?`` behind those that are optional.

    ``script`` runs behind the one that copies: ``$out`` is the file that was written for outputs.
    """

    label: str
    inputs: str
    outputs: str
    script: str = "true"
    not_kept: str = ""


CHAIN = (
    Spec("first", "raw", "a", not_kept="a"),
    Spec("second", "a raw", "b", not_kept="b"),
    Spec("third", "b", "c"),
)


@dataclass
class ClusterRun:
    """A cluster in a datastore, and a sandbox for it."""

    store: ObjectStore
    directory: Path
    specs: Sequence[Spec] = CHAIN
    environment: dict[str, str] = field(default_factory=dict)

    def publish(self) -> "ClusterRun":
        """Write raw dataset, graph record, job files and cluster file."""
        self.store.put("raw.txt", b"raw\n")
        self._publish_graph()
        for spec in self.specs:
            job = self.job(spec)
            self.store.put(names.job_key(RUN, job.quantum_id), write_job(job))
        self.store.put(names.cluster_key(RUN, self.cluster.cluster_id), self.cluster_text)
        return self

    def _publish_graph(self) -> None:
        jobs = [self.job(spec) for spec in self.specs]
        quanta = [
            PredictedQuantum(
                j.quantum_id, j.task_label, EXPOSURE, outputs=[o.dataset_id for o in j.outputs]
            )
            for j in jobs
        ]
        types = jobs[0].dataset_types
        record = GraphRecord(GRAPH_RECORD_FORMAT, GRAPH_ID, "cluster", RUN, types, [], len(quanta))
        self.store.put(names.predicted_quanta_key(RUN, GRAPH_ID), write_predicted_quanta(quanta))
        self.store.put(names.graph_record_key(RUN, GRAPH_ID), write_graph_record(record))

    @property
    def cluster(self) -> QuantumCluster:
        """The cluster."""
        members = [
            ClusterMember(quantum_id(s.label), [dataset_id(n) for n in s.not_kept.split()])
            for s in self.specs
        ]
        return QuantumCluster(1, GRAPH_ID, RUN, derived_id("cluster", RUN), "chain", members)

    @property
    def cluster_text(self) -> bytes:
        """The cluster file."""
        return write_quantum_cluster(self.cluster)

    @property
    def uri(self) -> str:
        """URI of the cluster file."""
        return f"{self.store.uri}/{names.cluster_key(RUN, self.cluster.cluster_id)}"

    def job(self, spec: Spec) -> Job:
        """The job of a quantum."""
        every = {n.rstrip("?") for s in self.specs for n in f"{s.inputs} {s.outputs}".split()}
        types = [DatasetType(name, ["exposure"], "File", ".txt") for name in sorted(every)]
        makers = {n.rstrip("?"): s.label for s in self.specs for n in s.outputs.split()}
        words = [f"{{input:{n}}}" for n in spec.inputs.split() if not n.endswith("?")]
        outs = [
            f'cp part "$QUANTUM_EXEC_REPO/{path(n)}"' for n in spec.outputs.split() if n[-1] != "?"
        ]
        script = "; ".join([COPY, *outs, spec.script])
        return Job(
            JOB_FORMAT,
            GRAPH_ID,
            RUN,
            quantum_id(spec.label),
            spec.label,
            EXPOSURE,
            TaskCall(["sh", "-ec", script, "sh", spec.label, *words]),
            types,
            [self._input(n, makers) for n in spec.inputs.split()],
            [
                PredictedOutput(
                    dataset_id(n.rstrip("?")), n.rstrip("?"), EXPOSURE, path(n), n.endswith("?")
                )
                for n in spec.outputs.split()
            ],
        )

    def _input(self, word: str, makers: dict[str, str]) -> PredictedInput:
        name = word.rstrip("?")
        maker = makers.get(name)
        return PredictedInput(
            dataset_id(name),
            name,
            EXPOSURE,
            RUN if maker else RAW_RUN,
            path(word) if maker else "raw/raw.txt",
            word.endswith("?"),
            quantum_id(maker) if maker else None,
            None if maker else "raw.txt",
        )

    @property
    def sandbox(self) -> Path:
        """Where the job runs."""
        self.directory.mkdir(exist_ok=True)
        return self.directory

    def place(self, label: str) -> Path:
        """The sandbox of a quantum."""
        return self.sandbox / names.QUANTA_DIR / quantum_id(label)

    def stage_in(self, *, link_lifetime_s: int = 0) -> StagedCluster:
        """What the plugin does before the job."""
        return stage_in_cluster(
            self.cluster, self.store, self.sandbox, link_lifetime_s=link_lifetime_s
        )

    def start(self) -> "subprocess.Popen[str]":
        """Start the wrapper."""
        return subprocess.Popen(
            COMMAND,
            cwd=self.sandbox,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, str]:
        """Run the wrapper to its end; returns exit code and standard error."""
        process = self.start()
        _, stderr = process.communicate(timeout=60)
        return process.returncode, stderr

    def stage_out(self) -> None:
        """What the plugin does after the job."""
        stage_out_cluster(self.cluster, self.store, self.sandbox, patience_s=0)

    def whole(self) -> tuple[int, str]:
        """Stage in, run, stage out."""
        self.stage_in()
        end = self.run()
        self.stage_out()
        return end

    def report(self, label: str) -> staging.StageInReport:
        """The stage-in report of a quantum."""
        text = (self.place(label) / names.STAGE_IN_FILE).read_bytes()
        return staging.read_stage_in_report(text, label)

    def counting(self, label: str) -> Delta | None:
        """The delta in the datastore that counts."""
        return standing_of(self.store, RUN, quantum_id(label)).counting

    def done(self) -> list[str]:
        """Labels of the quanta that are done."""
        return [s.label for s in self.specs if self.counting(s.label)]

    def deltas(self) -> list[Delta]:
        """All deltas in the datastore, oldest first."""
        found = [o.key for o in self.store.list_objects(names.delta_prefix(RUN))]
        deltas = [read_delta(self.store.get(key), key) for key in found]
        return sorted(deltas, key=lambda delta: delta.attempt_id)

    def content(self, name: str) -> bytes:
        """The dataset that counts."""
        maker = next(s.label for s in self.specs if name in s.outputs.replace("?", "").split())
        delta = self.counting(maker)
        assert delta is not None, f"{maker} is not done"
        rows = {r.dataset_id: r.object_key for r in delta.rows.datastore_record}
        return self.store.get(rows[dataset_id(name)])

    def datasets(self) -> set[str]:
        """Types of the datasets of the RUN that lie in the datastore."""
        keys = [o.key.removeprefix(f"{RUN}/") for o in self.store.list_objects(f"{RUN}/")]
        return {key.split("/")[0] for key in keys} - {names.CONTROL}


def path(word: str) -> str:
    """Path of a dataset in the repo."""
    name = word.rstrip("?")
    return names.dataset_path(RUN, name, EXPOSURE, ".txt")
