# SPDX-License-Identifier: BSD-3-Clause
"""An upgrade of the tables while mergers run and deltas wait.

The next release is simulated by a migration that only this test has, and the program with the
number of that version; so the mergers of today are the ones that are too old.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from merger import schema
from merger.central_registry import CentralRegistry
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from tests import factories
from tests.dumps import dump
from tests.fix_pgbouncer import MakePgbouncer
from tests.processes import wait_until
from tests.refusals import start
from transfer_plugins.object_store import DirectoryObjectStore

N_DELTAS = 40
_GATE = 4242

NEXT_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{schema.SCHEMA_VERSION}"

def upgrade():
    op.create_table("telescope", sa.Column("name", sa.Text(), primary_key=True))
    op.execute("SELECT pg_advisory_xact_lock({_GATE})")
    op.add_column("run", sa.Column("note", sa.Text(), nullable=False, server_default=""))
"""

NEXT_RELEASE = """
import sys
from merger import schema
from alembic.config import Config

def alembic_config():
    config = Config()
    config.set_main_option("script_location", {scripts!r})
    return config

schema.SCHEMA_VERSION, schema.alembic_config = "9000", alembic_config
from merger.cli import main
sys.argv = ["registry-merge", *{words!r}]
main()
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """The migrations of the next release."""
    found = tmp_path / "migrations"
    shutil.copytree(Path(schema.__file__).parent / "migrations", found)
    (found / "versions" / "9000_next.py").write_text(NEXT_MIGRATION)
    return found


def start_next(scripts: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a command of the next release."""
    code = NEXT_RELEASE.format(scripts=str(scripts), words=list(words))
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)


def ended(program: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for a program; returns exit code and standard error."""
    _, told = program.communicate(timeout=120)
    return program.returncode, told


@pytest.fixture
def store(tmp_path: Path) -> DirectoryObjectStore:
    """Deltas, old ones among them, that wait for a merge."""
    store = DirectoryObjectStore(tmp_path / "datastore")
    factories.publish_deltas(store, N_DELTAS)
    return store


def count(address: str, statement: str) -> int:
    """Return a number."""
    with psycopg.connect(address) as connection:
        ((number,),) = connection.execute(statement.encode()).fetchall()
    return int(number)


def n_waiting(address: str, locktype: str) -> int:
    """How many sessions wait for a lock of a kind."""
    statement = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = '{locktype}'"
    return count(address, statement)


def n_waiting_for_registry(address: str) -> int:
    """How many sessions wait for the lock of the whole registry, and not for one of leases."""
    statement = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
    return count(address, f"{statement} AND objsubid = 1")


def n_merged(address: str) -> int:
    """Attempts whose rows are all there: quantum, attempt, two datasets with their records."""
    n_ledger = count(address, "SELECT count(*) FROM merged_attempt")
    for table, factor in (("attempt", 1), ("quantum", 1), ("dataset", 2), ("datastore_record", 2)):
        assert count(address, f"SELECT count(*) FROM {table}") == factor * n_ledger
    return n_ledger


def upgrade_among_mergers(
    address: str, scripts: Path, store: DirectoryObjectStore, database: str
) -> None:
    """Upgrade while three mergers have still work to do; they end, nothing is half."""
    words = ("merge", store.uri, factories.RUN, "--batch-size", "1", "--database", address)
    with psycopg.connect(database) as gate, psycopg.connect(database) as holder:
        gate.execute(f"SELECT pg_advisory_xact_lock({_GATE})".encode())
        # Whoever comes beyond the second delta waits, so the migration has somebody to wait for.
        numbers = map(factories.attempt, range(3, N_DELTAS + 1))
        holder.cursor().executemany(
            "INSERT INTO merged_attempt (attempt_id, run, quantum_id, delta_checksum) "
            "VALUES (%(id)s, 'u/other', %(id)s, '')",
            [{"id": attempt_id} for attempt_id in numbers],
        )
        mergers = [start(scripts, *words, module="merger.cli") for _ in range(3)]
        wait_until(lambda: n_waiting(database, "transactionid"), "a merger is in a transaction")
        migration = start_next(scripts, "migrate", "--database", address)
        wait_until(lambda: n_waiting_for_registry(database), "the migration waits for it")
        assert migration.poll() is None
        holder.rollback()
        wait_until(
            lambda: count(
                database,
                f"SELECT count(*) FROM pg_locks WHERE NOT granted AND objid = {_GATE}",
            ),
            "the migration is in the middle",
        )
        n_before = n_merged(database)
        assert n_before <= 2 + len(mergers), "it waits for running batches, and for no others"
        wait_until(lambda: n_waiting(database, "advisory") == 4, "the mergers wait")
        assert count(database, "SELECT count(*) FROM pg_class WHERE relname = 'telescope'") == 0
        gate.rollback()
    assert ended(migration)[0] == ExitCode.OK
    for code, told in map(ended, mergers):
        assert code == ExitCode.SCHEMA, told
        text = (
            f"expected schema version {schema.SCHEMA_VERSION}, found 9000; upgrade registry-merge"
        )
        assert text in told
    assert n_merged(database) == n_before


def check_the_next_release_completes_it(
    address: str, scripts: Path, store: DirectoryObjectStore, database: str, other: str
) -> None:
    words = ("merge", store.uri, factories.RUN, "--database", address)
    # Those of the mergers that were refused would end by themselves, after a minute.
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM merge_lease")
    code, told = ended(start_next(scripts, *words))
    assert code == ExitCode.OK, told
    with CentralRegistry(other) as calm:
        merge_run(calm, store, factories.RUN)
    code, told = ended(start_next(scripts, "migrate", "--database", other))
    assert code == ExitCode.OK, told
    assert dump(database) == dump(other)


def test_migration_among_mergers(
    scripts: Path, store: DirectoryObjectStore, database: str, other_database: str
) -> None:
    upgrade_among_mergers(database, scripts, store, database)
    check_the_next_release_completes_it(database, scripts, store, database, other_database)


def test_migration_among_mergers_through_a_pooler(
    scripts: Path,
    store: DirectoryObjectStore,
    database: str,
    other_database: str,
    make_pgbouncer: MakePgbouncer,
) -> None:
    pooled = make_pgbouncer(database, pool_size=6).address(database)
    upgrade_among_mergers(pooled, scripts, store, database)
    check_the_next_release_completes_it(pooled, scripts, store, database, other_database)


def test_migration_that_fails_leaves_nothing(
    scripts: Path, store: DirectoryObjectStore, database: str
) -> None:
    path = scripts / "versions" / "9000_next.py"
    path.write_text(f"{NEXT_MIGRATION}    op.execute('SELECT 1/0')\n")
    code, told = ended(start_next(scripts, "migrate", "--database", database))
    assert (code, "division by zero (22012)" in told) == (ExitCode.ERROR, True)
    with psycopg.connect(database) as connection:
        assert schema.read_version(connection.cursor()) == schema.SCHEMA_VERSION
    with CentralRegistry(database) as registry:
        assert merge_run(registry, store, factories.RUN).counts.n_deltas == N_DELTAS
