# SPDX-License-Identifier: BSD-3-Clause
"""Merging while the graph runs: what is waited for, what is not, and when it ends."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from merger.central_registry import CentralRegistry
from merger.dag_status import DagStatusFile, NodeStatus
from merger.exit_codes import ExitCode
from merger.follow import Ending
from merger.unfinished import UnfinishedReason
from registry import names
from registry.attempt import AttemptStatus
from registry.graph_record import PredictedQuantum
from tests import factories
from tests.dag_files import publish_cluster, write_dag_status
from tests.fix_merge import MergeSite
from tests.follow_steps import Steps
from tests.merge_process import MergeProcess
from tests.processes import wait_until

FAILED = AttemptStatus.FAILED


def follow(site: MergeSite, *options: str) -> MergeProcess:
    """Start to follow the RUN of a site."""
    return MergeProcess(
        *("merge", site.uri, site.graph.run, "--database", site.address),
        *("--follow", "--poll", "0.1", "--json", *options),
    )


def wait_merged(site: MergeSite, n_deltas: int) -> None:
    """Wait until so many attempts are in the ledger."""
    wait_until(
        lambda: site.rows("SELECT count(*) FROM merged_attempt") == [(n_deltas,)],
        f"{n_deltas} deltas are merged",
    )


def with_parents(graph: factories.Graph, parents: dict[int, list[int]]) -> factories.Graph:
    """The same graph where some quanta read outputs of others."""
    quanta = [
        PredictedQuantum(
            *(q.quantum_id, q.task_label, q.data_id, q.outputs),
            parents=[graph.quanta[p].quantum_id for p in parents.get(number, [])],
        )
        for number, q in enumerate(graph.quanta)
    ]
    return factories.Graph(graph.record, quanta, graph.outputs)


@pytest.fixture
def chain(site: MergeSite) -> MergeSite:
    """A site whose graph is a chain of three quanta."""
    site.graph = with_parents(site.graph, {1: [0], 2: [1]})
    factories.publish(site.store, site.graph)
    return site


def reasons(report: dict[str, object]) -> dict[str, int]:
    """The number of unfinished quanta by reason, without zeros."""
    counts = report["n_unfinished"]
    assert isinstance(counts, dict)
    return {reason: number for reason, number in counts.items() if number}


def test_it_ends_when_every_quantum_is_merged(site: MergeSite) -> None:
    with follow(site) as following:
        for quantum in range(3):
            site.put(site.delta(quantum, quantum + 1))
            wait_merged(site, quantum + 1)
        report = following.report()
    assert report["exit_code"] == ExitCode.OK
    assert (report["n_deltas_merged"], report["n_quanta_merged"], reasons(report)) == (3, 3, {})
    assert report["n_passes"] >= 3
    assert site.differences() == []


def test_late_and_skewed_deltas_are_merged(site: MergeSite) -> None:
    """Attempt ids from clocks hours slow and fast come after those of now."""
    hour = 3_600_000
    with follow(site) as following:
        for n_merged, (quantum, number) in enumerate([(0, 6 * hour), (1, 11 * hour), (2, hour)], 1):
            site.put(site.delta(quantum, number))
            wait_merged(site, n_merged)
        assert following.report()["n_deltas_merged"] == 3
    assert site.differences() == []


def test_failed_and_blocked_quanta_are_not_waited_for(chain: MergeSite) -> None:
    with follow(chain) as following:
        chain.put(chain.delta(0, 1))
        wait_merged(chain, 1)
        chain.put(chain.delta(1, 2, status=FAILED, exit_code=7))
        report = following.report()
    assert report["exit_code"] == ExitCode.OK
    assert reasons(report) == {"failed": 1, "blocked": 1}
    failed, blocked = report["unfinished"]
    assert (failed["quantum_id"], failed["n_attempts"], failed["exit_code"]) == (
        *(chain.graph.quanta[1].quantum_id, 1, 7),
    )
    assert (blocked["task_label"], blocked["data_id"]) == (
        *("calibrate", {"exposure": 2, "detector": 1}),
    )


def test_retries_are_waited_for(chain: MergeSite) -> None:
    with follow(chain, "--retries", "1") as following:
        chain.put(chain.delta(0, 1, status=FAILED))
        wait_merged(chain, 1)
        chain.put(chain.delta(0, 2), chain.delta(1, 3), chain.delta(2, 4))
        report = following.report()
    assert (report["n_deltas_merged"], reasons(report)) == (4, {})


def test_graph_that_comes_later(site: MergeSite) -> None:
    """Started before submit: there is nothing yet, not even a graph."""
    run = "u/tester/later"
    graph = factories.make_graph(1, run=run)
    options = ("--database", site.address, "--follow", "--poll", "0.1", "--json")
    with MergeProcess("merge", site.uri, run, *options) as following:
        following.wait_for_message("waits for a graph of the RUN")
        factories.publish(site.store, graph)
        factories.put_delta(site.store, factories.make_delta(graph))
        assert following.report()["n_quanta_merged"] == 1


def test_graph_that_extends_the_run(site: MergeSite) -> None:
    """What had been bad without it is looked at again."""
    extension = factories.make_graph(2, name="extension")
    early = factories.put_delta(site.store, factories.make_delta(extension, 0, 9))
    with follow(site) as following:
        site.put(site.delta(0, 1))
        wait_merged(site, 1)
        wait_until(lambda: site.rows("SELECT delta_key FROM quarantine") == [(early,)], "bad")
        factories.publish(site.store, extension)
        wait_merged(site, 2)
        site.put(site.delta(1, 2), site.delta(2, 3))
        factories.put_delta(site.store, factories.make_delta(extension, 1, 10))
        report = following.report()
    assert (report["n_quanta_predicted"], report["n_quanta_merged"]) == (5, 5)
    assert (report["n_quarantined"], report["quarantined"]) == (0, [])


def test_bad_delta_is_an_attempt_without_success(chain: MergeSite) -> None:
    key = factories.put_delta(chain.store, chain.delta(0, 1), b"{")
    with follow(chain) as following:
        report = following.report()
    assert report["exit_code"] == ExitCode.QUARANTINED
    assert reasons(report) == {"blocked": 2, "quarantined": 1}
    assert [bad["key"] for bad in report["quarantined"]] == [key]


def test_bad_deltas_are_read_once(chain: MergeSite) -> None:
    """Later passes neither read them nor write about them."""
    key = factories.put_delta(chain.store, chain.delta(0, 1), b"{")
    follower = Steps(chain, Ending(n_retries=1))
    with follower:
        follower.look()
        chain.store.path(key).write_bytes(b'{"other": "bytes"}')
        follower.look()
        assert [bad.reason for bad in follower.merged().report.quarantined] == ["truncated"]
    assert chain.merge().quarantined[0].reason == "checksum"


@pytest.fixture
def dag(tmp_path: Path) -> Iterator[Path]:
    """Where the node status file of a DAG comes to be."""
    yield tmp_path / "node-status.txt"


def test_dag_decides_what_failed(chain: MergeSite, dag: Path) -> None:
    """A failed attempt is final when DAGMan says so; without its file all is open."""
    chain.put(chain.delta(0, 1, status=FAILED))
    with Steps(chain, Ending(DagStatusFile(dag))) as steps:
        assert not steps.look()
        write_dag_status(dag, chain.graph, [NodeStatus.READY, *[NodeStatus.NOT_READY] * 2])
        assert not steps.look()
        assert steps.merged().unfinished.counts == {UnfinishedReason.OPEN: 3}  # type: ignore[union-attr]
        write_dag_status(dag, chain.graph, [NodeStatus.ERROR, *[NodeStatus.FUTILE] * 2])
        assert steps.look()
        found = steps.merged()
    assert found.exit_code == ExitCode.OK
    assert found.unfinished is not None
    assert found.unfinished.counts == {UnfinishedReason.FAILED: 1, UnfinishedReason.BLOCKED: 2}


def test_last_pass_follows_the_end_of_the_dag(site: MergeSite, dag: Path) -> None:
    """What came until then is merged; what never ran is named."""
    site.put(site.delta(0, 1))
    with follow(site, "--dag-status", str(dag)) as following:
        wait_merged(site, 1)
        site.put(site.delta(1, 2))
        statuses = [NodeStatus.DONE, NodeStatus.ERROR, NodeStatus.NOT_READY]
        write_dag_status(dag, site.graph, statuses, is_ended=True)
        report = following.report()
    assert (report["exit_code"], report["n_deltas_merged"]) == (ExitCode.OK, 2)
    assert reasons(report) == {"never_run": 1}


def test_successful_without_delta(site: MergeSite, dag: Path) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2))
    write_dag_status(dag, site.graph, [NodeStatus.DONE] * 3)
    database = ("--database", site.address)
    with follow(site, "--dag-status", str(dag)) as following:
        report = following.report()
    assert report["exit_code"] == ExitCode.DELTAS_MISSING
    assert reasons(report) == {"successful_without_delta": 1}
    words = ("merge", site.uri, site.graph.run, *database, "--dag-status", str(dag))
    with MergeProcess(*words) as merging:
        code, stdout, _ = merging.end()
    assert code == ExitCode.DELTAS_MISSING
    lost = site.graph.quanta[2].quantum_id
    assert f'calibrate {{"detector":1,"exposure":2}} {lost}' in stdout
    assert f"quantum-exec rerun {site.graph.run} --quantum ID --datastore {site.uri}" in stdout


CLUSTER = "77777777-7777-5777-8777-777777777777"


def test_successful_cluster_without_some_delta(site: MergeSite, dag: Path) -> None:
    """A node that is done stands for all its quanta."""
    publish_cluster(site.store, site.graph, CLUSTER, 1, 2)
    site.put(site.delta(0, 1), site.delta(1, 2))
    write_dag_status(dag, site.graph, [NodeStatus.DONE], clusters={CLUSTER: NodeStatus.DONE})
    with follow(site, "--dag-status", str(dag)) as following:
        report = following.report()
    assert report["exit_code"] == ExitCode.DELTAS_MISSING
    assert reasons(report) == {"successful_without_delta": 1}


def test_quanta_of_a_failed_cluster_are_not_waited_for(site: MergeSite, dag: Path) -> None:
    publish_cluster(site.store, site.graph, CLUSTER, 1, 2)
    site.put(site.delta(0, 1), site.delta(1, 2))
    write_dag_status(dag, site.graph, [NodeStatus.DONE], clusters={CLUSTER: NodeStatus.SUBMITTED})
    with follow(site, "--dag-status", str(dag)) as following:
        wait_merged(site, 2)
        write_dag_status(dag, site.graph, [NodeStatus.DONE], clusters={CLUSTER: NodeStatus.ERROR})
        report = following.report()
    assert (report["exit_code"], report["n_deltas_merged"]) == (ExitCode.OK, 2)
    assert sum(reasons(report).values()) == 1


def test_cluster_file_that_cannot_be_read_is_told(site: MergeSite, dag: Path) -> None:
    site.store.put(names.cluster_key(site.graph.run, CLUSTER), b"junk")
    write_dag_status(dag, site.graph, [NodeStatus.DONE], clusters={CLUSTER: NodeStatus.DONE})
    site.put(site.delta(0, 1))
    words = ("merge", site.uri, site.graph.run, "--database", site.address)
    with MergeProcess(*words, "--dag-status", str(dag)) as merging:
        code, _, stderr = merging.end()
    assert code == ExitCode.ERROR
    assert f"cluster file '{names.cluster_key(site.graph.run, CLUSTER)}'" in stderr
    assert site.rows("SELECT count(*) FROM merged_attempt") == [(1,)]


def test_delta_that_is_leased_is_not_missing(site: MergeSite, dag: Path) -> None:
    """A newer format waits; it is no loss."""
    key = factories.put_delta(site.store, site.delta(0, 1), factories.framed(b'"format":99,"x":1}'))
    site.put(site.delta(1, 2), site.delta(2, 3))
    write_dag_status(dag, site.graph, [NodeStatus.DONE] * 3)
    with follow(site, "--dag-status", str(dag)) as following:
        report = following.report()
    assert (report["exit_code"], report["newer_format"]) == (ExitCode.NEWER_FORMAT, [key])
    assert reasons(report) == {"waiting": 1}


def test_status_file_that_says_nothing(site: MergeSite, dag: Path) -> None:
    """What can be merged is merged, and then it is told."""
    site.put(site.delta(0, 1))
    words = ("merge", site.uri, site.graph.run, "--database", site.address)
    with MergeProcess(*words, "--dag-status", str(dag)) as merging:
        code, _, stderr = merging.end()
    assert code == ExitCode.ERROR
    assert "expected what DAGMan writes, found no such file; what could be merged is" in stderr
    assert site.rows("SELECT count(*) FROM merged_attempt") == [(1,)]
    with follow(site, "--dag-status", str(dag)) as following:
        following.wait_for_message("waits for the node status file")
        following.send(signal.SIGTERM)
        assert following.report()["stopped_by"] == "SIGTERM"


def test_forgotten_quantum_is_not_waited_for(site: MergeSite) -> None:
    site.put(*(site.delta(quantum, quantum + 1) for quantum in range(3)))
    site.merge()
    words = ("forget", site.graph.run, "--quantum", site.graph.quanta[0].quantum_id, "--yes")
    with MergeProcess(*words, "--database", site.address) as forgetting:
        assert forgetting.end()[0] == ExitCode.OK
    with follow(site) as following:
        assert reasons(following.report()) == {"waiting": 1}
    with follow(site, "--remerge") as following:
        assert reasons(following.report()) == {}


def test_two_followers_at_once(site: MergeSite, other_database: str) -> None:
    with follow(site) as first, follow(site) as second:
        for quantum in range(3):
            site.put(site.delta(quantum, quantum + 1))
            wait_merged(site, quantum + 1)
        reports = first.report(), second.report()
    assert sum(report["n_deltas_merged"] for report in reports) == 3
    assert [reasons(report) for report in reports] == [{}, {}]
    with CentralRegistry(other_database) as registry:
        alone = MergeSite(other_database, site.store, registry, site.graph)
        alone.merge()
    assert site.dump() == alone.dump()
