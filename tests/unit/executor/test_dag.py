# SPDX-License-Identifier: BSD-3-Clause
"""The files of a DAG, as text; a pool reads them in ``tests/pool``."""

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from executor.submit.configuration import ConfigurationError, SubmitConfiguration
from executor.submit.dag import InitJob, control_url_prefix, write_dag
from executor.submit.nodes import Node
from executor.submit.requests import Requests
from executor.submit.submit_files import Submission, dag_attributes
from registry.job import ResourceRequest
from tests.samples import RUN

DATASTORE = "s3://bucket/repo"
CONFIGURATION = SubmitConfiguration(
    worker_executable="/opt/quantum-exec",
    merge_executable="/opt/registry-merge",
    merge_config="/etc/merge.yaml",
    s3_endpoint_url="http://s3.example:9000",
)
NODES = [
    Node("isr_11", "isr", "jobs/11.json", ("11",), is_done=True),
    Node("isr_22", "isr", "jobs/22.json", ("22",)),
    Node("coadd_33", "coadd", "jobs/33.json", ("33",), frozenset({"isr_11", "isr_22"})),
]
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "aws-secret",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SESSION_TOKEN": "token-secret",
    "PGPASSWORD": "pg-secret",
    "REGISTRY_MERGE_DATABASE": "postgresql://u:pg-secret@h/d",
}


def files(tmp_path: Path, configuration: SubmitConfiguration = CONFIGURATION) -> dict[str, str]:
    """The files of a DAG of three nodes, by name."""
    environment = {"HOME": "/home/me", "PGSERVICE": "central", **SECRETS}
    write_dag(tmp_path, NODES, RUN, DATASTORE, configuration, environment)
    return {path.name: path.read_text(errors="replace") for path in tmp_path.iterdir()}


def settings(text: str) -> dict[str, str]:
    """The lines of a submit description."""
    lines = (line.partition(" = ") for line in text.splitlines())
    return {name: value for name, separator, value in lines if separator}


def test_dag_has_a_node_for_each_quantum_and_the_order_of_the_graph(tmp_path: Path) -> None:
    lines = files(tmp_path)["run.dag"].splitlines()
    assert [line for line in lines if line.startswith("JOB")] == [
        "JOB isr_11 quantum.isr.sub DONE",
        "JOB isr_22 quantum.isr.sub",
        "JOB coadd_33 quantum.coadd.sub",
    ]
    assert (
        'VARS coadd_33 job_file="jobs/33.json" quantum_id="33" quanta="coadd:1" '
        'node_name="coadd_33" memory="2048" retry="$(RETRY)"'
    ) in lines
    assert [line for line in lines if line.startswith("PARENT")] == [
        "PARENT isr_11 isr_22 CHILD coadd_33"
    ]
    assert lines[-2:] == [
        "FINAL merge merge.sub",
        "SCRIPT POST merge merge-status.sh $RETURN $DAG_STATUS",
    ]
    assert not [line for line in lines if line.startswith("RETRY")]


def test_retries_are_those_of_the_task(tmp_path: Path) -> None:
    retrying = msgspec.structs.replace(CONFIGURATION, number_of_retries=2, retry_unless_exit=20)
    lines = files(tmp_path, retrying)["run.dag"].splitlines()
    assert "RETRY coadd_33 2 UNLESS-EXIT 20" in lines


def test_one_marker_comes_in_and_one_goes_out(tmp_path: Path) -> None:
    found = settings(files(tmp_path)["quantum.isr.sub"])
    url = f"qs3job://bucket/repo/{RUN}/quantum-exec/$(job_file)"
    assert found["transfer_input_files"] == url
    assert found["transfer_output_files"] == "stage-out.json"
    assert found["transfer_output_remaps"] == f'"stage-out.json = {url}"'
    assert found["executable"] == "/opt/quantum-exec"
    assert found["arguments"] == "run --log-level INFO"
    assert found["My.QuantumExecS3Endpoint"] == '"http://s3.example:9000"'
    assert found["My.QuantumExecTransferDeadline"] == "1800"
    assert found["My.QuantumExecCommitLinkLifetime"] == "86400"
    assert {"output", "error"}.isdisjoint(found)


