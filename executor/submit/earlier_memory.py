# SPDX-License-Identifier: BSD-3-Clause
"""With how much memory a job begins of a quantum whose earlier attempts went over theirs.

What HTCondor's holds grow in place, and DAGMan's retries over a macro, ends with the DAG. Two
records outlive it: the event logs of the RUN's earlier submissions on this access point, and the
deltas of attempts that the wrapper itself ended.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from executor.limits import allowed_memory_mib
from executor.submit.bucket_run import BucketRun
from executor.submit.configuration import SubmitConfiguration
from executor.submit.event_log import EventLog
from executor.submit.job_policy import memory_max
from executor.submit.node_states import NodeLog
from executor.submit.node_table import read_node_table
from executor.submit.nodes import Node
from executor.submit.requests import Requests
from executor.submit.submissions import NODES_LOG, find_submissions
from registry.delta import Delta
from registry.errors import FormatError
from registry.job import ResourceRequest
from transfer_plugins.concurrency import map_concurrently

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OverMemory:
    """What attempts that went over their memory had asked for, and what they used, MiB."""

    asked_mib: int = 0
    used_mib: int = 0

    def joined(self, other: "OverMemory") -> "OverMemory":
        """The most of both."""
        return OverMemory(max(self.asked_mib, other.asked_mib), max(self.used_mib, other.used_mib))


def earlier_memory(
    bucket: BucketRun, quantum_ids: Collection[str], configuration: SubmitConfiguration
) -> dict[str, OverMemory]:
    """Return what is known of quanta that went over their memory, by quantum id.

    Parameters
    ----------
    quantum_ids
        Those that are to be run; of the others no delta is read.
    """
    found = over_memory_in_logs(Path(configuration.submit_path), bucket.run)
    tried = [q for q in quantum_ids if q in bucket.delta_keys]
    for quantum_id, over in map_concurrently(
        lambda q: (q, over_in_delta(bucket.newest_delta(q))), tried
    ):
        if over is not None:
            found[quantum_id] = over.joined(found.get(quantum_id, over))
    return {q: found[q] for q in quantum_ids if q in found}


def with_earlier_memory(
    nodes: Iterable[Node],
    earlier: Mapping[str, OverMemory],
    configuration: SubmitConfiguration,
    resources: Mapping[str, ResourceRequest],
) -> list[Node]:
    """Return nodes of which those begin with more that have a quantum that went over its memory.

    Parameters
    ----------
    configuration
        With the requests of clusters.
    resources
        What the tasks of the graph ask for, by task label.
    """

    def with_memory(node: Node) -> Node:
        over = [earlier[q] for q in node.quantum_ids if q in earlier]
        if not over or node.is_done:
            return node
        requests = configuration.requests_of(node.label, resources.get(node.label))
        return replace(node, memory_mib=max(grown_memory(o, requests) for o in over))

    return [with_memory(node) for node in nodes]


def grown_memory(over: OverMemory, requests: Requests) -> int:
    """Return the MiB of the next attempt: more by the multiplier, to the job's own maximum.

    That of settings of which nothing grows is their request, whatever was asked for before.
    """
    first = requests.request_memory or 0
    wanted = max(over.asked_mib or first, over.used_mib) * (requests.memory_multiplier or 1)
    return max(first, min(memory_max(requests), math.ceil(wanted)))


def over_in_delta(delta: Delta | None) -> OverMemory | None:
    """Return what an attempt was allowed and used that the wrapper ended for its memory."""
    allowed = None if delta is None else allowed_memory_mib(delta.error)
    if delta is None or allowed is None:
        return None
    asked = (delta.requested.memory_mib if delta.requested else None) or 0
    return OverMemory(max(asked, allowed), math.ceil(delta.resources.max_rss_bytes / _MIB))


def over_memory_in_logs(place: Path, run: str) -> dict[str, OverMemory]:
    """Read the event logs of all submissions of a RUN; quanta of jobs that went over, by id.

    A submission whose log or node table is gone or damaged tells nothing.

    Parameters
    ----------
    place
        The ``submitPath`` below which the submissions are.
    """
    found: dict[str, OverMemory] = {}
    for directory in find_submissions(place, run):
        log = NodeLog(lambda name: name)
        try:
            quanta_of = {n.name: n.quantum_ids for n in read_node_table(directory)}
            log.read(EventLog(directory / NODES_LOG).events())
        except (FormatError, OSError):
            continue
        for node in log.nodes.values():
            if node.went_over_memory:
                over = OverMemory(node.requested_mib, node.used_mib)
                for quantum_id in quanta_of.get(node.name, ()):
                    found[quantum_id] = over.joined(found.get(quantum_id, over))
    return found
