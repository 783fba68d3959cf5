# SPDX-License-Identifier: BSD-3-Clause
"""What docs/graph-file.md shows of graphs is run as it stands there."""

import re
import shutil
from pathlib import Path

from executor.graph.graph_file import read_graph
from tests.integration.test_documents import ROOT, run_block, shell_blocks

DOCUMENT = ROOT / "docs" / "graph-file.md"


def test_commands(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs" / "pipelines", tmp_path / "configs" / "pipelines")
    (block,) = shell_blocks(DOCUMENT)
    printed = run_block(block, tmp_path)
    assert "quanta: 0 added, 0 removed, 0 changed" in printed
    assert "part.yaml: 3 quanta" in printed


def test_writer(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "GraphWriter" in block]
    assert len(block.splitlines()) <= 12
    path = tmp_path / "night1.qgraph"
    exec(block.replace("1_000_000", "10").replace("night1.qgraph", str(path)), {})
    graph = read_graph(path)
    assert [q.inputs[0].key for q in graph.quanta] == [f"raw/{n}.fits" for n in range(10)]