def test_merge_runs_on_the_access_point(tmp_path: Path) -> None:
    found = settings(files(tmp_path)["merge.sub"])
    assert found["universe"] == "local"
    assert found["arguments"] == (
        f"merge {DATASTORE} {RUN} --dag-status node-status.txt --config /etc/merge.yaml "
        "--endpoint-url http://s3.example:9000"
    )
    assert found["environment"] == '"HOME=/home/me PGSERVICE=central"'


def test_merge_puts_the_run_into_its_chain(tmp_path: Path) -> None:
    chained = msgspec.structs.replace(CONFIGURATION, output="u/me/all")
    found = settings(files(tmp_path, chained)["merge.sub"])
    assert found["arguments"].endswith(" --output-chain u/me/all")


def test_no_secret_is_in_any_file(tmp_path: Path) -> None:
    text = "\n".join(files(tmp_path).values())
    assert not [secret for secret in SECRETS.values() if secret in text]


@pytest.mark.parametrize(
    ("merge", "dag", "expected"), [(0, 0, 0), (0, 1, 1), (0, 2, 1), (4, 0, 4), (4, 1, 4)]
)
def test_merge_turns_no_failed_dag_into_a_successful_one(
    tmp_path: Path, merge: int, dag: int, expected: int
) -> None:
    files(tmp_path)
    done = subprocess.run([tmp_path / "merge-status.sh", str(merge), str(dag)])
    assert done.returncode == expected


@pytest.mark.parametrize(
    "datastore",
    ["file:///data", "s3://", "s3://bucket/a b", "s3://bucket/a?b", "s3://bucket/", "/data", ""],
)
def test_datastore_must_be_in_s3(datastore: str) -> None:
    with pytest.raises(ConfigurationError, match="datastore: a pool needs s3://bucket/prefix"):
        control_url_prefix(datastore, RUN)


@pytest.mark.parametrize("path", ["/opt/a b", "/opt/a\nqueue 1000", '/opt/"x', "/opt/$(HOME)"])
def test_what_a_submit_file_would_read_otherwise_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigurationError, match="worker executable: expected no white space"):
        files(tmp_path, SubmitConfiguration(worker_executable=path))


ASKED = {
    "isr": ResourceRequest(cpus=4, memory_mib=3000, scratch_mib=5000, wall_s=60.0),
    "coadd": ResourceRequest(memory_mib=9000),
}


def requests(tmp_path: Path, configuration: SubmitConfiguration) -> dict[str, list[str]]:
    """CPUs, memory and disk that each task's jobs ask for."""
    write_dag(tmp_path, NODES, RUN, DATASTORE, configuration, {}, ASKED)
    texts = {label: (tmp_path / f"quantum.{label}.sub").read_text() for label in ("isr", "coadd")}
    dag = (tmp_path / "run.dag").read_text()
    memory = {label: re.search(rf'VARS {label}_.* memory="(\d+)"', dag) for label in texts}
    return {
        label: [
            settings(text)["request_cpus"],
            (memory[label] or [""] * 2)[1],
            settings(text)["request_disk"],
        ]
        for label, text in texts.items()
    }


def test_jobs_ask_for_what_the_graph_says(tmp_path: Path) -> None:
    assert requests(tmp_path, CONFIGURATION) == {
        "isr": ["4", "3000", "5000MB"],
        "coadd": ["1", "9000", "1024MB"],
    }


def test_configuration_of_a_task_is_before_the_graph(tmp_path: Path) -> None:
    own = {"coadd": Requests(request_memory=100), "isr": Requests(request_cpus=2)}
    configuration = msgspec.structs.replace(CONFIGURATION, pipetask=own, request_memory=7)
    assert requests(tmp_path, configuration) == {
        "isr": ["2", "3000", "5000MB"],
        "coadd": ["1", "100", "1024MB"],
    }


