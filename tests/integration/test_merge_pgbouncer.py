# SPDX-License-Identifier: BSD-3-Clause
"""Merging through a real pgbouncer in transaction mode: nothing may lie in a session."""

import psycopg

from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from tests.dumps import dump
from tests.fix_merge import MergeSite


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
