# SPDX-License-Identifier: BSD-3-Clause
"""Trouble with the database: message, exit code, and a second merge that completes the first."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from merger import rights, schema
from merger.central_registry import CentralRegistry
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from tests import factories
from tests.dumps import dump
from tests.fix_own_postgres import MakePostgres
from tests.own_postgres import OwnPostgres, embedded_bin_dir
from tests.processes import wait_until
from tests.refusals import call, start
from tests.small_disk import SmallDisk
from transfer_plugins.object_store import DirectoryObjectStore

N_DELTAS = 6


def execute(address: str, *statements: str) -> None:
    """Run statements, each for itself."""
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def name_of(address: str) -> str:
    """Name of a database."""
    return str(conninfo_to_dict(address)["dbname"])


class Trouble:
    """A datastore with deltas, the registry that is in trouble, and one that never was."""

    def __init__(self, store: DirectoryObjectStore, graph: factories.Graph, calm: str) -> None:
        self.store, self.graph, self.calm = store, graph, calm
        self.cwd = store.root.parent

    def merge_words(self, address: str) -> list[str]:
        """What a person types; one delta in a transaction."""
        words = ["merge", self.store.uri, self.graph.run, "--batch-size", "1"]
        return [*words, "--database", address]

    def check_refused(self, address: str, code: ExitCode, *texts: str) -> None:
        """A merge ends with one message and an exit code."""
        done = call(self.cwd, *self.merge_words(address), module="merger.cli")
        lines = [line for line in done.stderr.splitlines() if line.startswith("registry-merge: ")]
        assert (done.returncode, len(lines)) == (code, 1), done.stderr
        assert "Traceback" not in done.stderr
        assert [text for text in texts if text not in lines[0]] == [], lines[0]

    def check_completed(self, address: str, registry: str) -> None:
        """A merge after the trouble gives what one merge without it gives."""
        done = call(self.cwd, *self.merge_words(address), module="merger.cli")
        assert done.returncode == ExitCode.OK, done.stderr
        with CentralRegistry(self.calm) as calm:
            merge_run(calm, self.store, self.graph.run)
        assert dump(registry) == dump(self.calm)


@pytest.fixture
def trouble(tmp_path: Path, other_database: str) -> Trouble:
    """Six deltas that wait for a merge."""
    store = DirectoryObjectStore(tmp_path / "datastore")
    return Trouble(store, factories.publish_deltas(store, N_DELTAS), other_database)


@pytest.fixture
def merger(database: str) -> Iterator[str]:
    """Address for a role that has just the rights that a merge needs."""
    name = name_of(database)
    execute(
        database,
        "DO $$ BEGIN CREATE ROLE merger LOGIN; EXCEPTION WHEN duplicate_object THEN END $$",
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        *filter(str.strip, rights.grants("merger", database=name).split(";\n")),
    )
    yield database.replace("postgres@", "merger@")
    execute(database, "DROP OWNED BY merger")


@pytest.mark.parametrize(
    ("revoked", "granted", "text"),
    [
        ("INSERT ON dataset FROM", "INSERT ON dataset TO", "permission denied for table dataset"),
        ("SELECT ON merged_attempt FROM", "SELECT ON merged_attempt TO", "table merged_attempt"),
        ("SELECT ON alembic_version FROM", "SELECT ON alembic_version TO", "alembic_version"),
        ("USAGE ON SCHEMA public FROM public,", "USAGE ON SCHEMA public TO", "run registry-merge"),
    ],
)
def test_a_right_is_missing(
    trouble: Trouble, database: str, merger: str, revoked: str, granted: str, text: str
) -> None:
    name = name_of(database)
    execute(database, f"REVOKE {revoked} merger".format(name))
    code = ExitCode.SCHEMA if "SCHEMA" in revoked else ExitCode.NOT_PERMITTED
    trouble.check_refused(merger, code, text)
    execute(database, f"GRANT {granted} merger".format(name))
    trouble.check_completed(merger, database)


@contextmanager
def held_at(address: str, number: int) -> Iterator[None]:
    """Keep mergers from the delta with this number: its ledger row is being written."""
    attempt_id = factories.attempt(number)
    with closing(psycopg.connect(address)) as holder:
        holder.execute(
            "INSERT INTO merged_attempt (attempt_id, run, quantum_id, delta_checksum) "
            "VALUES (%s, 'u/other', %s, '')",
            (attempt_id, attempt_id),
        )
        yield


def n_merged(address: str) -> int:
    """Attempts that were merged."""
    with psycopg.connect(address) as connection:
        ((number,),) = connection.execute("SELECT count(*) FROM merged_attempt").fetchall()
    return int(number)


def is_waiting(address: str) -> bool:
    """Whether a merger waits for another session."""
    with psycopg.connect(address) as connection:
        found = connection.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND wait_event = 'transactionid' AND datname = current_database()"
        )
        return found.rowcount > 0


def test_a_right_is_lost_half_way(trouble: Trouble, database: str, merger: str) -> None:
    with held_at(database, 4):
        ended = start(trouble.cwd, *trouble.merge_words(merger), module="merger.cli")
        wait_until(lambda: is_waiting(database), "the merge has come to the fourth delta")
        execute(database, "REVOKE INSERT ON datastore_record FROM merger")
    _, told = ended.communicate(timeout=60)
    assert ended.returncode == ExitCode.NOT_PERMITTED, told
    text = "permission denied for table datastore_record"
    assert text in told and "doctor --grants ROLE prints" in told
    assert n_merged(database) == 3, "what was merged stays"
    execute(database, "GRANT INSERT ON datastore_record TO merger")
    trouble.check_completed(merger, database)


def test_read_only(trouble: Trouble, database: str, merger: str) -> None:
    execute(database, "ALTER ROLE merger SET default_transaction_read_only = on")
    try:
        trouble.check_refused(
            merger,
            ExitCode.UNAVAILABLE,
            "read-only transaction (25006); connect to the primary server",
        )
    finally:
        execute(database, "ALTER ROLE merger RESET default_transaction_read_only")
    trouble.check_completed(merger, database)


def bin_dir_of_standby() -> Path:
    """Programs that can make one."""
    place = embedded_bin_dir()
    assert (place / "pg_basebackup").exists()
    return place


def test_standby(trouble: Trouble, make_postgres: MakePostgres) -> None:
    """A real one, which follows its primary."""
    primary = make_postgres(hba="host replication all all trust")
    schema.create(primary.address())
    standby = OwnPostgres(bin_dir_of_standby())
    try:
        standby.run("pg_basebackup", "-R", "-c", "fast", "-d", primary.address())
        standby.configure()
        standby.start()
        texts = ("read-only", "connect to the primary server")
        trouble.check_refused(standby.address(), ExitCode.UNAVAILABLE, *texts)
        both = standby.address(
            host="127.0.0.1,127.0.0.1",
            port=f"{standby.port},{primary.port}",
            target_session_attrs="read-write",
        )
        trouble.check_completed(both, primary.address())
    finally:
        standby.remove()


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    """Room for a server and little else."""
    disk = SmallDisk("150m")
    yield disk
    disk.remove()


@pytest.fixture
def cramped(small_disk: SmallDisk) -> Iterator[OwnPostgres]:
    """A server with all its files on the small disk."""
    server = OwnPostgres(embedded_bin_dir(), settings="restart_after_crash = on")
    server.data_dir = small_disk.path / "data"
    try:
        server.initialise()
        server.start()
        schema.create(server.address())
        yield server
    finally:
        server.remove()


def test_disk_full(trouble: Trouble, cramped: OwnPostgres, small_disk: SmallDisk) -> None:
    small_disk.fill()
    trouble.check_refused(
        cramped.address(),
        ExitCode.UNAVAILABLE,
        "No space left on device",
        "(53100); free space on the database server",
    )
    small_disk.make_room()
    trouble.check_completed(cramped.address(), cramped.address())


def test_disk_full_for_the_log(
    trouble: Trouble, cramped: OwnPostgres, small_disk: SmallDisk
) -> None:
    """The server panics and cannot come up again; with room it does, and the merge goes on."""
    with held_at(cramped.address(), 4):
        ended = start(trouble.cwd, *trouble.merge_words(cramped.address()), module="merger.cli")
        wait_until(lambda: is_waiting(cramped.address()), "the merge has come to the fourth delta")
        small_disk.fill()
        with pytest.raises(psycopg.Error), psycopg.connect(cramped.address()) as connection:
            while True:
                connection.execute("SELECT pg_logical_emit_message(true, '', repeat('x', 999999))")
                connection.commit()
        wait_until(lambda: "PANIC" in cramped.log(), "the server has given up")
    assert ended.poll() is None, "it waits for a server that was there"
    small_disk.make_room()
    wait_until(cramped.is_up, "the server is there again")
    _, told = ended.communicate(timeout=60)
    assert ended.returncode == ExitCode.OK, told
    trouble.check_completed(cramped.address(), cramped.address())