def lines_of(tmp_path: Path, configuration: SubmitConfiguration, nodes: list[Node]) -> list[str]:
    """The lines of a DAG."""
    write_dag(tmp_path, nodes, RUN, DATASTORE, configuration, {}, init=InitJob("g"))
    return (tmp_path / "run.dag").read_text().splitlines()


def test_quanta_of_a_cluster_are_counted_by_task(tmp_path: Path) -> None:
    labels = ("isr", "isr", "fit")
    node = Node("chain_c", "chain", "clusters/c.json", ("1", "2", "3"), task_labels=labels)
    lines = lines_of(tmp_path, CONFIGURATION, [node])
    assert [line for line in lines if 'quanta="isr:2;fit:1"' in line]
    attributes = dag_attributes(Submission(RUN, DATASTORE, CONFIGURATION), [node, *NODES])
    assert attributes["My.bps_run_quanta"] == '"isr:4;fit:1;coadd:1"'
    assert attributes["My.bps_run_summary"] == '"init:1;chain:1;isr:2;coadd:1;merge:1"'


@pytest.mark.parametrize("label", ["first", "chain"])
def test_quanta_of_init_tasks_run_before_all_others(tmp_path: Path, label: str) -> None:
    first = Node("first_0", label, "jobs/0.json", ("0",), task_labels=("first",))
    asked = msgspec.structs.replace(CONFIGURATION, init_tasks=["first"])
    lines = lines_of(tmp_path, asked, [*NODES, first])
    assert [line for line in lines if line.startswith("PARENT")] == [
        "PARENT isr_11 isr_22 CHILD coadd_33",
        "PARENT init CHILD isr_22",
        "PARENT init CHILD first_0",
        "PARENT first_0 CHILD isr_22",
    ]


def test_init_tasks_that_need_others_are_refused(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(CONFIGURATION, init_tasks=["coadd"])
    with pytest.raises(ConfigurationError, match="found 'coadd': coadd_33 needs isr_11"):
        lines_of(tmp_path, asked, NODES)


def test_max_jobs_of_a_task_is_a_category(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(CONFIGURATION, pipetask={"isr": Requests(max_jobs=2)})
    lines = lines_of(tmp_path, asked, NODES)
    assert [line for line in lines if line.startswith(("CATEGORY", "MAXJOBS"))] == [
        "CATEGORY isr_11 isr",
        "CATEGORY isr_22 isr",
        "MAXJOBS isr 2",
    ]


def test_several_final_exit_codes_are_left_to_htcondor(tmp_path: Path) -> None:
    """DAGMan's UNLESS-EXIT takes one; both of them would multiply."""
    asked = msgspec.structs.replace(CONFIGURATION, number_of_retries=2, retry_unless_exit=[30, 20])
    lines = lines_of(tmp_path, asked, NODES)
    assert [line for line in lines if line.startswith("RETRY")] == ["RETRY init 1 UNLESS-EXIT 21"]
    found = settings((tmp_path / "quantum.isr.sub").read_text())
    assert found["max_retries"] == "2"
    assert found["retry_until"] == "member(ExitCode ?: -1, { 20, 30, 35 })"
    assert "max_retries" not in settings((tmp_path / "init.sub").read_text())


def test_all_others_wait_for_all_of_an_init_task(tmp_path: Path) -> None:
    """Also those that read of some of them only."""
    fits = [Node(f"fit_{n}", "fit", "", (n,), frozenset({f"isr_{n}"})) for n in ("22", "44")]
    nodes = [*NODES[:2], Node("isr_44", "isr", "", ("44",)), *fits]
    asked = msgspec.structs.replace(CONFIGURATION, init_tasks=["isr"])
    assert "PARENT isr_11 isr_22 isr_44 CHILD fit_22 fit_44" in lines_of(tmp_path, asked, nodes)
