# SPDX-License-Identifier: BSD-3-Clause
"""``nodes.jsonl.gz``: the nodes of a DAG as they were submitted, one line of JSON for each.

DAGMan's own files know names only. This one tells which quanta a node carries and who its parents
are, so that ``status`` and ``restart`` need neither the graph nor the datastore for it.
"""

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from executor.submit.nodes import Node
from registry.errors import FormatError

NODE_TABLE = "nodes.jsonl.gz"


class _Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line: the members of a `Node`, with its parents in order."""

    name: str
    label: str
    job_file: str
    quantum_ids: list[str]
    parents: list[str] = []
    is_done: bool = False
    memory_mib: int | None = None
    task_labels: list[str] = []


_decoder = msgspec.json.Decoder(_Row)


def write_node_table(directory: Path, nodes: Iterable[Node]) -> Path:
    """Write the table into the directory of a DAG; the same nodes always give the same bytes."""
    rows = (
        _Row(
            *(n.name, n.label, n.job_file, list(n.quantum_ids), sorted(n.parents)),
            *(n.is_done, n.memory_mib, list(n.task_labels)),
        )
        for n in nodes
    )
    path = directory / NODE_TABLE
    path.write_bytes(gzip.compress(msgspec.json.Encoder().encode_lines(rows), 6, mtime=0))
    return path


def read_node_table(directory: Path) -> list[Node]:
    """Read the table of a DAG.

    Raises
    ------
    FormatError
        If it is not there, damaged, or of another form.
    """
    path = directory / NODE_TABLE
    try:
        content = path.read_bytes()
        if not content:
            raise EOFError("found no bytes at all")
        rows = _decoder.decode_lines(gzip.decompress(content))
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"node table {path}: expected gzip of JSON lines, {error}") from error
    return [
        Node(
            row.name,
            row.label,
            row.job_file,
            tuple(row.quantum_ids),
            frozenset(row.parents),
            row.is_done,
            row.memory_mib,
            tuple(row.task_labels),
        )
        for row in rows
    ]
