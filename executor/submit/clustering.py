# SPDX-License-Identifier: BSD-3-Clause
"""Quanta into clusters, as the ``cluster`` section of a submit configuration says.

What BPS calls dimension clustering (``lsst.ctrl.bps.quantum_clustering_funcs``), and a greatest
number of quanta in a job. The same quanta always give the same clusters, in whatever order a graph
has them.
"""

import graphlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from executor.submit.cluster_configuration import ClusterRequest, words_of
from executor.submit.configuration import ConfigurationError
from executor.submit.dimension_values import DimensionValues, Values, natural_order
from executor.submit.plan import Plan
from registry.errors import QuantumExecError
from registry.graph_record import PredictedQuantum
from registry.model import check_identifier, format_data_id
from registry.quantum_cluster import MAX_MEMBERS


class ClusterCycleError(QuantumExecError, ValueError):
    """Clusters would wait for each other; put what lies between into them, or take it apart."""

    error_type = "cluster_cycle"


@dataclass(frozen=True, slots=True)
class Group:
    """Quanta of one job, each after those of them that it depends on.

    ``label`` is that of the cluster, or the task label of a quantum alone.
    """

    label: str
    quantum_ids: tuple[str, ...]


def group_quanta(plan: Plan, clusters: Mapping[str, ClusterRequest]) -> list[Group]:
    """Put each quantum of a plan into exactly one group.

    Raises
    ------
    ConfigurationError
        If a task label is in two clusters, a quantum has no value of a dimension, keys of a cluster
        do not go together, or a job would have more quanta than a worker takes.
    ClusterCycleError
        If two jobs would wait for each other.
    """
    label_of_task = _labels_of_tasks(clusters, {q.task_label for q in plan.quanta.values()})
    order = _Order(plan)
    members: dict[str, list[str]] = defaultdict(list)
    groups = []
    for quantum_id in order.quantum_ids:
        task_label = plan.quanta[quantum_id].task_label
        if task_label in label_of_task:
            members[label_of_task[task_label]].append(quantum_id)
        else:
            groups.append(Group(task_label, (quantum_id,)))
    for label, quantum_ids in members.items():
        parts = _Parts(label, clusters[label], order, quantum_ids)
        groups += [Group(label, _of_a_job(label, part)) for part in parts.found()]
    _check_no_cycle(groups, order)
    return groups


def _of_a_job(label: str, quantum_ids: list[str]) -> tuple[str, ...]:
    if len(quantum_ids) > MAX_MEMBERS:
        raise ConfigurationError(
            f"cluster.{label}: expected at most {MAX_MEMBERS} quanta in a job, found "
            f"{len(quantum_ids)}; state maxSize, or more dimensions"
        )
    return tuple(quantum_ids)


def _labels_of_tasks(
    clusters: Mapping[str, ClusterRequest], task_labels: set[str]
) -> dict[str, str]:
    """Return the label of its cluster for each task label of a plan that is in one."""
    found: dict[str, str] = {}
    for label, cluster in clusters.items():
        check_identifier(label, "cluster")
        tasks = words_of(cluster.pipetasks)
        if label in task_labels and label not in tasks:
            raise ConfigurationError(
                f"cluster.{label}: expected another label than that of a task which is not in the "
                f"cluster, found pipetasks {', '.join(tasks)!r}"
            )
        for task_label in tasks:
            other = found.setdefault(task_label, label)
            if other != label:
                raise ConfigurationError(
                    f"cluster.{label}: expected each task label in one cluster, found "
                    f"{task_label!r} in cluster.{other} as well"
                )
    return {task: label for task, label in found.items() if task in task_labels}


