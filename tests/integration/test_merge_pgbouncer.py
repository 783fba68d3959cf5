# SPDX-License-Identifier: BSD-3-Clause
"""Merging through a real pgbouncer in transaction mode: nothing may lie in a session."""

from functools import partial
from pathlib import Path

import psycopg

from merger.central_registry import CentralRegistry
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from tests import factories
from tests.dumps import dump
from tests.fix_merge import MergeSite
from tests.processes import wait_until
from tests.refusals import call, start


def test_the_pooler_changes_the_session_at_every_transaction(pooled_database: str) -> None:
    """Else the tests below would show nothing."""
    with psycopg.connect(pooled_database, autocommit=True, prepare_threshold=None) as one:
        with psycopg.connect(pooled_database, autocommit=True, prepare_threshold=None) as other:
            with other.transaction():
                other.execute("SELECT 1")
                pids = {one.execute("SELECT pg_backend_pid()").fetchone() for _ in range(4)}
            with one.transaction():
                one.execute("SELECT 1")
                pids |= {other.execute("SELECT pg_backend_pid()").fetchone() for _ in range(4)}
    assert len(pids) == 2


def test_merge(site: MergeSite, pooled_database: str, other_database: str) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2), site.delta(2, 3))
    with CentralRegistry(pooled_database) as registry:
        assert merge_run(registry, site.store, site.graph.run).counts.n_deltas == 3
    with CentralRegistry(other_database) as registry:
        merge_run(registry, site.store, site.graph.run)
    assert dump(site.address) == dump(other_database)


def run_all(cwd: Path, *commands: list[str]) -> None:
    """Start commands at once; all end well."""
    programs = [start(cwd, *words, module="merger.cli") for words in commands]
    for program in programs:
        _, told = program.communicate(timeout=120)
        assert program.returncode == ExitCode.OK, told


def test_several_mergers_share_two_sessions(
    site: MergeSite, pooled_database: str, other_database: str, tmp_path: Path
) -> None:
    graph = factories.make_graph(30, run="u/tester/wide")
    factories.publish(site.store, graph)
    for number in range(30):
        delta = factories.make_delta(graph, number, number + 1)
        factories.put_objects(site.store, delta)
        factories.put_delta(site.store, delta)
    words = ["merge", site.uri, graph.run, "--batch-size", "2", "--database", pooled_database]
    run_all(tmp_path, *[[*words, "--connections", "2"]] * 4)
    with CentralRegistry(other_database) as registry:
        merge_run(registry, site.store, graph.run)
    assert dump(site.address) == dump(other_database)


def test_conflicts_forget_and_follow(
    site: MergeSite, pooled_database: str, other_database: str, tmp_path: Path
) -> None:
    """The same commands, once through the pooler and once not, leave the same registry."""
    other = factories.make_graph(3, name="another")
    factories.publish(site.store, other)
    site.put(site.delta(0, 1), site.delta(1, 2), site.delta(2, 3))
    delta = factories.make_delta(other, 1, 4)
    factories.put_objects(site.store, delta)
    factories.put_delta(site.store, delta)
    quantum = site.graph.quanta[0].quantum_id
    run = site.graph.run
    for address in (pooled_database, other_database):
        for code, words in (
            (ExitCode.CONFLICTS, ["merge", site.uri, run]),
            (ExitCode.OK, ["conflicts", "settle", "--run", run, "--decision", "replace"]),
            (ExitCode.OK, ["forget", run, "--quantum", quantum, "--yes"]),
            (ExitCode.OK, ["merge", site.uri, run, "--remerge"]),
            (ExitCode.OK, ["quarantine", "list", run]),
            (ExitCode.OK, ["migrate"]),
        ):
            done = call(tmp_path, *words, "--database", address, module="merger.cli")
            assert done.returncode == code, (words, done.stderr)
    assert dump(site.address) == dump(other_database)


def test_follow(site: MergeSite, pooled_database: str, tmp_path: Path) -> None:
    words = ["merge", site.uri, site.graph.run, "--follow", "--poll", "0.1"]
    program = start(tmp_path, *words, "--database", pooled_database, module="merger.cli")

    def is_merged(n_deltas: int) -> bool:
        return site.rows("SELECT count(*) FROM merged_attempt") == [(n_deltas,)]

    for number in range(3):
        site.put(site.delta(number, number + 1))
        wait_until(partial(is_merged, number + 1), "the delta is merged")
    _, told = program.communicate(timeout=60)
    assert program.returncode == ExitCode.OK, told
