# SPDX-License-Identifier: BSD-3-Clause
"""The memory with which a quantum begins, from event logs of earlier submissions."""

from pathlib import Path

import pytest

from executor.submit.cluster_configuration import ClusterRequest
from executor.submit.configuration import SubmitConfiguration
from executor.submit.dag import DAG_FILE
from executor.submit.earlier_memory import (
    OverMemory,
    grown_memory,
    over_memory_in_logs,
    with_earlier_memory,
)
from executor.submit.job_policy import MEMORY_LIMIT_MIB
from executor.submit.node_table import write_node_table
from executor.submit.nodes import Node
from executor.submit.requests import Requests
from executor.submit.submissions import NODES_LOG
from tests.recorded_logs import submission_of

RUN = "u/tester/night1"
QUANTUM = "30c66861-a421-5dc8-845b-779aca3f24c3"
OTHER = "11c1f4ce-47d5-56af-b763-893008450419"

SUBMIT = """\
000 ({job}.000.000) 2026-11-22 20:19:06 Job submitted from host: <127.0.0.1:40389?addrs=x>
    DAG Node: {node}
...
"""
EVICTED = """\
004 ({job}.000.000) 2026-11-22 20:20:06 Job was evicted.
\t(0) CPU times
\tPartitionable Resources :    Usage  Request Allocated
\t   Cpus                 :        0        1         1
\t   Disk (KB)            :       40    10240     12000
\t   Memory (MB)          :      130      128       128
...
"""
IMAGE_SIZE = """\
006 ({job}.000.000) 2026-11-22 20:19:50 Image size of job updated: 170000
\t150  -  MemoryUsage of job (MB)
\t153000  -  ResidentSetSize of job (KB)
...
"""
HELD = """\
012 ({job}.000.000) 2026-11-22 20:20:06 Job was held.
\t{reason}
\tCode {code} Subcode {subcode}
...
"""


POOL_REASON = "Job has gone over its memory limit."
OWN_REASON = "memory: asked for 256 MiB, last measured 100 MiB; the next try asks for more"


def write_submission(place: Path, name: str, *events: str) -> Path:
    """A submission's directory with a node of one quantum, another node, and an event log."""
    directory = place / RUN / "quantum-exec" / name
    directory.mkdir(parents=True)
    (directory / DAG_FILE).touch()
    nodes = [Node(f"t_{q}", "t", f"jobs/{q}.json", (q,)) for q in (QUANTUM, OTHER)]
    write_node_table(directory, nodes)
    (directory / NODES_LOG).write_text("".join(events))
    return directory


def events(text: str, code: int, subcode: int, reason: str = POOL_REASON) -> str:
    """Events of the job of a quantum."""
    return text.format(job=7, node=f"t_{QUANTUM}", code=code, subcode=subcode, reason=reason)


@pytest.mark.parametrize("code", [(34, 0), (34, 102), (21, 102)])
def test_job_held_for_memory_is_known_with_what_it_asked_and_used(
    tmp_path: Path, code: tuple[int, int]
) -> None:
    filled = events(SUBMIT + IMAGE_SIZE + EVICTED + HELD, *code)
    other = SUBMIT.format(job=8, node=f"t_{OTHER}") + EVICTED.format(job=8)
    write_submission(tmp_path, "20261122T201904.000000Z", filled, other)
    assert over_memory_in_logs(tmp_path, RUN) == {QUANTUM: OverMemory(128, 150)}


def test_our_own_hold_tells_what_no_table_does(tmp_path: Path) -> None:
    write_submission(tmp_path, "1", events(SUBMIT + HELD, 3, 34, OWN_REASON))
    assert over_memory_in_logs(tmp_path, RUN) == {QUANTUM: OverMemory(256, 100)}
    write_submission(tmp_path, "2", events(SUBMIT + EVICTED + HELD, 34, 102))
    assert over_memory_in_logs(tmp_path, RUN) == {QUANTUM: OverMemory(256, 130)}


def test_recorded_log_of_a_pool_is_understood(tmp_path: Path) -> None:
    submission_of("failures", tmp_path, RUN)
    assert over_memory_in_logs(tmp_path, RUN) == {"isr_8": OverMemory(64, 5)}


def test_other_holds_and_lost_files_tell_nothing(tmp_path: Path) -> None:
    write_submission(tmp_path, "1", events(SUBMIT + HELD, 13, 256))
    cut = write_submission(tmp_path, "2", "000 (1.000.000) cut off")
    (cut / "nodes.jsonl.gz").unlink()
    write_submission(tmp_path, "3").joinpath(NODES_LOG).unlink()
    assert over_memory_in_logs(tmp_path, RUN) == {}
    assert over_memory_in_logs(tmp_path / "none", RUN) == {}


@pytest.mark.parametrize(
    ("over", "expected"),
    [((100, 90), 200), ((100, 120), 240), ((200, 0), 250), ((0, 0), 200), ((10, 20), 100)],
)
def test_next_attempt_asks_for_more_up_to_the_maximum(over: tuple[int, int], expected: int) -> None:
    requests = Requests(request_memory=100, memory_multiplier=2, request_memory_max=250)
    assert grown_memory(OverMemory(*over), requests) == expected


@pytest.mark.parametrize("multiplier", [None, 1.0])
def test_where_nothing_grows_the_request_holds(multiplier: float | None) -> None:
    """Also if an attempt with other settings asked for more, or used more."""
    requests = Requests(request_memory=100, memory_multiplier=multiplier, request_memory_max=5000)
    assert grown_memory(OverMemory(400, 390), requests) == 100


def test_without_maximum_it_ends_where_that_of_the_job_does() -> None:
    requests = Requests(request_memory=100, memory_multiplier=2)
    assert grown_memory(OverMemory(400_000, 0), requests) == MEMORY_LIMIT_MIB


def test_job_with_several_quanta_begins_as_its_own_label_asks() -> None:
    quanta = (QUANTUM, OTHER)
    nodes = [
        Node("many_1", "many", "clusters/1.json", quanta),
        Node("t_1", "t", "jobs/1.json", (QUANTUM,)),
        Node("t_2", "t", "jobs/2.json", (OTHER,)),
        Node("t_3", "t", "jobs/3.json", (QUANTUM,), is_done=True),
    ]
    configuration = SubmitConfiguration(
        cluster={"many": ClusterRequest(pipetasks="t", request_memory=500)},
        pipetask={"t": Requests(request_memory=100, request_memory_max=300)},
    )
    earlier = {QUANTUM: OverMemory(500, 450)}
    found = with_earlier_memory(nodes, earlier, configuration, {})
    assert [node.memory_mib for node in found] == [1000, 300, None, None]