class _Order:
    """The quanta of a plan in an order of their own: by depth in the plan, data ID and id."""

    def __init__(self, plan: Plan) -> None:
        self.quanta = plan.quanta
        self.parents = {q: plan.parents_of(q) for q in plan.quanta}
        depth: dict[str, int] = {}
        for quantum_id in graphlib.TopologicalSorter(self.parents).static_order():
            parents = self.parents[quantum_id]
            depth[quantum_id] = 1 + max((depth[p] for p in parents), default=0)
        keys = {q: natural_order(found.data_id) for q, found in plan.quanta.items()}
        self.quantum_ids = sorted(plan.quanta, key=lambda q: (depth[q], keys[q], q))
        self.position = {quantum_id: n for n, quantum_id in enumerate(self.quantum_ids)}
        self._keys = keys

    def chains(self, quantum_ids: Iterable[str]) -> list[list[str]]:
        """Divide quanta into those that hang together, each chain in order, by data IDs."""
        inside = set(quantum_ids)
        neighbours: dict[str, list[str]] = defaultdict(list)
        for quantum_id in inside:
            for parent in self.parents[quantum_id]:
                if parent in inside:
                    neighbours[quantum_id].append(parent)
                    neighbours[parent].append(quantum_id)
        chains = []
        while inside:
            waiting = [inside.pop()]
            chain = []
            while waiting:
                quantum_id = waiting.pop()
                chain.append(quantum_id)
                new = [n for n in neighbours[quantum_id] if n in inside]
                inside.difference_update(new)
                waiting += dict.fromkeys(new)
            chains.append(sorted(chain, key=self.position.__getitem__))
        return sorted(chains, key=lambda c: (self._keys[c[0]], self.position[c[0]]))

    def children(self, inside: Iterable[str]) -> dict[str, list[str]]:
        """Return, of some quanta, which of them read outputs of which."""
        found: dict[str, list[str]] = {quantum_id: [] for quantum_id in inside}
        for quantum_id in found:
            for parent in self.parents[quantum_id]:
                if parent in found:
                    found[parent].append(quantum_id)
        return found

    def told(self, quantum_id: str) -> str:
        """A quantum as messages name it."""
        return _told(self.quanta[quantum_id])


