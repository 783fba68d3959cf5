# SPDX-License-Identifier: BSD-3-Clause
"""With how much memory a quantum begins whose earlier attempts went over theirs.

What HTCondor's holds grow in place, and DAGMan's retries over a macro, ends with the DAG. Two
records outlive it: the event logs of the RUN's earlier submissions on this access point, and the
deltas of attempts that the wrapper itself ended (exit code 35).
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from executor.exit_codes import ExitCode
from executor.submit.bucket_run import BucketRun
from executor.submit.configuration import SubmitConfiguration
from executor.submit.dag import DAG_FILE
from executor.submit.hold_reasons import HoldCause, classify
from executor.submit.node_table import read_node_table
from executor.submit.requests import Requests
from registry.attempt import AttemptStatus
from registry.errors import FormatError
from registry.job import ResourceRequest
from registry.names import CONTROL
from transfer_plugins.concurrency import map_concurrently

NODES_LOG = f"{DAG_FILE}.nodes.log"

_MIB = 1024 * 1024
# As in BPS, where requestMemoryMax is not set.
_MOST_MIB = 491_520
_HEAD = re.compile(r"^(\d{3}) \((\d+)\.", re.MULTILINE)
_NODE = re.compile(r"DAG Node: (\S+)")
_HOLD_CODE = re.compile(r"Code (\d+) Subcode (\d+)")
# "Memory (MB) : usage request allocated"; the usage may be empty.
_MEMORY_ROW = re.compile(r"^\s*Memory \(MB\)\s*:((?:\s+\d+){2,3})\s*$", re.MULTILINE)
_USAGE = re.compile(r"(\d+)\s+-\s+MemoryUsage of job \(MB\)")


@dataclass
class OverMemory:
    """What an attempt that went over its memory had asked for, and what it used, MiB."""

    asked_mib: int = 0
    used_mib: int = 0
    went_over: bool = False

    def add(self, asked_mib: int, used_mib: int) -> None:
        """Take in another measurement."""
        self.asked_mib = max(self.asked_mib, asked_mib)
        self.used_mib = max(self.used_mib, used_mib)


def starting_memory(
    bucket: BucketRun,
    quantum_ids: Collection[str],
    configuration: SubmitConfiguration,
    resources: Mapping[str, ResourceRequest],
) -> dict[str, int]:
    """Return the MiB with which quanta begin that went over their memory, by quantum id.

    Parameters
    ----------
    quantum_ids
        Those that are to be run; of the others nothing is read.
    resources
        What the tasks of the graph ask for, by task label.
    """
    found = over_memory_in_logs(Path(configuration.submit_path) / bucket.run / CONTROL)
    tried = [q for q in quantum_ids if q in bucket.delta_keys]
    for quantum_id, over in map_concurrently(lambda q: (q, _over_in_delta(bucket, q)), tried):
        if over is not None:
            known = found.setdefault(quantum_id, over)
            known.add(over.asked_mib, over.used_mib)
    memory = {}
    for quantum_id in quantum_ids:
        if quantum_id in found:
            label = bucket.quanta[quantum_id].task_label
            requests = configuration.requests_of(label, resources.get(label))
            memory[quantum_id] = grown_memory(found[quantum_id], requests)
    return memory


def grown_memory(over: OverMemory, requests: Requests) -> int:
    """Return the MiB of the next attempt: more by the multiplier, to the maximum."""
    first = requests.request_memory or 0
    multiplier = requests.memory_multiplier or 1.0
    most = max(first, requests.request_memory_max or _MOST_MIB)
    asked = over.asked_mib or first
    return max(first, min(most, math.ceil(max(asked, over.used_mib) * multiplier)))


def _over_in_delta(bucket: BucketRun, quantum_id: str) -> OverMemory | None:
    delta = bucket.newest_delta(quantum_id)
    if (
        delta is None
        or delta.status is AttemptStatus.SUCCESSFUL
        or delta.exit_code != ExitCode.OVER_MEMORY
    ):
        return None
    asked = (delta.requested.memory_mib if delta.requested else None) or 0
    return OverMemory(asked, math.ceil(delta.resources.max_rss_bytes / _MIB), True)


def over_memory_in_logs(root: Path) -> dict[str, OverMemory]:
    """Read the event logs of all submissions of a RUN; quanta of jobs that went over, by id.

    A submission whose log or node table is gone or damaged tells nothing.
    """
    found: dict[str, OverMemory] = {}
    for log in sorted(root.glob(f"*/{NODES_LOG}")):
        try:
            quanta_of = {n.name: n.quantum_ids for n in read_node_table(log.parent)}
            text = log.read_text("utf-8", "replace")
        except (FormatError, OSError):
            continue
        for node, over in _over_by_node(text).items():
            for quantum_id in quanta_of.get(node, ()):
                known = found.setdefault(quantum_id, over)
                known.add(over.asked_mib, over.used_mib)
    return found


def _over_by_node(text: str) -> dict[str, OverMemory]:
    """The nodes of one event log that were held for memory; a retry of a node is another job."""
    node_of: dict[str, str] = {}
    seen: dict[str, OverMemory] = {}
    for number, cluster, event in _events(text):
        if number == 0 and (named := _NODE.search(event)):
            node_of[cluster] = named[1]
        over = seen.setdefault(node_of.get(cluster, ""), OverMemory())
        if rows := _MEMORY_ROW.search(event):
            *used, asked, _ = map(int, rows[1].split())
            over.add(asked, max(used, default=0))
        if usage := _USAGE.search(event):
            over.add(0, int(usage[1]))
        if number == 12 and (code := _HOLD_CODE.search(event)):
            cause = classify(int(code[1]), int(code[2]), event).cause
            over.went_over = over.went_over or cause is HoldCause.MEMORY
    return {node: over for node, over in seen.items() if over.went_over}


def _events(text: str) -> Iterator[tuple[int, str, str]]:
    """Number, HTCondor's cluster id and text of each event that is whole."""
    for piece in text.split("\n...\n"):
        if head := _HEAD.search(piece):
            yield int(head[1]), head[2], piece
