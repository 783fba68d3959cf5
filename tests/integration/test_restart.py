# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec restart``, looked at by the files that it would submit; no pool is needed."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from executor.exit_codes import ExitCode
from executor.graph.graph_file import read_graph
from executor.graph.quantum_graph import Graph
from executor.submit.bucket_run import read_bucket_run
from executor.submit.configuration import read_submit_configuration
from executor.submit.node_table import read_node_table
from executor.submit.nodes import Node
from executor.submit.publish import publish_graph
from executor.submit.restart import RestartOptions, restart_run
from registry import names
from registry.attempt import AttemptStatus, new_attempt_id
from registry.delta import DatasetRow, DatastoreRow, write_delta
from registry.job import PredictedOutput
from registry.quantum_cluster import read_quantum_cluster
from tests import factories
from tests.local_graphs import RUN, Document, make_survey
from tests.refusals import call, check_refused
from transfer_plugins.object_store import ObjectStore, open_store


@dataclass
class Published:
    """A RUN in a datastore, whose quanta are done when a test says so."""

    directory: Path
    datastore: str
    graphs: list[Graph]

    @property
    def store(self) -> ObjectStore:
        """The datastore."""
        return open_store(self.datastore)

    def write(self, document: Document) -> Path:
        """Write a graph file."""
        handle, name = tempfile.mkstemp(".yaml", dir=self.directory, text=True)
        with open(handle, "w") as file:
            yaml.safe_dump(document, file, sort_keys=False)
        return Path(name)

    def publish(self, document: Document) -> Graph:
        """Add a graph to the RUN."""
        graph = read_graph(self.write(document))
        publish_graph(graph, self.store, extend=bool(self.graphs))
        self.graphs.append(graph)
        return graph

    def id_of(self, label: str, exposure: int | None = None) -> str:
        """The id of a quantum."""
        wanted = {} if exposure is None else {"exposure": exposure}
        quanta = read_bucket_run(self.store, RUN).quanta.values()
        [found] = [q.quantum_id for q in quanta if (q.task_label, q.data_id) == (label, wanted)]
        return found

    def end(
        self,
        label: str,
        exposure: int | None,
        *,
        is_kept: bool = True,
        status: AttemptStatus = AttemptStatus.SUCCESSFUL,
        exit_code: int = 0,
    ) -> str:
        """Write the delta of an attempt; returns its key."""
        quantum_id = self.id_of(label, exposure)
        graph = next(g for g in self.graphs if quantum_id in g.by_id)
        job, attempt_id = graph.job_of(graph.by_id[quantum_id]), new_attempt_id()
        outputs = job.outputs if status is AttemptStatus.SUCCESSFUL else []
        delta = factories.make_delta(
            factories.make_graph(1),
            graph_id=graph.graph_id,
            run=RUN,
            quantum_id=quantum_id,
            task_label=label,
            data_id=job.data_id,
            attempt_id=attempt_id,
            status=status,
            exit_code=exit_code,
            inputs=[],
            log_key=None,
            dataset=[DatasetRow(o.dataset_id, o.dataset_type, o.data_id) for o in outputs],
            datastore_record=[record_of(o, attempt_id) for o in outputs] if is_kept else [],
            not_kept=[] if is_kept else [o.dataset_id for o in outputs],
        )
        key = names.delta_key(RUN, quantum_id, attempt_id)
        self.store.put(key, write_delta(delta))
        return key

    def restart(self, mended: Path | None = None, **settings: object) -> "Shown":
        """What a restart would do, and the files that it would submit."""
        configuration = read_submit_configuration(self.configure(**settings))
        output = Path(tempfile.mkdtemp(dir=self.directory)) / "dag"
        graph = None if mended is None else read_graph(mended)
        options = RestartOptions(graph, is_dry=True, output=output)
        found = restart_run(self.store, RUN, self.datastore, configuration, options)
        return Shown(found.as_dict(), output)

    def configure(self, **settings: object) -> Path:
        """Write the submit configuration."""
        basic = {"submitPath": f"{self.directory}/submit", "workerExecutable": "/opt/quantum-exec"}
        path = self.directory / "submit.yaml"
        path.write_text(yaml.safe_dump({**basic, **settings}))
        return path

    def refused(self, code: ExitCode, *texts: str, graph: Path | None = None) -> None:
        """The command, as a process, which is to be refused."""
        self.configure()
        words = ["restart", RUN, *self.where, *(["--graph", str(graph)] if graph else [])]
        check_refused(call(self.directory, *words), code, *texts)

    @property
    def where(self) -> list[str]:
        """Options of a dry run."""
        return ["--datastore", self.datastore, "--config", "submit.yaml", "--dry-run"]


