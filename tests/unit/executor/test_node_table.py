# SPDX-License-Identifier: BSD-3-Clause
"""The table of a DAG's nodes: what is written is read again, and damage is told."""

from pathlib import Path

import pytest

from executor.submit.node_table import NODE_TABLE, read_node_table, write_node_table
from executor.submit.nodes import Node
from registry.errors import FormatError

NODES = [
    Node("isr_1", "isr", "jobs/1.json", ("1",), is_done=True),
    Node("isr_2", "isr", "jobs/2.json", ("2",), memory_mib=4096),
    Node("chain_3", "chain", "clusters/3.json", ("4", "5"), frozenset({"isr_1", "isr_2"})),
    Node("chain_6", "chain", "clusters/6.json", ("7", "8"), task_labels=("isr", "fit")),
]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write_node_table(tmp_path, NODES)
    content = path.read_bytes()
    assert read_node_table(tmp_path) == NODES
    assert write_node_table(tmp_path, NODES).read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8b\x08"])
def test_damage_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / NODE_TABLE).write_bytes(content)
    with pytest.raises(FormatError, match=r"node table .*nodes\.jsonl\.gz: expected"):
        read_node_table(tmp_path)


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"nodes\.jsonl\.gz: expected"):
        read_node_table(tmp_path)
