# SPDX-License-Identifier: BSD-3-Clause
"""Event logs of real DAGs (HTCondor 23.9.6), with the node tables that belong to them.

``failures``: success, failure with retries, a held and released job, an eviction, a starter that
was killed, a signal. ``rescue``: the same DAG, mended and taken up again. ``removed``: a DAG that
was removed.
"""

import shutil
from pathlib import Path

from executor.submit.dag_structure import read_dag_structure
from executor.submit.node_table import write_node_table
from executor.submit.nodes import Node

RECORDED = Path(__file__).parent / "event_logs"
NAMES = ("failures", "rescue", "removed")


def submission_of(name: str, place: Path, run: str, stamp: str = "20261122T195911") -> Path:
    """A directory of a submission with a recorded log, below a submitPath."""
    directory = place / run / "quantum-exec" / stamp
    shutil.copytree(RECORDED / name, directory)
    structure = read_dag_structure(RECORDED / name)
    nodes = [
        Node(n.name, n.name.split("_")[0], f"jobs/{n.name}.json", (n.name,), frozenset(n.parents))
        for n in structure.values()
        if not n.is_final
    ]
    write_node_table(directory, nodes)
    return directory
