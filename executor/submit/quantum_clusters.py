# SPDX-License-Identifier: BSD-3-Clause
"""Clusters as workers are told of them: members, what of theirs is not kept, files in the RUN."""

from collections.abc import Callable, Collection, Mapping, Sequence

from executor.submit.cluster_configuration import ClusterRequest
from executor.submit.clustering import Group, group_quanta
from executor.submit.plan import Plan
from registry import names
from registry.model import derived_id
from registry.quantum_cluster import (
    QUANTUM_CLUSTER_FORMAT,
    ClusterMember,
    QuantumCluster,
    write_quantum_cluster,
)
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import ObjectStore


def clusters_of_plan(
    plan: Plan, requests: Mapping[str, ClusterRequest], done: Collection[str] = ()
) -> list[QuantumCluster]:
    """The clusters of a plan, those of one quantum too; quanta of no label of a cluster are left.

    Parameters
    ----------
    done
        Quanta that are not to be run. Of a cluster that has no others nobody asks who reads of it:
        after most of a night that would be 27,000 job files.

    Raises
    ------
    ConfigurationError, ClusterCycleError
        As `group_quanta`.
    """
    groups = [g for g in group_quanta(plan, requests) if g.label in requests]
    is_keeping = {label: cluster.keep_intermediates for label, cluster in requests.items()}
    left = [g for g in groups if any(q not in done for q in g.quantum_ids)]
    dropping = [q for g in left if not is_keeping[g.label] for q in g.quantum_ids]
    readers = plan.readers_of(dropping) if dropping else {}

    def cluster_of(group: Group) -> QuantumCluster:
        return _cluster(plan, group, {} if is_keeping[group.label] else readers)

    return map_concurrently(cluster_of, groups)


def _cluster(plan: Plan, group: Group, readers: Mapping[str, frozenset[str]]) -> QuantumCluster:
    inside = frozenset(group.quantum_ids)
    members = [
        ClusterMember(
            quantum_id,
            # What nobody reads is a result, and is kept.
            [o for o in plan.quanta[quantum_id].outputs if o in readers and readers[o] <= inside],
        )
        for quantum_id in group.quantum_ids
    ]
    shape = [[member.quantum_id, *member.not_kept] for member in members]
    cluster_id = derived_id("cluster", plan.run, group.label, shape)
    return QuantumCluster(
        QUANTUM_CLUSTER_FORMAT,
        plan.graph_id_of(group.quantum_ids[0]),
        plan.run,
        cluster_id,
        group.label,
        members,
    )


def publish_clusters(
    clusters: Sequence[QuantumCluster],
    store: ObjectStore,
    on_cluster: Callable[[], None] = lambda: None,
) -> None:
    """Write cluster files, many at once; a DAG that names them may be submitted afterwards.

    A quantum that is alone in its cluster needs none: its job is that of a single quantum.

    Raises
    ------
    TransferError
    """

    def put(cluster: QuantumCluster) -> None:
        key = names.cluster_key(cluster.run, cluster.cluster_id)
        store.put(key, write_quantum_cluster(cluster))
        on_cluster()

    map_concurrently(put, [c for c in clusters if len(c.members) > 1])
