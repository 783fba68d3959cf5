# SPDX-License-Identifier: BSD-3-Clause
"""What people and other programs do to a RUN while it is followed."""

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from merger.archive_schema import FORMAT_FIELD
from merger.conflict_policy import parse
from merger.dag_status import DagStatusFile, NodeStatus
from merger.delta_archive import archive_run
from merger.exit_codes import ExitCode
from merger.follow import Ending
from merger.forgetting import forget
from merger.merge import MergeOptions
from merger.quarantine import list_quarantine
from merger.quarantine_retry import drop
from merger.unfinished import UnfinishedReason
from registry import names
from registry.attempt import AttemptStatus
from tests import factories
from tests.dag_files import write_dag_status
from tests.fix_merge import MergeSite
from tests.follow_steps import Steps

ABORTED, FAILED = AttemptStatus.ABORTED, AttemptStatus.FAILED


def put_all(site: MergeSite) -> None:
    site.put(*(site.delta(quantum, quantum + 1) for quantum in range(3)))


def test_run_that_is_forgotten_is_not_told_as_merged(site: MergeSite) -> None:
    put_all(site)
    with Steps(site, Ending()) as steps:
        assert steps.look()
        forget(site.registry, site.graph.run)
        assert steps.look()
        assert steps.reasons() == {UnfinishedReason.WAITING: 3}


def test_bad_delta_that_is_mended_is_merged(site: MergeSite) -> None:
    """It is looked at again before the follower ends, if not earlier."""
    key = factories.put_delta(site.store, site.delta(0, 1), b"{")
    with Steps(site, Ending(n_retries=1)) as steps:
        assert not steps.look()
        site.put(site.delta(0, 1), site.delta(1, 2))
        assert not steps.look()
        assert [bad.key for bad in steps.merged().report.quarantined] == [key]
        site.put(site.delta(2, 3), site.delta(0, 9, status=FAILED))
        assert [steps.look(), steps.look()] == [False, True]
        found = steps.merged()
    assert (found.report.quarantined, found.exit_code) == ([], ExitCode.OK)
    assert site.differences() == []
    assert found.unfinished is not None and found.unfinished.n_merged == 3


def test_attempt_that_was_told_to_stop_is_not_the_last(site: MergeSite, tmp_path: Path) -> None:
    dag = tmp_path / "node-status.txt"
    site.put(site.delta(0, 1, status=ABORTED), site.delta(1, 2), site.delta(2, 3))
    with Steps(site, Ending()) as steps:
        assert not steps.look()
        assert steps.reasons() == {UnfinishedReason.OPEN: 1}
    write_dag_status(dag, site.graph, [NodeStatus.READY] * 3, is_ended=True)
    with Steps(site, Ending(DagStatusFile(dag))) as steps:
        assert steps.look()
        assert steps.reasons() == {UnfinishedReason.FAILED: 1}


def test_delta_of_a_stranger_says_nothing_about_a_quantum(site: MergeSite) -> None:
    """Its key names the quantum, and it is not an attempt of it."""
    other = factories.make_graph(1, name="other")
    strange = factories.make_delta(other)
    key = names.delta_key(site.graph.run, site.graph.quanta[0].quantum_id, strange.attempt_id)
    site.store.put(key, b"{")
    with Steps(site, Ending()) as steps:
        steps.look()
        assert UnfinishedReason.QUARANTINED in steps.reasons()
    site.store.put(key, site.store.get(factories.put_delta(site.store, strange)))
    with Steps(site, Ending()) as steps:
        assert not steps.look()
        assert steps.reasons() == {UnfinishedReason.OPEN: 3}
        assert len(steps.merged().report.quarantined) == 2


def test_archive_of_a_newer_format_is_told_once(site: MergeSite) -> None:
    first, *_ = site.put(site.delta(0, 1), site.delta(1, 2))
    (written,) = archive_run(site.store, site.graph.run).written
    path = site.store.path(written.key)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({FORMAT_FIELD: b"2"}), path)
    site.store.delete(first)
    with Steps(site, Ending()) as steps:
        assert not steps.look()
        assert not steps.look()
        assert steps.merged().report.newer == [written.key]
        path.unlink()
        steps.follower._looked_again = -math.inf
        steps.look()
        assert steps.merged().report.newer == []


@pytest.mark.parametrize("late", [False, True])
def test_forgotten_quantum_is_no_lost_delta(site: MergeSite, tmp_path: Path, late: bool) -> None:
    """Not even when its delta is gone, or a failed attempt of it came late."""
    keys = site.put(*(site.delta(quantum, quantum + 2) for quantum in range(3)))
    dag = tmp_path / "node-status.txt"
    write_dag_status(dag, site.graph, [NodeStatus.DONE] * 3)
    site.merge()
    forget(site.registry, site.graph.run, [site.graph.quanta[0].quantum_id])
    site.store.delete(keys[0])
    if late:
        site.put(site.delta(0, 1, status=FAILED))
    with Steps(site, Ending(DagStatusFile(dag))) as steps:
        assert steps.look()
        assert steps.reasons() == {UnfinishedReason.WAITING: 1}
        assert steps.merged().exit_code == ExitCode.OK


def test_forgotten_quantum_that_the_dag_runs_again_is_waited_for(
    site: MergeSite, tmp_path: Path
) -> None:
    put_all(site)
    site.merge()
    forget(site.registry, site.graph.run, [site.graph.quanta[0].quantum_id])
    dag = tmp_path / "node-status.txt"
    write_dag_status(dag, site.graph, [NodeStatus.SUBMITTED, NodeStatus.DONE, NodeStatus.DONE])
    with Steps(site, Ending(DagStatusFile(dag))) as steps:
        assert not steps.look()
        assert steps.reasons() == {UnfinishedReason.OPEN: 1}


def test_status_file_that_cannot_be_read_for_a_while(site: MergeSite, tmp_path: Path) -> None:
    dag = tmp_path / "node-status.txt"
    write_dag_status(dag, site.graph, [NodeStatus.DONE] * 3)
    put_all(site)
    with Steps(site, Ending(DagStatusFile(dag))) as steps:
        dag.unlink()
        dag.mkdir()
        steps.look()
        assert steps.merged().report.counts.n_deltas == 3


def test_bad_delta_that_is_given_up_meanwhile(site: MergeSite) -> None:
    factories.put_delta(site.store, site.delta(0, 1), b"{")
    with Steps(site, Ending(n_retries=1)) as steps:
        steps.look()
        found = list_quarantine(site.registry, site.graph.run)
        drop(site.registry, site.graph.run, found, is_dry=False)
        steps.look()
        merged = steps.merged()
    assert (merged.report.quarantined, merged.n_dropped) == ([], 1)


def test_refused_delta_is_told_once(site: MergeSite) -> None:
    second = factories.make_graph(1, name="second", types=factories.TYPES[:1])
    factories.publish(site.store, second)
    site.put(site.delta(0, 1), factories.make_delta(second, 0, 2))
    with Steps(site, Ending(), MergeOptions(policies=parse(["fail"]))) as steps:
        steps.look()
        steps.follower._looked_again = -math.inf
        steps.look()
        assert len(steps.merged().report.refused) == 1