class _Parts:
    """The groups of one cluster label."""

    def __init__(
        self, label: str, cluster: ClusterRequest, order: _Order, quantum_ids: list[str]
    ) -> None:
        self.label = label
        self.cluster = cluster
        self.order = order
        self.quantum_ids = quantum_ids
        self.dimensions = DimensionValues(
            f"cluster.{label}",
            words_of(cluster.dimensions),
            words_of(cluster.partition_dimensions),
            words_of(cluster.equal_dimensions),
        )

    def found(self) -> Iterator[list[str]]:
        """Quanta with the same values, divided into partitions and to the greatest size."""
        values = self._values()
        n_dimensions = len(words_of(self.cluster.dimensions))
        partition_of = self._partitions(values, n_dimensions)
        alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
        for quantum_id in self.quantum_ids:
            value = values[quantum_id]
            partition = partition_of.get(value[n_dimensions:], 0)
            alike[(*value[:n_dimensions], partition)].append(quantum_id)
        for quantum_ids in alike.values():
            yield from self._to_size(self.order.chains(quantum_ids))

    def _values(self) -> dict[str, Values]:
        """The values of the dimensions by which quanta are put together, of each quantum."""
        quanta = self.order.quanta
        if self.cluster.find_dependency_method is None:
            return {
                q: self.dimensions.complete(quanta[q].data_id, self.order.told(q))
                for q in self.quantum_ids
            }
        found: dict[str, Values] = {}
        is_sink = self.cluster.find_dependency_method == "sink"
        onward = self.order.parents if is_sink else self.order.children(self.quantum_ids)
        inside = set(self.quantum_ids)
        for start in reversed(self.quantum_ids) if is_sink else self.quantum_ids:
            if start in found:
                continue
            found[start] = self.dimensions.complete(quanta[start].data_id, self.order.told(start))
            waiting = [start]
            while waiting:
                quantum_id = waiting.pop()
                for other in sorted(onward[quantum_id], key=self.order.position.__getitem__):
                    if other in inside and other not in found:
                        own = self.dimensions.values(quanta[other].data_id)
                        found[other] = _filled(own, found[quantum_id])
                        waiting.append(other)
        return found

    def _partitions(self, values: Mapping[str, Values], n_dimensions: int) -> dict[Values, int]:
        """Give each combination of values of the partition dimensions the number of its part."""
        cluster, name = self.cluster, f"cluster.{self.label}"
        sizes = [cluster.partition_max_clusters, cluster.partition_max_size]
        is_partitioned = bool(words_of(cluster.partition_dimensions))
        if sum(size is not None for size in sizes) != is_partitioned:
            raise ConfigurationError(
                f"{name}: expected partitionDimensions with one of partitionMaxClusters and "
                f"partitionMaxSize, found {cluster.partition_dimensions!r} with {sizes[0]} and "
                f"{sizes[1]}"
            )
        if not is_partitioned:
            return {}
        found = sorted({v[n_dimensions:] for v in values.values()}, key=_sortable)
        if cluster.partition_max_size is not None:
            return {value: n // cluster.partition_max_size for n, value in enumerate(found)}
        n_alike = len({v[:n_dimensions] for v in values.values()})
        n_parts = (cluster.partition_max_clusters or 0) // n_alike
        if not n_parts:
            raise ConfigurationError(
                f"{name}: expected partitionMaxClusters of {n_alike} or more, one for each "
                f"combination of {cluster.dimensions!r}, found {cluster.partition_max_clusters}"
            )
        n_parts = min(n_parts, len(found))
        return {value: n * n_parts // len(found) for n, value in enumerate(found)}

    def _to_size(self, chains: Sequence[list[str]]) -> Iterator[list[str]]:
        """Fill groups with whole chains; one that is too long by itself is cut in its order."""
        size = self.cluster.max_size
        if size is None:
            yield [quantum_id for chain in chains for quantum_id in chain]
            return
        part: list[str] = []
        for chain in chains:
            if part and len(part) + len(chain) > size:
                yield part
                part = []
            part = part + chain
            while len(part) > size:
                yield part[:size]
                part = part[size:]
        if part:
            yield part


def _filled(own: Values, others: Values) -> Values:
    """The values that a quantum has itself, else those of the one from which it was found."""
    pairs = zip(own, others, strict=True)
    return tuple(other if value is None else value for value, other in pairs)


def _sortable(values: Values) -> list[tuple[bool, object]]:
    return [(isinstance(value, str), value) for value in values]


def _check_no_cycle(groups: Sequence[Group], order: _Order) -> None:
    group_of = {q: number for number, group in enumerate(groups) for q in group.quantum_ids}
    edges: dict[int, dict[int, tuple[str, str]]] = {n: {} for n in range(len(groups))}
    for quantum_id, number in group_of.items():
        for parent in order.parents[quantum_id]:
            if group_of[parent] != number:
                edges[number].setdefault(group_of[parent], (parent, quantum_id))
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        found = error.args[1]
        # Each of the list is a predecessor of the next, the first and last are the same.
        pairs = [edges[after][before] for before, after in itertools.pairwise(found)]
        labels = sorted({groups[n].label for n in found if len(groups[n].quantum_ids) > 1})
        steps = "; ".join(f"{order.told(b)} reads of {order.told(a)}" for a, b in pairs[:6])
        between = sorted({order.quanta[q].task_label for pair in pairs for q in pair})
        raise ClusterCycleError(
            f"cluster {', '.join(labels)}: expected jobs that do not wait for each other, found "
            f"{steps}; put the tasks {', '.join(between)} into one cluster, take one of them out, "
            "or make the clusters smaller"
        ) from error


def _told(quantum: PredictedQuantum) -> str:
    return f"{quantum.task_label} ({format_data_id(quantum.data_id)}) {quantum.quantum_id}"
