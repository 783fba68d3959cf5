# SPDX-License-Identifier: BSD-3-Clause
"""Inputs that were not kept: who is to be run again so that they are there.

A job with several quanta may leave out of the datastore what only its own members read. If one of
these is run again by itself, or in another cluster, what it reads must be made once more.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from executor.submit.plan import Plan
from registry.delta import Delta
from registry.job import Job
from registry.quantum_cluster import QuantumCluster

CountingOf = Callable[[list[str]], Mapping[str, Delta]]
"""Gives the deltas that count of some quanta, by quantum id."""


def producers_again(
    wanted: Iterable[str],
    parents_of: Callable[[str], Iterable[str]],
    job_of: Callable[[str], Job],
    counting_of: CountingOf,
    clusters: Iterable[QuantumCluster] = (),
) -> dict[str, str]:
    """Return the successful quanta that must be run again, with the attempts that counted.

    Parameters
    ----------
    wanted
        The quanta that are to be run.
    clusters
        Of a producer in the same cluster the job itself finds that it must be run again.
    """
    cluster_of = {m.quantum_id: c.cluster_id for c in clusters for m in c.members}
    meant = frozenset(wanted)
    again: dict[str, str] = {}
    unkept: dict[str, Delta] = {}
    asked: set[str] = set(meant)
    seen: set[str] = set(meant)
    waiting = sorted(meant)
    while waiting:
        new = sorted({p for q in waiting for p in parents_of(q)} - asked)
        asked.update(new)
        unkept.update((q, delta) for q, delta in counting_of(new).items() if delta.not_kept)
        found: dict[str, None] = {}
        for quantum_id in waiting:
            for producer in _unkept_producers(quantum_id, parents_of, job_of, unkept):
                found[producer] = None
                own = cluster_of.get(quantum_id)
                if own is None or own != cluster_of.get(producer):
                    again[producer] = unkept[producer].attempt_id
        waiting = sorted(found.keys() - seen)
        seen.update(waiting)
    return again


def _unkept_producers(
    quantum_id: str,
    parents_of: Callable[[str], Iterable[str]],
    job_of: Callable[[str], Job],
    unkept: Mapping[str, Delta],
) -> list[str]:
    producers = [p for p in parents_of(quantum_id) if p in unkept]
    read = {i.dataset_id for i in job_of(quantum_id).inputs} if producers else set()
    return sorted(p for p in producers if not read.isdisjoint(unkept[p].not_kept))


def with_producers_again(
    plan: Plan, done: Mapping[str, Delta], clusters: Iterable[QuantumCluster] = ()
) -> tuple[Plan, dict[str, str]]:
    """Return a plan in which what its unfinished quanta need and nobody kept is made again.

    Parameters
    ----------
    done
        Deltas of the quanta that are not to be run.

    Returns
    -------
    plan
        With jobs that put new attempts in the place of the old.
    again
        The attempts that these replace, by quantum id: they are not done.
    """
    if not any(delta.not_kept for delta in done.values()):
        return plan, {}
    again = producers_again(
        [q for q in plan.quanta if q not in done],
        plan.parents_of,
        plan.job_of,
        lambda quantum_ids: {q: done[q] for q in quantum_ids if q in done},
        clusters,
    )

    def job_of(quantum_id: str) -> Job:
        job = plan.job_of(quantum_id)
        return replace(job, replaces=again[quantum_id]) if quantum_id in again else job

    return replace(plan, job_of=job_of), again
