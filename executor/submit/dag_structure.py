# SPDX-License-Identifier: BSD-3-Clause
"""What DAGMan was told of a DAG: its nodes in order, their parents and retries, what is done."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from executor.submit.dag import DAG_FILE
from registry.errors import FormatError

_RESCUE = re.compile(re.escape(DAG_FILE) + r"\.rescue\d{3}\Z")
_ALL_NODES = "ALL_NODES"


@dataclass(slots=True)
class DagNode:
    """A node as the DAG file has it; retries after exit code ``unless_exit`` are not made."""

    name: str
    is_final: bool = False
    parents: list[str] = field(default_factory=list)
    retries: int = 0
    unless_exit: int | None = None
    is_done: bool = False


def read_dag_structure(directory: Path) -> dict[str, DagNode]:
    """Read the DAG file of a submission and the rescue files beside it; nodes by name.

    Raises
    ------
    FormatError
        If there is no DAG file.
    """
    path = directory / DAG_FILE
    nodes: dict[str, DagNode] = {}
    # `JOIN x` is a name that stands for its parents.
    joined: dict[str, list[str]] = defaultdict(list)
    try:
        with path.open(errors="replace") as lines:
            for line in lines:
                _read_line(line.split(), nodes, joined)
        for rescue in directory.iterdir():
            if _RESCUE.match(rescue.name):
                for line in rescue.read_text(errors="replace").splitlines():
                    _read_line(line.split(), nodes, joined)
    except OSError as error:
        raise FormatError(f"expected the DAG file {path}, found none: {error}") from error
    return nodes


def _read_line(words: list[str], nodes: dict[str, DagNode], joined: dict[str, list[str]]) -> None:
    """One line of a DAG or rescue file; those that say nothing of the order are passed over."""
    if len(words) < 2:
        return
    keyword, name = words[0].upper(), words[1]
    if keyword in ("JOB", "FINAL"):
        nodes[name] = DagNode(name, keyword == "FINAL", is_done=words[-1].upper() == "DONE")
    elif keyword == "DONE" and name in nodes:
        nodes[name].is_done = True
    elif keyword == "RETRY" and len(words) > 2 and words[2].isdigit():
        unless = words[words.index("UNLESS-EXIT") + 1] if "UNLESS-EXIT" in words else None
        for node in nodes.values() if name == _ALL_NODES else [nodes[name]] * (name in nodes):
            node.retries = int(words[2])
            node.unless_exit = int(unless) if unless else None
    elif keyword == "PARENT" and "CHILD" in words:
        middle = words.index("CHILD")
        parents = [p for word in words[1:middle] for p in joined.get(word, [word])]
        for child in words[middle + 1 :]:
            if child in nodes:
                nodes[child].parents += parents
            else:
                joined[child] += parents
