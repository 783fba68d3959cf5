# SPDX-License-Identifier: BSD-3-Clause
"""Quanta into clusters: each in exactly one job, in order, no cycle, always the same."""

import graphlib
import random
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.submit.cluster_configuration import ClusterRequest
from executor.submit.clustering import ClusterCycleError, group_quanta
from executor.submit.configuration import ConfigurationError
from executor.submit.nodes import nodes_of_plan
from executor.submit.plan import Plan
from executor.submit.quantum_clusters import clusters_of_plan
from registry.model import DataId
from registry.quantum_cluster import MAX_MEMBERS
from tests.cluster_plans import make_plan, survey_plan


def groups_of(plan: Plan, **keys: object) -> list[tuple[str, ...]]:
    """The quanta of the groups of a cluster with these keys."""
    clusters = {"single": msgspec.convert(keys, ClusterRequest)}
    return [g.quantum_ids for g in group_quanta(plan, clusters) if g.label == "single"]


@st.composite
def plans_and_clusters(draw: st.DrawFn) -> tuple[Plan, dict[str, ClusterRequest]]:
    """Quanta of a few tasks that read of each other in some way, and one or two clusters."""
    n_quanta = draw(st.integers(1, 30))
    quanta: dict[str, tuple[str, DataId, list[str]]] = {}
    for number in range(n_quanta):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        label = draw(st.sampled_from("abcd"))
        data_id: DataId = {"visit": draw(st.integers(1, 3)), "detector": number}
        quanta[f"q{number}"] = (label, data_id, [f"q{p}" for p in sorted(parents)])
    clusters = {
        label: ClusterRequest(
            pipetasks=tasks,
            dimensions=draw(st.sampled_from(["", "visit", "visit,detector"])),
            max_size=draw(st.none() | st.integers(1, 6)),
            find_dependency_method=draw(st.sampled_from([None, "source", "sink"])),
            keep_intermediates=draw(st.booleans()),
        )
        for label, tasks in draw(
            st.sampled_from([(("x", "a,b"),), (("x", "a"), ("y", "b,c")), (("a", "a"),)])
        )
    }
    return make_plan(quanta), clusters


@given(plans_and_clusters(), st.randoms(use_true_random=False))
def test_every_quantum_is_in_one_job_after_what_it_reads(
    drawn: tuple[Plan, dict[str, ClusterRequest]], chance: random.Random
) -> None:
    plan, clusters = drawn
    try:
        found = clusters_of_plan(plan, clusters)
    except ClusterCycleError as error:
        assert "reads of" in str(error) and "q" in str(error)
        return
    nodes = nodes_of_plan(plan, (), found)
    quantum_ids = [quantum_id for node in nodes for quantum_id in node.quantum_ids]
    assert sorted(quantum_ids) == sorted(plan.quanta)
    assert len({node.name for node in nodes}) == len(nodes)
    in_order = graphlib.TopologicalSorter({n.name: n.parents for n in nodes}).static_order()
    by_name = {node.name: node for node in nodes}
    seen: set[str] = set()
    for quantum_id in (q for name in in_order for q in by_name[name].quantum_ids):
        assert plan.parents_of(quantum_id) <= seen
        seen.add(quantum_id)
    for cluster in found:
        limit = clusters[cluster.label].max_size
        assert limit is None or len(cluster.members) <= limit
    mixed = list(plan.quanta.items())
    chance.shuffle(mixed)
    again = clusters_of_plan(replace(plan, quanta=dict(mixed)), clusters)
    assert {c.cluster_id: c for c in again} == {c.cluster_id: c for c in found}


def test_quanta_of_equal_dimensions_go_together() -> None:
    keys = {"pipetasks": "isr, fit", "dimensions": "visit,detector"}
    plan = survey_plan(2, 2)
    assert groups_of(plan, **keys, equalDimensions="visit:exposure") == [
        *(("isr.1.1", "fit.1.1"), ("isr.1.2", "fit.1.2")),
        *(("isr.2.1", "fit.2.1"), ("isr.2.2", "fit.2.2")),
    ]
    with pytest.raises(
        ConfigurationError, match=r"none of visit in isr \(exposure=1, detector=1\)"
    ):
        groups_of(plan, **keys)


def test_by_count_the_tenth_comes_after_the_ninth() -> None:
    found = groups_of(survey_plan(1, 11), pipetasks=["isr"], maxSize=4)
    detectors = [[int(q.rpartition(".")[2]) for q in quantum_ids] for quantum_ids in found]
    assert detectors == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]


