# SPDX-License-Identifier: BSD-3-Clause
"""Cluster file: the quanta that one job carries, written when a graph is submitted in clusters.

Each quantum of a cluster has its own job file, its own sandbox below that of the job, and its own
delta. A cluster is no unit of commitment: part of it may succeed, and the rest be run later.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from registry import names, typed_json
from registry.errors import FormatError

QUANTUM_CLUSTER_FORMAT = 1

MAX_MEMBERS = 10_000
"""Quanta of one job; more than a third of the largest known graph in one job is a mistake."""

_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z")


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A quantum of a cluster.

    ``not_kept`` are ids of outputs that stay in the sandbox: every quantum that reads them is in
    the same cluster, and they are left out of the datastore when all of these are done.
    """

    quantum_id: str
    not_kept: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class QuantumCluster:
    """Quanta of one RUN that one job runs, one after the other, in the order of ``members``.

    ``cluster_id`` is a UUID derived from the members (`registry.model.derived_id`), so the same
    cluster has the same id in every submission. ``label`` is that of the submit configuration.
    """

    format: int
    graph_id: str
    run: str
    cluster_id: str
    label: str
    members: list[ClusterMember]


def write_quantum_cluster(cluster: QuantumCluster) -> bytes:
    """Return the text of a cluster file."""
    return typed_json.encode(cluster).encode()


def read_quantum_cluster(text: str | bytes, what: str) -> QuantumCluster:
    """Read a cluster file.

    Raises
    ------
    NewerFormatError
        If a newer release wrote it.
    FormatError
        If it is damaged, an id is no UUID, or it has no members, too many, or one twice.
    InvalidNameError
        If its RUN is unsafe.
    """
    cluster = typed_json.decode_format(
        QuantumCluster,
        text,
        what,
        newest=QUANTUM_CLUSTER_FORMAT,
        upgrade="upgrade quantum-exec on the worker",
    )
    names.check_run(cluster.run)
    _check_members(cluster, what)
    return cluster


def _check_members(cluster: QuantumCluster, what: str) -> None:
    """Ids become names of directories and keys, so nothing else than UUIDs may be one."""
    ids = [member.quantum_id for member in cluster.members]
    for found in (cluster.cluster_id, cluster.graph_id, *ids):
        if not _ID.match(found):
            raise FormatError(f"{what}: expected a UUID as id, found {found!r}")
    if not 1 <= len(ids) <= MAX_MEMBERS:
        raise FormatError(f"{what}: expected 1 to {MAX_MEMBERS} quanta, found {len(ids)}")
    twice = [quantum_id for quantum_id, number in Counter(ids).items() if number > 1]
    if twice:
        raise FormatError(f"{what}: expected each quantum once, found {twice} again")
