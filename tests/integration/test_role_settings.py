# SPDX-License-Identifier: BSD-3-Clause
"""What a site sets for a role, or a server speaks, changes nothing about a merge."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from merger import schema, statements
from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from merger.settings import SettingsError
from merger.verification import verify_run
from tests import dumps, factories
from tests.fix_merge import MergeSite
from tests.fix_postgres import PostgresServer
from tests.processes import wait_until

# BEGIN is under the role's limits yet, and a busy machine must have time for it.
SETTINGS = {
    "statement_timeout": "'300ms'",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'100ms'",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "standard_conforming_strings": "off",
    "datestyle": "'German, DMY'",
    "timezone": "'Asia/Kathmandu'",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "extra_float_digits": "'-10'",
    "quote_all_identifiers": "on",
    "synchronous_commit": "off",
    # A schema before ours with tables of our names, and one with our columns.
    "search_path": "other, public",
}


def execute(address: str, *statements: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def role(site: MergeSite) -> Iterator[str]:
    """Address for a role with all these settings."""
    execute(
        site.address,
        "CREATE SCHEMA other",
        "CREATE TABLE other.dataset (LIKE dataset)",
        "CREATE TABLE other.quantum (x int)",
        "CREATE TABLE other.staged_quantum (x int)",
        "CREATE ROLE odd_settings LOGIN SUPERUSER",
        *(f"ALTER ROLE odd_settings SET {name} = {value}" for name, value in SETTINGS.items()),
    )
    yield site.address.replace("postgres@", "odd_settings@")
    execute(site.address, "DROP ROLE odd_settings")


@contextmanager
def kept_waiting(address: str) -> Iterator[None]:
    """Let a merge wait for its lock longer than its role may wait for anything."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'odd_settings'"
        " AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '400ms'"
    )

    def release_late() -> None:
        with psycopg.connect(address, autocommit=True) as watching:
            wait_until(lambda: watching.execute(waiting).fetchone() == (1,), "the merge waits")
        holder.rollback()

    with psycopg.connect(address) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(statements.LOCK_ALONE)
        released = pool.submit(release_late)
        yield
        released.result()


def test_a_merge_does_not_depend_on_settings_of_its_role(
    site: MergeSite, role: str, other_database: str
) -> None:
    second = factories.make_graph(3, name="second")
    factories.publish(site.store, second)
    site.put(site.delta(0, 1), site.delta(0, 2), site.delta(1, 3))
    site.put(factories.make_delta(second, 0, 9))
    factories.put_delta(site.store, site.delta(2, 4), b"junk")
    with CentralRegistry(other_database) as registry:
        merge_run(registry, site.store, site.graph.run)
        expected = verify_run(registry, site.store, site.graph.run)
    with CentralRegistry(role) as registry:
        with kept_waiting(site.address):
            merge_run(registry, site.store, site.graph.run)
        found = verify_run(registry, site.store, site.graph.run)
    assert site.dump() == dumps.dump(other_database)
    assert found.findings == expected.findings
    assert site.rows("SELECT count(*) FROM other.dataset") == [(0,)]


def test_database_in_another_encoding(postgres_server: PostgresServer) -> None:
    postgres_server.execute(
        "CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    )
    text = "database 'latin1': expected encoding UTF8, found LATIN1; make another one"
    with pytest.raises(SettingsError, match=text):
        schema.create(postgres_server.address("latin1"))
