# SPDX-License-Identifier: BSD-3-Clause
"""The files of a DAG: one job per quantum, DAGMan for the order, ``registry-merge`` as FINAL node.

External submit files with VARS, one per task label: inline descriptions leak VARS between nodes
up to HTCondor 24.0. The text is written here because ``htcondor2.dags`` 25.14 leaves out the
submit file of a FINAL node. No secret is in any of these files, nor in the job ads made of them.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from executor.submit.configuration import SubmitConfiguration
from executor.submit.configuration_error import ConfigurationError
from executor.submit.node_table import write_node_table
from executor.submit.nodes import Node
from executor.submit.requests import Requests
from registry import names
from registry.job import ResourceRequest
from transfer_plugins.plugin_protocol import DEADLINE_ATTRIBUTE, ENDPOINT_ATTRIBUTE, JOB_SCHEME

DAG_FILE = "run.dag"
STATUS_FILE = "node-status.txt"
DAGMAN_LOG = f"{DAG_FILE}.dagman.log"
RUN_ATTRIBUTE = "QuantumExecRun"
DATASTORE_ATTRIBUTE = "QuantumExecDatastore"

_S3_URI = re.compile(r"s3://(?P<place>[A-Za-z0-9.-]+(/[A-Za-z0-9_.+@-]+)*)\Z")
_SAFE_WORD = re.compile(r"[^\s\"';$\\]+\Z")
# Settings of the merge on the access point: addresses of files and services, never a secret.
_MERGE_VARIABLES = (
    *("HOME", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGSYSCONFDIR", "PGSSLMODE", "LSST_DB_AUTH"),
)


def write_dag(
    directory: Path,
    nodes: list[Node],
    run: str,
    datastore: str,
    configuration: SubmitConfiguration,
    environment: Mapping[str, str] = os.environ,
    resources: Mapping[str, ResourceRequest] | None = None,
) -> Path:
    """Write a DAG and its submit files into an empty directory; returns the path of the DAG.

    Parameters
    ----------
    environment
        Where the merge's addresses of files and services are taken from.
    resources
        What the tasks of the graph ask for, by task label.

    Raises
    ------
    ConfigurationError
        If the datastore is not in S3, or a path cannot stand in a submit file.
    """
    control_url = control_url_prefix(datastore, run)
    labels = sorted({node.label for node in nodes})
    for label in labels:
        requests = configuration.requests_of(label, (resources or {}).get(label))
        text = quantum_submit_file(label, run, datastore, control_url, configuration, requests)
        (directory / _submit_file(label)).write_text(text)
    merge = merge_submit_file(run, datastore, configuration, environment)
    (directory / "merge.sub").write_text(merge)
    script = directory / "merge-status.sh"
    script.write_text(_MERGE_STATUS)
    script.chmod(0o755)
    (directory / "dagman.config").write_text(_DAGMAN_CONFIG)
    write_node_table(directory, nodes)
    dag = directory / DAG_FILE
    dag.write_text("\n".join(_dag_lines(nodes, configuration)) + "\n")
    return dag


def control_url_prefix(datastore: str, run: str) -> str:
    """URL of our scheme for the control objects of a RUN; raises `ConfigurationError`."""
    found = _S3_URI.match(datastore)
    if not found:
        raise ConfigurationError(
            f"datastore: a pool needs s3://bucket/prefix of letters, digits and _ . + @ -, found "
            f"{datastore!r}"
        )
    return f"{JOB_SCHEME}://{found['place']}/{names.control_prefix(run)}"


def _submit_file(label: str) -> str:
    return f"quantum.{label}.sub"


def _dag_lines(nodes: list[Node], configuration: SubmitConfiguration) -> Iterable[str]:
    yield "CONFIG dagman.config"
    yield f"NODE_STATUS_FILE {STATUS_FILE} 60"
    for node in nodes:
        done = " DONE" if node.is_done else ""
        yield f"JOB {node.name} {_submit_file(node.label)}{done}"
        yield f'VARS {node.name} job_file="{node.job_file}" quantum_id="{node.quantum_ids[0]}"'
        requests = configuration.requests_of(node.label)
        if requests.number_of_retries:
            unless = requests.final_exit_codes()
            ending = f" UNLESS-EXIT {unless[0]}" if unless else ""
            yield f"RETRY {node.name} {requests.number_of_retries}{ending}"
    for node in nodes:
        if node.parents:
            yield f"PARENT {' '.join(sorted(node.parents))} CHILD {node.name}"
    yield "FINAL merge merge.sub"
    yield "SCRIPT POST merge merge-status.sh $RETURN $DAG_STATUS"


# A FINAL node decides the exit status of its DAG, so a merge that went well would turn a DAG with
# failed nodes into a successful one. The script's exit code takes the place of the merge's.
_MERGE_STATUS = """#!/bin/sh
# $1: exit code of registry-merge, $2: status of the DAG (0 is successful)
[ "$1" -eq 0 ] || exit "$1"
[ "$2" -eq 0 ] || exit 1
"""

# DAGMan submits at most (submits per interval) / (scan interval) nodes a second: 20 by default.
_DAGMAN_CONFIG = """DAGMAN_USER_LOG_SCAN_INTERVAL = 1
DAGMAN_MAX_SUBMITS_PER_INTERVAL = 100
"""


def quantum_submit_file(
    label: str,
    run: str,
    datastore: str,
    control_url: str,
    configuration: SubmitConfiguration,
    requests: Requests,
) -> str:
    """Return the submit description that all quanta of a task label share.

    One marker URL comes in and one goes out; HTCondor itself moves nothing else. Standard output
    and error are not asked for: the log of the task goes to S3.
    """
    endpoint = configuration.s3_endpoint_url
    lines = {
        "universe": "vanilla",
        "executable": _safe(configuration.worker_command(), "worker executable"),
        "transfer_executable": "false",
        "arguments": "run --log-level INFO",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": f"{control_url}$(job_file)",
        "transfer_output_files": names.STAGE_OUT_FILE,
        "transfer_output_remaps": f'"{names.STAGE_OUT_FILE} = {control_url}$(job_file)"',
        "request_cpus": str(requests.request_cpus),
        "request_memory": str(requests.request_memory),
        "request_disk": f"{requests.request_disk}MB",
        "batch_name": run,
        f"My.{RUN_ATTRIBUTE}": f'"{run}"',
        f"My.{DATASTORE_ATTRIBUTE}": f'"{datastore}"',
        "My.QuantumExecTaskLabel": f'"{label}"',
        "My.QuantumExecQuantumId": '"$(quantum_id)"',
        f"My.{DEADLINE_ATTRIBUTE}": str(configuration.transfer_deadline),
        **({f"My.{ENDPOINT_ATTRIBUTE}": f'"{_safe(endpoint, "endpoint")}"'} if endpoint else {}),
        **_policy(configuration),
    }
    return _submit_text(lines)


def _policy(configuration: SubmitConfiguration) -> dict[str, str]:
    """What HTCondor is to do with jobs that it cannot bring to an end.

    A held node hangs its DAG for ever, so holds end; a plugin that cannot be executed cycles
    without a hold (NumShadowStarts climbs, NumJobStarts stays 0), and one that is killed during
    the upload makes the whole job run again without limit.
    """
    return {
        "job_max_vacate_time": "60",
        "job_lease_duration": "600",
        "periodic_hold": "JobStatus != 5 && NumShadowStarts > 8 && NumJobStarts =?= 0",
        "periodic_release": (
            "NumHolds < 4 && "
            "((HoldReasonCode == 13 && time() - EnteredCurrentStatus > 120)"
            " || (HoldReasonCode == 12 && time() - EnteredCurrentStatus > 300))"
        ),
        "periodic_remove": (
            "(JobStatus == 5 && HoldReasonCode != 1 && time() - EnteredCurrentStatus > 3600)"
            f" || (JobStatus == 1 && NumJobStarts > {configuration.max_starts})"
        ),
    }


def merge_submit_file(
    run: str,
    datastore: str,
    configuration: SubmitConfiguration,
    environment: Mapping[str, str],
) -> str:
    """Return the submit description of the FINAL node.

    Local universe: it runs on the access point, the only place with a credential of the database.
    """
    # The file may be a minute old by then. What it calls done is done, and a delta lost if there is
    # none; of quanta that were done since, the merge only says that they may still come.
    words = ["merge", datastore, run, "--dag-status", STATUS_FILE]
    if configuration.merge_config:
        words += ["--config", configuration.merge_config]
    if configuration.s3_endpoint_url:
        words += ["--endpoint-url", configuration.s3_endpoint_url]
    variables = [f"{n}={environment[n]}" for n in _MERGE_VARIABLES if environment.get(n)]
    lines = {
        "universe": "local",
        "executable": _safe(configuration.merge_command(), "merge executable"),
        "arguments": " ".join(_safe(word, "argument of registry-merge") for word in words),
        "environment": f'"{" ".join(_safe(v, "environment of the merge") for v in variables)}"',
        "output": "merge.out",
        "error": "merge.err",
        "batch_name": run,
        f"My.{RUN_ATTRIBUTE}": f'"{run}"',
    }
    return _submit_text(lines)


def _submit_text(lines: Mapping[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in lines.items()) + "queue\n"


def _safe(word: str, what: str) -> str:
    """Refuse what a submit file would read as something else."""
    if not _SAFE_WORD.match(word):
        raise ConfigurationError(
            f"{what}: expected no white space, quotes, ;, $ or backslash, found {word!r}"
        )
    return word
