# SPDX-License-Identifier: BSD-3-Clause
"""The memory with which a quantum begins, from event logs of earlier submissions."""

from pathlib import Path

import pytest

from executor.submit.earlier_memory import NODES_LOG, OverMemory, grown_memory, over_memory_in_logs
from executor.submit.node_table import write_node_table
from executor.submit.nodes import Node
from executor.submit.requests import Requests

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
\tJob has gone over its memory limit.
\tCode {code} Subcode {subcode}
...
"""


def write_submission(root: Path, name: str, *events: str) -> None:
    """A submission's directory with a node of one quantum, another node, and an event log."""
    directory = root / name
    directory.mkdir()
    nodes = [Node(f"t_{q}", "t", f"jobs/{q}.json", (q,)) for q in (QUANTUM, OTHER)]
    write_node_table(directory, nodes)
    (directory / NODES_LOG).write_text("".join(events))


@pytest.mark.parametrize("code", [(34, 0), (34, 102), (21, 102), (3, 34)])
def test_job_held_for_memory_is_known_with_what_it_asked_and_used(
    tmp_path: Path, code: tuple[int, int]
) -> None:
    text = SUBMIT + IMAGE_SIZE + EVICTED + HELD
    filled = text.format(job=7, node=f"t_{QUANTUM}", code=code[0], subcode=code[1])
    other = SUBMIT.format(job=8, node=f"t_{OTHER}") + EVICTED.format(job=8)
    write_submission(tmp_path, "20261122T201904.000000Z", filled, other)
    assert over_memory_in_logs(tmp_path) == {QUANTUM: OverMemory(128, 150, True)}


def test_other_holds_and_lost_files_tell_nothing(tmp_path: Path) -> None:
    text = (SUBMIT + HELD).format(job=7, node=f"t_{QUANTUM}", code=13, subcode=256)
    write_submission(tmp_path, "1", text)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / NODES_LOG).write_text("000 (1.000.000) cut off")
    assert over_memory_in_logs(tmp_path) == {}
    assert over_memory_in_logs(tmp_path / "none") == {}


def test_next_attempt_asks_for_more_up_to_the_maximum() -> None:
    requests = Requests(request_memory=100, memory_multiplier=2, request_memory_max=250)
    assert grown_memory(OverMemory(100, 90, True), requests) == 200
    assert grown_memory(OverMemory(100, 120, True), requests) == 240
    assert grown_memory(OverMemory(200, 0, True), requests) == 250
    assert grown_memory(OverMemory(0, 0, True), requests) == 200
    assert grown_memory(OverMemory(50, 40, True), Requests(request_memory=300)) == 300