def test_chains_stay_whole_unless_one_is_too_long() -> None:
    plan = survey_plan(1, 3)
    found = groups_of(plan, pipetasks="isr,fit", maxSize=5)
    assert found == [("isr.1.1", "fit.1.1", "isr.1.2", "fit.1.2"), ("isr.1.3", "fit.1.3")]
    found = groups_of(plan, pipetasks="isr,fit,mosaic", maxSize=4)
    assert [len(quantum_ids) for quantum_ids in found] == [4, 3]
    assert found[1][-1] == "mosaic.1"


@pytest.mark.parametrize(
    ("keys", "sizes"),
    [
        ({"partitionMaxSize": 2}, [4, 4, 2]),
        ({"partitionMaxClusters": 2}, [6, 4]),
        ({"partitionMaxClusters": 9}, [2, 2, 2, 2, 2]),
        (
            {"partitionMaxSize": 2, "dimensions": "visit", "equalDimensions": "visit:exposure"},
            [4, 4, 2],
        ),
    ],
)
def test_partitions(keys: dict[str, object], sizes: list[int]) -> None:
    plan = survey_plan(1, 5)
    found = groups_of(plan, pipetasks="isr,fit", partitionDimensions="detector", **keys)
    assert [len(quantum_ids) for quantum_ids in found] == sizes


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "one of partitionMaxClusters and partitionMaxSize"),
        ({"partitionMaxSize": 1, "partitionMaxClusters": 1}, "one of partitionMaxClusters"),
        ({"partitionMaxClusters": 1, "dimensions": "visit"}, "partitionMaxClusters of 2 or more"),
        ({"partitionMaxSize": 1, "equalDimensions": "visit"}, "pairs such as visit:exposure"),
    ],
)
def test_keys_that_do_not_go_together(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        groups_of(survey_plan(2, 2), pipetasks="fit", partitionDimensions="detector", **keys)


def test_what_is_found_from_the_last_quanta_takes_their_values() -> None:
    found = groups_of(
        survey_plan(2, 2),
        pipetasks="isr,fit,mosaic",
        dimensions="visit",
        findDependencyMethod="sink",
    )
    assert [quantum_ids[-1] for quantum_ids in found] == ["mosaic.1", "mosaic.2"]
    assert [len(quantum_ids) for quantum_ids in found] == [5, 5]


def test_cycle_is_refused_with_the_quanta() -> None:
    """The first and the last of a chain in one job, what lies between in another."""
    with pytest.raises(
        ClusterCycleError, match=r"mosaic \(visit=1\) .* reads of isr .*put the tasks fit, isr"
    ):
        groups_of(survey_plan(1, 2), pipetasks="isr,mosaic")


def test_a_task_is_in_one_cluster() -> None:
    both = {label: ClusterRequest(pipetasks="isr") for label in ("one", "two")}
    with pytest.raises(ConfigurationError, match=r"found 'isr' in cluster\.one as well"):
        group_quanta(survey_plan(1, 1), both)
    with pytest.raises(ConfigurationError, match="another label than that of a task"):
        group_quanta(survey_plan(1, 1), {"fit": ClusterRequest(pipetasks="isr")})


def test_only_what_members_alone_read_is_not_kept() -> None:
    request = ClusterRequest(
        pipetasks="isr,fit",
        dimensions="visit,detector",
        equal_dimensions="visit:exposure",
        keep_intermediates=False,
    )
    [cluster] = clusters_of_plan(survey_plan(1, 1), {"single": request})
    assert [(m.quantum_id, m.not_kept) for m in cluster.members] == [
        ("isr.1.1", ["isr.1.1.read"]),
        ("fit.1.1", []),
    ]
    [kept] = clusters_of_plan(survey_plan(1, 1), {"single": replace_keeping(request)})
    assert [m.not_kept for m in kept.members] == [[], []]
    assert kept.cluster_id != cluster.cluster_id


def replace_keeping(request: ClusterRequest) -> ClusterRequest:
    """The same with everything kept."""
    return msgspec.structs.replace(request, keep_intermediates=True)


def test_job_of_more_quanta_than_a_worker_takes_is_refused() -> None:
    """At submit, not by a plugin that reads the cluster file on a worker."""
    plan = make_plan({f"q{n:05}": ("a", {"visit": n}, []) for n in range(MAX_MEMBERS + 1)})
    with pytest.raises(ConfigurationError, match="at most 10000 quanta in a job, found 10001; st"):
        groups_of(plan, pipetasks="a")
    assert len(groups_of(plan, pipetasks="a", maxSize=MAX_MEMBERS)) == 2
