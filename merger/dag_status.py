# SPDX-License-Identifier: BSD-3-Clause
"""What DAGMan's node status file says about the quanta of a DAG.

The file (``NODE_STATUS_FILE``, ClassAds in text) is written anew under another name and renamed, so
it is there whole or not at all; on a shared file system a reader may still find it cut. Only one
that ends with its ``StatusEnd`` is believed. Names of nodes are ``<task label>_<quantum id>``, or
``<cluster label>_<cluster id>``: then each quantum of the cluster has the status of the node.
"""

import enum
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from merger.dag_clusters import RunClusters
from merger.packed_ids import PackedIds, pack_ids, unpack_ids
from registry.errors import FormatError, QuantumExecError
from transfer_plugins.object_store import TransferError

NodeStatuses = np.ndarray[Any, np.dtype[np.int8]]

# Comments hold the same in words. Strings have no line breaks, so damage ends with its line.
_TOKEN = re.compile(
    rb"/\*[^\n]*?\*/"
    rb"|(?P<bracket>[\[\]])"
    rb'|(?P<name>\w+)[ \t]*=[ \t]*(?:"(?P<text>(?:[^"\\\n]|\\.)*)"|(?P<number>\d{1,9})\b)'
    rb'|"(?:[^"\\\n]|\\.)*"'
)
_ID = re.compile(rb"_([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})\Z")


class NodeStatus(enum.IntEnum):
    """DAGMan's numbers for a node, and for a DAG as a whole."""

    NOT_IN_DAG = -1
    """Ours: the DAG has no such node."""
    NOT_READY = 0
    READY = 1
    PRERUN = 2
    SUBMITTED = 3
    POSTRUN = 4
    DONE = 5
    ERROR = 6
    """Failed, and no retry is left."""
    FUTILE = 7
    """Will never run, because a node that it depends on failed."""


class DagStatusError(QuantumExecError):
    """The node status file of a DAG cannot be read."""

    error_type = "dag_status"


@dataclass(frozen=True, slots=True)
class DagStatus:
    """A DAG at one moment; ``quanta`` is sorted, ``statuses`` has the same order.

    As it is read, ids of clusters stand among those of quanta; `with_members` resolves them.
    """

    is_ended: bool
    quanta: PackedIds
    statuses: NodeStatuses

    def of(self, quanta: PackedIds) -> NodeStatuses:
        """Return the status of each of some quanta."""
        found = np.full(len(quanta), NodeStatus.NOT_IN_DAG, np.int8)
        if len(self.quanta):
            places = np.searchsorted(self.quanta, quanta).clip(max=len(self.quanta) - 1)
            is_there = self.quanta[places] == quanta
            found[is_there] = self.statuses[places[is_there]]
        return found

    def with_members(self, clusters: RunClusters) -> "DagStatus":
        """Return the same with the quanta of clusters in their place; raises as `quanta_of`."""
        groups = clusters.quanta_of(unpack_ids(self.quanta))
        sizes = [len(group) for group in groups]
        members = pack_ids([quantum_id for group in groups for quantum_id in group])
        order = np.argsort(members, kind="stable")
        return DagStatus(self.is_ended, members[order], np.repeat(self.statuses, sizes)[order])


NOTHING_KNOWN = DagStatus(False, np.zeros(0, "S16"), np.zeros(0, np.int8))
"""A DAG whose file is not there yet: every quantum may still run."""


def parse_dag_status(content: bytes) -> DagStatus | None:
    """Read the text of a node status file; None if it is cut or is something else."""
    dag_status, is_whole = -1, False
    quanta, statuses = [], bytearray()
    for ad in _ads(content):
        kind = ad.get(b"Type") or ad.get(b"MyType")
        if kind == b"DagStatus":
            dag_status = _status(ad.get(b"DagStatus"))
        elif kind == b"NodeStatus":
            status, named = _status(ad.get(b"NodeStatus")), _ID.search(ad.get(b"Node", b""))
            # Others are no quanta: the FINAL node.
            if named and status >= 0:
                quanta.append(named[1].decode())
                statuses.append(status)
        elif kind == b"StatusEnd":
            is_whole = True
    if not is_whole or dag_status < 0:
        return None
    packed = pack_ids(quanta)
    order = np.argsort(packed, kind="stable")
    return DagStatus(
        dag_status in (NodeStatus.DONE, NodeStatus.ERROR, NodeStatus.FUTILE),
        packed[order],
        np.frombuffer(bytes(statuses), np.int8)[order],
    )


def _ads(content: bytes) -> Iterable[dict[bytes, bytes]]:
    """Give the attributes of each ad that has both its brackets; lists are left out."""
    ad: dict[bytes, bytes] | None = None
    for token in _TOKEN.finditer(content):
        if token["bracket"] == b"[":
            ad = {}
        elif token["bracket"] == b"]":
            if ad is not None:
                yield ad
            ad = None
        elif token["name"] and ad is not None:
            ad[token["name"]] = token["number"] or token["text"] or b""


def _status(number: bytes | None) -> int:
    """Return a status, or -1 if there is none that is known."""
    if number is None or not number.isdigit() or int(number) > NodeStatus.FUTILE:
        return -1
    return int(number)


class DagStatusFile:
    """A node status file that is looked at again and again, and read when it changed.

    Parameters
    ----------
    clusters
        What tells the quanta of nodes that stand for several.
    """

    def __init__(self, path: Path, clusters: RunClusters | None = None) -> None:
        self.path = path
        self._clusters = clusters
        self._seen: tuple[int, int, int] | None = None
        self._last: DagStatus | None = None

    def read_now(self) -> DagStatus:
        """Return what it says now.

        Raises
        ------
        DagStatusError
            If it cannot be read, is not there, or says nothing.
        """
        if (found := self.read()) is not None:
            return found
        why = "something else" if self.path.exists() else "no such file"
        raise DagStatusError(
            f"node status file {str(self.path)!r}: expected what DAGMan writes, found {why}; "
            "what could be merged is merged, and whether deltas are missing is not known"
        )

    def read(self) -> DagStatus | None:
        """Return what it says now; what it said last if it is cut; None if it is not there yet.

        Raises
        ------
        DagStatusError
            If it is there and cannot be read, or the cluster files that it takes cannot.
        """
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                seen = (found.st_ino, found.st_mtime_ns, found.st_size)
                if seen != self._seen:
                    self._last = self._parse(file.read()) or self._last
                    self._seen = seen
        except FileNotFoundError:
            # Between two DAGs in one directory: what the former said holds no longer.
            self._seen, self._last = None, None
        except OSError as error:
            raise DagStatusError(
                f"node status file {str(self.path)!r}: {error.strerror}; --dag-status expects the "
                "file that NODE_STATUS_FILE names in the DAG"
            ) from error
        return self._last

    def _parse(self, content: bytes) -> DagStatus | None:
        found = parse_dag_status(content)
        if found is None or self._clusters is None:
            return found
        try:
            return found.with_members(self._clusters)
        except (TransferError, FormatError) as error:
            raise DagStatusError(
                f"node status file {str(self.path)!r}: expected to read which quanta its nodes "
                f"stand for, found {error}"
            ) from error
