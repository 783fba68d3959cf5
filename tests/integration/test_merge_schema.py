# SPDX-License-Identifier: BSD-3-Clause
"""The schema: migrations make what the tables say, and no merge touches another version."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect

from merger import schema
from merger.central_registry import CentralRegistry
from merger.findings import NOTES
from merger.merge import merge_run
from merger.schema import SchemaVersionError
from merger.verification import verify_run
from registry.attempt import AttemptStatus
from registry.tables import metadata
from tests import factories
from tests.dumps import dump
from tests.fix_merge import MergeSite


def engine_for(address: str) -> Engine:
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(address))


def test_migrations_make_the_tables(database: str) -> None:
    engine = engine_for(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrations_make_the_constraints_and_comments(database: str, empty_database: str) -> None:
    """What autogenerate does not compare: checks, names of keys, comments."""
    engine = engine_for(empty_database)
    metadata.create_all(engine)
    engine.dispose()
    assert describe(database) == describe(empty_database)


def describe(address: str) -> dict[str, Any]:
    engine = engine_for(address)
    found = inspect(engine)
    described: dict[str, Any] = {
        table.name: (
            found.get_check_constraints(table.name),
            found.get_pk_constraint(table.name),
            found.get_foreign_keys(table.name),
            found.get_unique_constraints(table.name),
            [(c["name"], str(c["type"]), c.get("comment")) for c in found.get_columns(table.name)],
        )
        for table in metadata.sorted_tables
    }
    engine.dispose()
    return described


def test_schema_version_is_the_newest_revision() -> None:
    assert ScriptDirectory.from_config(schema.alembic_config()).get_heads() == [
        schema.SCHEMA_VERSION
    ]


def test_init_may_be_repeated(empty_database: str) -> None:
    assert schema.create(empty_database) is True
    assert schema.create(empty_database) is False
    assert schema.migrate(empty_database) == (schema.SCHEMA_VERSION, schema.SCHEMA_VERSION)


def test_two_inits_at_once(empty_database: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(schema.create, [empty_database] * 4))
    assert sorted(created) == [False, False, False, True]


def test_migrate_without_tables_is_refused(empty_database: str) -> None:
    with pytest.raises(SchemaVersionError, match="run registry-merge init"):
        schema.migrate(empty_database)


def set_version(address: str, version: str) -> None:
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (version,))


@pytest.mark.parametrize(
    "version, remedy", [("0000", "run registry-merge migrate"), ("9999", "upgrade registry-merge")]
)
def test_merge_refuses_another_version(site: MergeSite, version: str, remedy: str) -> None:
    set_version(site.address, version)
    site.put(site.delta())
    for command in (site.merge, site.verify, lambda: schema.create(site.address)):
        with pytest.raises(SchemaVersionError, match=f"found {version}; {remedy}"):
            command()
    assert site.rows("SELECT count(*) FROM run") == [(0,)]


def test_version_is_checked_in_every_transaction(site: MergeSite) -> None:
    def change_and_go_on() -> None:
        with CentralRegistry(site.address) as registry:
            registry.transact(lambda cursor: None)
            set_version(site.address, "9999")
            registry.transact(lambda cursor: None)

    with pytest.raises(SchemaVersionError, match="found 9999"):
        change_and_go_on()


def test_migrate_does_not_go_back(database: str) -> None:
    set_version(database, "9999")
    with pytest.raises(SchemaVersionError, match="upgrade registry-merge"):
        schema.migrate(database)


def test_init_waits_for_merges(database: str) -> None:
    """Both take one lock, so that no table changes below a transaction that is under way."""
    with psycopg.connect(database) as holder, ThreadPoolExecutor(1) as pool:
        from merger import statements

        holder.execute(statements.LOCK_SHARED)
        waiting = pool.submit(schema.migrate, database)
        with psycopg.connect(database, autocommit=True) as watcher:
            while not watcher.execute(
                "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ).rowcount:
                assert not waiting.done()
        holder.rollback()
        assert waiting.result(timeout=60) == (schema.SCHEMA_VERSION, schema.SCHEMA_VERSION)


def copy_rows(source: str, target: str) -> None:
    """Copy all rows into a registry that may have fewer tables and columns."""
    with psycopg.connect(source) as found, psycopg.connect(target) as made:
        for table in metadata.sorted_tables:
            if (None,) == made.execute("SELECT to_regclass(%s)", (table.name,)).fetchone():
                continue
            columns = made.execute(f"SELECT * FROM {table.name}".encode()).description or []
            names = ", ".join(column.name for column in columns)
            with (
                found.cursor().copy(f"COPY {table.name} ({names}) TO STDOUT".encode()) as rows,
                made.cursor().copy(f"COPY {table.name} FROM STDIN".encode()) as copied,
            ):
                for row in rows:
                    copied.write(row)


@pytest.fixture
def first_schema(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry as the first release made it."""
    with monkeypatch.context() as patched:
        patched.setattr(schema, "SCHEMA_VERSION", "0001")
        assert schema.create(empty_database)
    return empty_database


def put_as_before(site: MergeSite) -> None:
    """Deltas of format 1, with a failure, a superseded attempt and one that will be."""
    for delta in (
        *(site.delta(0, 1), site.delta(0, 5), site.delta(1, 2)),
        *(site.delta(1, 3, status=AttemptStatus.FAILED), site.delta(2, 6)),
    ):
        factories.put_objects(site.store, delta)
        factories.put_delta(site.store, delta, factories.in_format(1, delta))


def test_registry_with_rows_is_migrated_and_goes_on(site: MergeSite, first_schema: str) -> None:
    put_as_before(site)
    assert site.merge().counts.n_deltas == 5
    copy_rows(site.address, first_schema)
    with CentralRegistry(first_schema) as registry:
        with pytest.raises(SchemaVersionError, match="run registry-merge migrate"):
            merge_run(registry, site.store, site.graph.run)
    assert schema.migrate(first_schema) == ("0001", schema.SCHEMA_VERSION)
    assert dump(first_schema) == site.dump()
    site.put(site.delta(2, 7), site.delta(0, 4))
    with CentralRegistry(first_schema) as registry:
        assert merge_run(registry, site.store, site.graph.run).counts.n_deltas == 2
        findings = verify_run(registry, site.store, site.graph.run).findings
    site.merge()
    assert dump(first_schema) == site.dump()
    assert {finding.kind for finding in findings} <= NOTES
    measured = "SELECT read_bytes, requested->>'cpus', versions->>'python' FROM attempt ORDER BY 1"
    assert site.rows(measured) == [(2**33, "4", "3.13.1")] * 2 + [(None, None, None)] * 5