@dataclass
class Shown:
    """The report of a dry run, and its files."""

    report: dict[str, Any]
    directory: Path

    @property
    def unfinished(self) -> dict[str, int]:
        """How many quanta would be run, by task label."""
        found: dict[str, int] = self.report["unfinished"]
        return found

    @property
    def nodes(self) -> list[Node]:
        """The nodes of the DAG that are not done."""
        return [node for node in read_node_table(self.directory) if not node.is_done]

    def node(self, label: str) -> Node:
        """The only one of a label."""
        [found] = [node for node in self.nodes if node.label == label]
        return found

    @property
    def dag(self) -> list[str]:
        """The lines of the DAG."""
        return (self.directory / "run.dag").read_text().splitlines()

    def variables(self, label: str) -> str:
        """The VARS of the only node of a label."""
        [found] = [x for x in self.dag if x.startswith(f"VARS {self.node(label).name} ")]
        return found

    def not_kept(self, node: Node) -> dict[str, list[str]]:
        """What of the members of a cluster is not kept, by quantum id."""
        path = self.directory / node.job_file
        cluster = read_quantum_cluster(path.read_bytes(), str(path))
        return {member.quantum_id: member.not_kept for member in cluster.members}


def record_of(output: PredictedOutput, attempt_id: str) -> DatastoreRow:
    """Where an attempt put an output."""
    key = names.dataset_key(output.path, ".txt", attempt_id)
    return DatastoreRow(output.dataset_id, key, 5, f"sha256:{0:064x}", "File")


@pytest.fixture
def published(datastore: str) -> Iterator[Published]:
    """A survey of two exposures, of which the first is done to the end."""
    with tempfile.TemporaryDirectory(prefix="qe-", dir="/var/tmp") as name:
        found = Published(Path(name), datastore, [])
        found.publish(make_survey(2))
        found.end("isr", 0)
        found.end("fit", 0)
        yield found


def test_only_what_is_unfinished_is_run_with_the_settings_of_now(published: Published) -> None:
    published.end("isr", 1, status=AttemptStatus.FAILED, exit_code=3)
    shown = published.restart(pipetask={"isr": {"requestMemory": 77}})
    assert shown.unfinished == {"coadd": 1, "fit": 1, "isr": 1}
    assert shown.node("fit").quantum_ids == (published.id_of("fit", 1),)
    assert sum(line.endswith(" DONE") for line in shown.dag) == 2
    assert 'memory="77"' in shown.variables("isr")


def test_damaged_delta_does_not_mean_done(published: Published) -> None:
    key = published.end("isr", 1)
    assert "isr" not in published.restart().unfinished
    content = published.store.get(key)
    for damaged in (content[:-20], content.replace(b"successful", b"successfux"), b""):
        published.store.put(key, damaged)
        assert published.restart().unfinished["isr"] == 1
    # Of two attempts the older counts if the newer is damaged.
    published.store.put(published.end("isr", 1), damaged)
    published.store.put(key, content)
    assert "isr" not in published.restart().unfinished


def test_of_a_run_that_is_done_nothing_is_run(published: Published) -> None:
    for label, exposure in (("isr", 1), ("fit", 1), ("coadd", None)):
        published.end(label, exposure)
    shown = published.restart()
    assert (shown.unfinished, shown.nodes) == ({}, [])
    assert "JOB init init.sub DONE" in shown.dag


