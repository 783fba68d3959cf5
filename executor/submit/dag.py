# SPDX-License-Identifier: BSD-3-Clause
"""The files of a DAG: the init job, one job per node, DAGMan for the order, the merge as FINAL.

External submit files with VARS, one per label: inline descriptions leak VARS between nodes up to
HTCondor 24.0. The text is written here because ``htcondor2.dags`` 25.14 leaves out the submit file
of a FINAL node, and writes CATEGORY where MAXJOBS is meant.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from executor.submit.configuration import ConfigurationError, SubmitConfiguration
from executor.submit.job_policy import dagman_retry
from executor.submit.node_table import write_node_table
from executor.submit.nodes import Node
from executor.submit.requests import Requests
from executor.submit.submit_files import (
    DATASTORE_ATTRIBUTE as DATASTORE_ATTRIBUTE,
)
from executor.submit.submit_files import (
    INIT_LABEL,
    MERGE_LABEL,
    Submission,
    init_submit_file,
    merge_submit_file,
    quantum_submit_file,
    summary,
)
from executor.submit.submit_files import (
    RUN_ATTRIBUTE as RUN_ATTRIBUTE,
)
from executor.submit.submit_files import (
    STATUS_FILE as STATUS_FILE,
)
from executor.submit.submit_files import (
    control_url_prefix as control_url_prefix,
)
from executor.submit.submit_text import node_word
from registry.job import ResourceRequest

DAG_FILE = "run.dag"
DAGMAN_LOG = f"{DAG_FILE}.dagman.log"

# One worker may be broken; two are no accident.
_INIT_RETRIES = 1
_INIT_REQUESTS = {"request_memory": 256, "request_cpus": 1, "request_disk": 64}


@dataclass(frozen=True, slots=True)
class InitJob:
    """The job that looks, before all others, whether a worker can run quanta of a graph."""

    graph_id: str
    is_done: bool = False


def write_dag(
    directory: Path,
    nodes: list[Node],
    run: str,
    datastore: str,
    configuration: SubmitConfiguration,
    environment: Mapping[str, str] = os.environ,
    resources: Mapping[str, ResourceRequest] | None = None,
    init: InitJob | None = None,
) -> Path:
    """Write a DAG and its submit files into an empty directory; returns the path of the DAG.

    Parameters
    ----------
    environment
        Where the merge's addresses of files and services are taken from.
    resources
        What the tasks of the graph ask for, by task label.
    init
        None: nothing is looked at before the first quanta.

    Raises
    ------
    ConfigurationError
        If the datastore is not in S3, a path cannot stand in a submit file, or a quantum of
        ``initTasks`` needs one of another label.
    """
    submission = Submission(run, datastore, configuration)
    requests = {
        label: configuration.requests_of(label, (resources or {}).get(label))
        for label in sorted({node.label for node in nodes})
    }
    files = {
        _submit_file(label): quantum_submit_file(submission, label, found)
        for label, found in requests.items()
    }
    if init is not None:
        asked = _init_requests(configuration)
        files["init.sub"] = init_submit_file(submission, init.graph_id, asked)
    files["merge.sub"] = merge_submit_file(submission, environment)
    files["dagman.config"] = _DAGMAN_CONFIG
    for name, text in files.items():
        (directory / name).write_text(text)
    script = directory / "merge-status.sh"
    script.write_text(_MERGE_STATUS)
    script.chmod(0o755)
    write_node_table(directory, nodes)
    dag = directory / DAG_FILE
    lines = _dag_lines(nodes, requests, configuration.init_tasks, init)
    dag.write_text("\n".join(lines) + "\n")
    return dag


def _submit_file(label: str) -> str:
    return f"quantum.{node_word(label, 'label')}.sub"


def _init_requests(configuration: SubmitConfiguration) -> Requests:
    """Return what the init job asks for: as any job of the run, but little."""
    import msgspec

    general = configuration.requests_of("")
    return msgspec.structs.replace(
        general, **_INIT_REQUESTS, number_of_retries=0, request_walltime=None
    )


def _dag_lines(
    nodes: Sequence[Node],
    requests: Mapping[str, Requests],
    init_tasks: Sequence[str],
    init: InitJob | None,
) -> Iterator[str]:
    yield "CONFIG dagman.config"
    yield f"NODE_STATUS_FILE {STATUS_FILE} 60"
    if init is not None:
        yield f"JOB {INIT_LABEL} init.sub{' DONE' if init.is_done else ''}"
        yield f'VARS {INIT_LABEL} memory="{_INIT_REQUESTS["request_memory"]}" retry="$(RETRY)"'
        yield f"RETRY {INIT_LABEL} {_INIT_RETRIES} UNLESS-EXIT 21"
    for node in nodes:
        yield from _node_lines(node, requests[node.label])
    yield from _order(nodes, init_tasks, init)
    for label, asked in requests.items():
        if asked.max_jobs is not None:
            yield f"MAXJOBS {node_word(label, 'label of maxJobs')} {asked.max_jobs}"
    yield f"FINAL {MERGE_LABEL} merge.sub"
    yield f"SCRIPT POST {MERGE_LABEL} merge-status.sh $RETURN $DAG_STATUS"


def _node_lines(node: Node, requests: Requests) -> Iterator[str]:
    name = node_word(node.name, "name of a node")
    yield f"JOB {name} {_submit_file(node.label)}{' DONE' if node.is_done else ''}"
    memory = node.memory_mib or requests.request_memory
    yield (
        f'VARS {name} job_file="{node.job_file}" quantum_id="{node.quantum_ids[0]}" '
        f'quanta="{summary(node.quanta_by_task())}" node_name="{name}" '
        f'memory="{memory}" retry="$(RETRY)"'
    )
    retry = dagman_retry(requests)
    if retry:
        yield f"RETRY {name} {retry}"
    if requests.max_jobs is not None:
        yield f"CATEGORY {name} {node.label}"


def _order(nodes: Sequence[Node], init_tasks: Sequence[str], init: InitJob | None) -> Iterator[str]:
    for node in nodes:
        if node.parents:
            yield f"PARENT {' '.join(sorted(node.parents))} CHILD {node.name}"
    done = {node.name for node in nodes if node.is_done}
    roots = [node for node in nodes if not node.is_done and node.parents <= done]
    if init is not None:
        for root in roots:
            yield f"PARENT {INIT_LABEL} CHILD {root.name}"
    first = _first_nodes(nodes, init_tasks)
    # Of the others those that wait for no other unfinished node; the rest come after them.
    others = [
        node.name
        for node in nodes
        if not node.is_done and node.name not in first and node.parents <= done | first
    ]
    if first and others:
        # DAGMan puts a node of its own between many parents and many children.
        yield f"PARENT {' '.join(sorted(first))} CHILD {' '.join(others)}"


def _first_nodes(nodes: Iterable[Node], init_tasks: Sequence[str]) -> set[str]:
    """Names of the nodes that all others wait for; raises `ConfigurationError`."""
    asked = set(init_tasks)
    first = {node.name: node for node in nodes if asked & node.quanta_by_task().keys()}
    for node in first.values():
        others = sorted(node.parents - first.keys())
        if others:
            found = ", ".join(sorted(asked & node.quanta_by_task().keys()))
            raise ConfigurationError(
                f"initTasks: expected labels whose quanta need none of another, found {found!r}: "
                f"{node.name} needs {others[0]}"
            )
    return set(first)


# A FINAL node decides the exit status of its DAG, so a merge that went well would turn a DAG with
# failed nodes into a successful one. The script's exit code takes the place of the merge's.
_MERGE_STATUS = """#!/bin/sh
# $1: exit code of registry-merge, $2: status of the DAG (0 is successful)
[ "$1" -eq 0 ] || exit "$1"
[ "$2" -eq 0 ] || exit 1
"""

# DAGMan submits at most (submits per interval) / (scan interval) nodes a second: 20 by default.
# A lower maxIdle lowers the first of them to a tenth of it, unless it is set here.
_DAGMAN_CONFIG = """DAGMAN_USER_LOG_SCAN_INTERVAL = 1
DAGMAN_MAX_SUBMITS_PER_INTERVAL = 100
"""
