# SPDX-License-Identifier: BSD-3-Clause
"""What the jobs of a cluster ask for: of their members what BPS takes of them.

That is the greatest of CPUs, memory, its maximum and multiplier, and retries; the sum of disk and
walltime (``lsst.ctrl.bps.transform``). All quanta of a cluster label share one submit description,
so the sum is that of the largest of its jobs. Everything else must be the same for all members.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from executor.limits import WALL_TIMES_ATTRIBUTE
from executor.submit.configuration import ConfigurationError, SubmitConfiguration
from executor.submit.plan import Plan
from executor.submit.requests import Requests
from registry.job import ResourceRequest
from registry.quantum_cluster import QuantumCluster

_GREATEST = frozenset(
    {
        *("request_cpus", "request_memory", "request_memory_max", "memory_multiplier"),
        "number_of_retries",
    }
)
_SUMS = frozenset({"request_disk", "request_walltime"})


def with_cluster_requests(
    configuration: SubmitConfiguration,
    plan: Plan,
    clusters: Iterable[QuantumCluster],
    resources: Mapping[str, ResourceRequest],
) -> SubmitConfiguration:
    """Return the configuration with all requests of the labels of some clusters.

    Raises
    ------
    ConfigurationError
        If members ask for different things of which none is the greater, and ``cluster.<label>``
        says nothing of it.
    """
    counts: dict[str, set[frozenset[tuple[str, int]]]] = {}
    for cluster in clusters:
        labels = Counter(plan.quanta[m.quantum_id].task_label for m in cluster.members)
        counts.setdefault(cluster.label, set()).add(frozenset(labels.items()))
    requests = dict(configuration.cluster)
    for label, found in counts.items():
        task_labels = sorted({task for one in found for task, _ in one})
        members = {t: configuration.requests_of(t, resources.get(t)) for t in task_labels}
        stated = requests[label]
        values = {
            name: _value(f"cluster.{label}", name, members, [dict(one) for one in found])
            for name in Requests.__struct_fields__
            if getattr(stated, name) in (None, {})
        }
        joined = msgspec.structs.replace(stated, **values)
        told = joined.attributes | wall_times(members)
        requests[label] = msgspec.structs.replace(joined, attributes=told)
    return msgspec.structs.replace(configuration, cluster=requests)


def wall_times(members: Mapping[str, Requests]) -> dict[str, str | int | float | bool]:
    """Tell workers what each member may take: one that hangs leaves the others their time."""
    own = {t: r.request_walltime for t, r in members.items() if r.request_walltime is not None}
    told = " ".join(f"{task_label}={seconds}" for task_label, seconds in own.items())
    return {WALL_TIMES_ATTRIBUTE: told} if own else {}


def _value(
    where: str, name: str, members: Mapping[str, Requests], jobs: Sequence[Mapping[str, int]]
) -> Any:
    """One request of the members together."""
    asked = {label: getattr(requests, name) for label, requests in members.items()}
    if name in _SUMS:
        if None in asked.values():
            return None
        return max(sum(asked[label] * n for label, n in job.items()) for job in jobs)
    if name in _GREATEST:
        return max((value for value in asked.values() if value is not None), default=None)
    (first, value), *others = asked.items()
    for label, other in others:
        if other != value:
            key = msgspec.structs.fields(Requests)
            shown = next(field.encode_name for field in key if field.name == name)
            raise ConfigurationError(
                f"{where}: expected the same {shown} for all its tasks, found {value!r} of "
                f"{first} and {other!r} of {label}; state {shown} in {where}"
            )
    return value