@pytest.mark.parametrize("is_keeping", [True, False])
def test_of_a_cluster_only_the_rest_is_run(published: Published, is_keeping: bool) -> None:
    chain = {"pipetasks": "isr,fit", "dimensions": "exposure", "keepIntermediates": is_keeping}
    settings: Any = {"cluster": {"chain": chain}}
    published.end("isr", 1, is_kept=is_keeping)
    shown = published.restart(**settings)
    assert shown.unfinished == {"coadd": 1, "fit": 1}
    # The worker leaves out the member that has a successful delta, if what it made was kept.
    members = (published.id_of("isr", 1), published.id_of("fit", 1))
    assert shown.node("chain").quantum_ids == members
    not_kept = shown.not_kept(shown.node("chain"))
    assert [len(not_kept[member]) for member in members] == [0 if is_keeping else 1, 0]
    assert len(shown.node("coadd").parents) == 2
    published.end("fit", 1)
    shown = published.restart(**settings)
    assert [node.label for node in shown.nodes] == ["coadd"]
    assert shown.report["again"] == []


def test_what_was_not_kept_is_made_again_for_a_job_of_its_own(published: Published) -> None:
    published.end("isr", 1, is_kept=False)
    shown = published.restart()
    assert shown.report["again"] == [published.id_of("isr", 1)]
    assert {node.label for node in shown.nodes} == {"isr", "fit", "coadd"}


def test_run_with_two_graphs(published: Published) -> None:
    published.publish(make_survey(3))
    published.end("isr", 2)
    shown = published.restart()
    assert shown.unfinished == {"coadd": 1, "fit": 2, "isr": 1}
    assert len(shown.node("coadd").parents) == 3
    clustered = published.restart(cluster={"pair": {"pipetasks": "fit", "maxSize": 2}})
    # As they would be of a RUN without deltas: jobs do not change from restart to restart.
    pairs = [node.quantum_ids for node in clustered.nodes if node.label == "pair"]
    assert [len(quantum_ids) for quantum_ids in pairs] == [2, 1]


def test_mended_graph(published: Published) -> None:
    document = make_survey(2)
    document["tasks"]["isr"]["resources"] = {"memory_mib": 55}
    mended = published.write(document)
    published.store.delete(names.job_key(RUN, published.id_of("isr", 1)))
    published.refused(ExitCode.USAGE, "found none of 1", "--graph")
    assert 'memory="55"' in published.restart(mended).variables("isr")
    other = published.write(make_survey(4))
    published.refused(ExitCode.OTHER_GRAPH, "only tasks can be mended", graph=other)


def test_init_job_is_done_if_it_found_nothing_wrong(published: Published) -> None:
    assert "JOB init init.sub" in published.restart().dag
    key = names.init_key(RUN, published.graphs[0].graph_id)
    published.store.put(key, json.dumps({"error": "no right to write"}).encode())
    assert "JOB init init.sub" in published.restart().dag
    published.store.put(key, json.dumps({"error": None}).encode())
    assert "JOB init init.sub DONE" in published.restart().dag


@pytest.mark.parametrize("command", [("restart", RUN), ("rerun", RUN, "--pool", "--task", "coadd")])
def test_what_this_machine_lacks_is_told_before_anything_is_done(
    published: Published, command: tuple[str, ...]
) -> None:
    published.configure(mergeConfig="/not/there.yaml", initTasks=["irs"])
    done = call(published.directory, *command, *published.where, PGPASSFILE="/no/passwords")
    texts = ("mergeConfig: expected a file", "found no /no/passwords", "did you mean isr?")
    check_refused(done, ExitCode.USAGE, *texts)
    published.configure()
    done = call(published.directory, *command, *published.where)
    assert done.returncode == 0, done.stderr
    assert "not checked against a pool" in done.stderr
