# SPDX-License-Identifier: BSD-3-Clause
"""Which quanta a node of a DAG stands for: its own, or those of a job with several."""

from collections.abc import Iterable, Sequence

from registry import names
from registry.quantum_cluster import read_quantum_cluster
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import ObjectStore


class RunClusters:
    """Clusters of quanta of a RUN, each read once, when a node of a DAG names it."""

    def __init__(self, store: ObjectStore, run: str) -> None:
        self._store, self._run = store, run
        self._quanta: dict[str, list[str]] = {}
        self._no_clusters: set[str] = set()

    def quanta_of(self, ids: Sequence[str]) -> list[list[str]]:
        """Return for each id in names of nodes the quanta that it stands for.

        An id without a cluster file in the RUN is that of a quantum.

        Raises
        ------
        transfer_plugins.object_store.TransferError
            If the datastore cannot be read.
        registry.errors.FormatError
            If a cluster file is damaged, or of a newer format.
        """
        if new := set(ids) - self._quanta.keys() - self._no_clusters:
            listed = {
                stored.key for stored in self._store.list_objects(names.cluster_prefix(self._run))
            }
            found = {i for i in new if names.cluster_key(self._run, i) in listed}
            self._read(sorted(found))
            # Cluster files are there before the DAG that names them.
            self._no_clusters |= new - found
        return [self._quanta.get(i, [i]) for i in ids]

    def _read(self, clusters: Iterable[str]) -> None:
        def members(cluster_id: str) -> tuple[str, list[str]]:
            key = names.cluster_key(self._run, cluster_id)
            cluster = read_quantum_cluster(self._store.get(key), f"cluster file {key!r}")
            return cluster_id, [member.quantum_id for member in cluster.members]

        self._quanta.update(map_concurrently(members, list(clusters)))
