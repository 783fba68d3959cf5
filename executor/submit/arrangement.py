# SPDX-License-Identifier: BSD-3-Clause
"""The jobs of a plan: clusters and nodes, what is done, and what must be made again for others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from executor.submit.cluster_configuration import ClusterAlgorithm
from executor.submit.cluster_requests import with_cluster_requests
from executor.submit.configuration import SubmitConfiguration
from executor.submit.nodes import Node, nodes_of_plan
from executor.submit.plan import Plan
from executor.submit.quantum_clusters import clusters_of_plan, publish_clusters
from executor.submit.requests import Requests
from executor.submit.unkept_inputs import with_producers_again
from registry import names
from registry.delta import Delta
from registry.job import ResourceRequest, write_job
from registry.quantum_cluster import QuantumCluster
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import ObjectStore


@dataclass(frozen=True)
class Arrangement:
    """A plan as jobs of a pool.

    ``again`` are the attempts, by quantum id, that are replaced because what they made was not
    kept and is needed; these quanta are not among ``done``. ``configuration`` has all requests of
    clusters.
    """

    plan: Plan
    nodes: list[Node]
    clusters: list[QuantumCluster]
    done: frozenset[str]
    again: Mapping[str, str]
    configuration: SubmitConfiguration


def arrange(
    plan: Plan,
    done: Mapping[str, Delta],
    configuration: SubmitConfiguration,
    resources: Mapping[str, ResourceRequest] | None = None,
) -> Arrangement:
    """Arrange a plan in jobs; nothing is written.

    Parameters
    ----------
    done
        Deltas that count of the quanta that are not to be run.
    resources
        What the tasks of the graph ask for, by task label.

    Raises
    ------
    ConfigurationError, ClusterCycleError
    """
    is_clustering = configuration.cluster_algorithm is ClusterAlgorithm.DIMENSION
    clusters = clusters_of_plan(plan, configuration.cluster, done) if is_clustering else []
    plan, again = with_producers_again(plan, done, clusters)
    left = frozenset(done.keys() & plan.quanta.keys() - again.keys())
    configuration = with_cluster_requests(configuration, plan, clusters, resources or {})
    return Arrangement(
        plan, nodes_of_plan(plan, left, clusters), clusters, left, again, configuration
    )


def publish_arrangement(arrangement: Arrangement, store: ObjectStore) -> None:
    """Write what the jobs of an arrangement need beside the job files; before they are submitted.

    Raises
    ------
    TransferError
    """
    plan = arrangement.plan

    def put_job(quantum_id: str) -> None:
        store.put(names.job_key(plan.run, quantum_id), write_job(plan.job_of(quantum_id)))

    map_concurrently(put_job, arrangement.again)
    publish_clusters(arrangement.clusters, store)


def requests_by_label(
    arrangement: Arrangement, resources: Mapping[str, ResourceRequest]
) -> dict[str, Requests]:
    """What the jobs of an arrangement ask for, by label, in the order of the plan."""
    return _requests(arrangement, resources, (node.label for node in arrangement.nodes))


def requests_left(
    arrangement: Arrangement, resources: Mapping[str, ResourceRequest]
) -> dict[str, Requests]:
    """The same, of jobs that are not done."""
    left = (node.label for node in arrangement.nodes if not node.is_done)
    return _requests(arrangement, resources, left)


def _requests(
    arrangement: Arrangement, resources: Mapping[str, ResourceRequest], labels: Iterable[str]
) -> dict[str, Requests]:
    configuration = arrangement.configuration
    return {
        label: configuration.requests_of(label, resources.get(label))
        for label in dict.fromkeys(labels)
    }
