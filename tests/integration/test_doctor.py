# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge doctor``: what it finds on real servers, and what it says to change."""

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from merger import rights, schema
from merger.check import Check, Standing
from merger.database_address import DatabaseAddress
from merger.doctor import examine
from merger.exit_codes import ExitCode
from tests import factories
from tests.fix_merge import MergeSite
from tests.fix_own_postgres import MakePostgres
from tests.fix_pgbouncer import MakePgbouncer
from tests.fix_postgres import PostgresServer
from tests.fix_s3 import BUCKET
from tests.refusals import call
from tests.s3_proxy import Fault, S3Proxy
from transfer_plugins.object_store import open_store


def found_by(address: str, *more: Any, **options: Any) -> dict[str, Check]:
    """The checks by subject."""
    keywords = {k: str(v) for k, v in conninfo_to_dict(address).items()}
    return {c.subject: c for c in examine(DatabaseAddress(keywords), *more, **options).checks}


def run(cwd: Path, *words: str, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    """Call the program."""
    done = call(cwd, "doctor", *words, "--json", module="merger.cli", **environment)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode
    return done.returncode, told["checks"]


def test_nothing_to_change(site: MergeSite, tmp_path: Path) -> None:
    code, checks = run(tmp_path, site.uri, site.graph.run, "--write", "--database", site.address)
    assert code == ExitCode.OK
    told = {check["subject"]: check for check in checks}
    assert {s for s, c in told.items() if c["standing"] != "ok"} <= {"fsync", "disk"}
    assert told["server"]["expected"] == "PostgreSQL 14 or newer"
    assert told["schema"]["found"] == f"version {schema.SCHEMA_VERSION}"
    assert told["object removing"]["found"].startswith(f"{site.uri}/{site.graph.run}/quantum-exec/")
    assert not list(site.store.list_objects(f"{site.graph.run}/quantum-exec/doctor/"))
    assert {"clock of database", "clock of datastore"} <= set(told)


def test_table_for_people(site: MergeSite, tmp_path: Path) -> None:
    done = call(tmp_path, "doctor", "--database", site.address, module="merger.cli", COLUMNS="80")
    assert done.returncode == ExitCode.OK
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert re.search(r"^ok +server +\d", done.stdout, re.MULTILINE)


def execute(address: str, *statements: str) -> None:
    """Run statements."""
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def visitor(site: MergeSite) -> str:
    """Address for a role that has no right at all."""
    execute(
        site.address,
        "DO $$ BEGIN CREATE ROLE visitor LOGIN; EXCEPTION WHEN duplicate_object THEN END $$",
        "DO $$ BEGIN EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, visitor', "
        "current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO visitor', "
        "current_database()); END $$",
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM visitor",
    )
    return site.address.replace("postgres@", "visitor@")


def test_a_role_without_any_right(visitor: str, tmp_path: Path) -> None:
    code, checks = run(tmp_path, "--database", visitor)
    assert code == ExitCode.ADVICE
    remedies = {c["subject"]: c["remedy"] for c in checks if c["standing"] == "bad"}
    assert set(remedies) == {
        *(f"rights on {name}" for name in (*rights.table_names(), rights.VERSION_TABLE)),
        "temporary tables",
    }
    assert remedies["rights on dataset"] == (
        'GRANT SELECT, INSERT, UPDATE, DELETE ON dataset TO "visitor";'
    )
    cannot = {c["subject"]: c["found"] for c in checks if "cannot tell" in c["found"]}
    assert cannot["schema"] == "cannot tell: permission denied for table alembic_version"
    assert "left by merges" in cannot


def test_what_it_says_is_enough_to_merge(site: MergeSite, visitor: str, tmp_path: Path) -> None:
    """No superuser, no owner: just what ``--grants`` prints, and what each remedy says."""
    _, checks = run(tmp_path, "--database", visitor)
    execute(site.address, *(c["remedy"] for c in checks if c["standing"] == "bad"))
    code, checks = run(tmp_path, "--database", visitor)
    assert code == ExitCode.OK, checks
    owner = {c["subject"]: c for c in checks}["init and migrate"]
    assert (owner["standing"], "owns" in owner["found"]) == ("warn", True)
    site.put(site.delta(0, 1), site.delta(1, 2))
    words = ("merge", site.uri, site.graph.run, "--database", visitor)
    assert call(tmp_path, *words, module="merger.cli").returncode == ExitCode.OK


def test_grants(site: MergeSite, visitor: str, tmp_path: Path) -> None:
    words = ("doctor", "--grants", "visitor", "--database", site.address)
    printed = call(tmp_path, *words, module="merger.cli")
    assert printed.returncode == ExitCode.OK
    execute(site.address, *filter(str.strip, printed.stdout.split(";\n")))
    assert run(tmp_path, "--database", visitor)[0] == ExitCode.OK
    site.put(site.delta(0, 1), site.delta(1, 2))
    words = ("merge", site.uri, site.graph.run, "--database", visitor)
    assert call(tmp_path, *words, module="merger.cli").returncode == ExitCode.OK


def test_schema_that_is_not_ours(site: MergeSite, empty_database: str) -> None:
    assert found_by(empty_database)["schema"].remedy == "registry-merge init"
    execute(site.address, "UPDATE alembic_version SET version_num = '9999'")
    assert found_by(site.address)["schema"].remedy == "upgrade registry-merge"
    execute(site.address, "UPDATE alembic_version SET version_num = '0001'")
    assert found_by(site.address)["schema"].remedy == "registry-merge migrate"


def test_settings_and_sessions(make_postgres: MakePostgres) -> None:
    server = make_postgres(
        settings="synchronous_commit = off\nautovacuum = off\nmax_locks_per_transaction = 20\n"
        "max_connections = 6\nsuperuser_reserved_connections = 2\nmax_prepared_transactions = 2"
    )
    schema.create(server.address())
    with psycopg.connect(server.address()) as blocker, psycopg.connect(server.address()) as waiter:
        blocker.execute("LOCK TABLE run")
        waiter.execute("PREPARE TRANSACTION 'forgotten'")
        waiter.commit()
        checks = found_by(server.address())
    assert checks["synchronous_commit"].found == "off"
    assert checks["autovacuum"].standing is Standing.WARNING
    assert (checks["locks"].found, checks["locks"].standing) == ("20", Standing.WARNING)
    assert checks["connections"].found.startswith("1 free: max_connections 6, 2 reserved, 3 in use")
    assert checks["connections"].standing is Standing.WARNING
    assert checks["sessions"].remedy == "ROLLBACK PREPARED 'forgotten';"


LOSSES = [
    ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "schema", 'GRANT USAGE ON SCHEMA "public" TO'),
    ("ALTER ROLE visitor SET search_path = nowhere", "schema", 'SET search_path = "public"'),
    ("ALTER TABLE dataset RENAME TO gone", "tables", "registry-merge migrate; if it has nothing"),
    ("REVOKE INSERT ON dataset FROM visitor", "rights on dataset", "GRANT INSERT ON dataset TO"),
    ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "init and migrate", "GRANT CREATE ON"),
]


@pytest.mark.parametrize(("loss", "subject", "remedy"), LOSSES)
def test_what_is_missing_is_told(
    site: MergeSite, visitor: str, loss: str, subject: str, remedy: str
) -> None:
    given = rights.grants("visitor", database=str(conninfo_to_dict(visitor)["dbname"]))
    usage = "GRANT USAGE ON SCHEMA public TO visitor" if "DROP" in loss else ""
    no_usage = "REVOKE USAGE ON SCHEMA public FROM visitor" if "USAGE" in loss else ""
    execute(site.address, *filter(str.strip, given.split(";\n")), *loss.split("; "))
    execute(site.address, *filter(None, (usage, no_usage)))
    try:
        check = found_by(visitor)[subject]
    finally:
        execute(site.address, "ALTER ROLE visitor RESET search_path", "DROP OWNED BY visitor")
    assert check.standing is Standing.BAD
    assert remedy in str(check.remedy)


def test_what_is_worst_comes_first(visitor: str) -> None:
    keywords = {k: str(v) for k, v in conninfo_to_dict(visitor).items()}
    standings = [check.standing for check in examine(DatabaseAddress(keywords)).checks]
    assert standings == sorted(standings, key=("bad", "warn", "ok").index)
    assert len(set(standings)) == 3


@pytest.mark.parametrize("table", ["merge_lease", "dataset"])
def test_a_locked_table_is_told_and_not_waited_for(site: MergeSite, table: str) -> None:
    with psycopg.connect(site.address) as holder:
        holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        checks = found_by(site.address)
        remedy = f"SELECT pg_terminate_backend({holder.info.backend_pid});"
    assert f"locks {table}" in checks["sessions"].found
    assert (checks["sessions"].standing, checks["sessions"].remedy) == (Standing.WARNING, remedy)
    if table != "dataset":
        told = "cannot tell: canceling statement due to lock timeout"
        assert checks["left by merges"].found == told


REFUSALS = [
    ("ALTER ROLE visitor NOLOGIN", ExitCode.NOT_PERMITTED, "ALTER ROLE … LOGIN"),
    ("ALTER ROLE visitor CONNECTION LIMIT 0", ExitCode.UNAVAILABLE, "CONNECTION LIMIT -1"),
    ("DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM visitor', "
     "current_database()); END $$", ExitCode.NOT_PERMITTED, "GRANT CONNECT ON DATABASE"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "code", "remedy"), REFUSALS)
def test_who_is_not_let_in_is_told_why(
    site: MergeSite, visitor: str, loss: str, code: ExitCode, remedy: str
) -> None:
    execute(site.address, loss)
    keywords = {k: str(v) for k, v in conninfo_to_dict(visitor).items()}
    try:
        found = examine(DatabaseAddress(keywords))
    finally:
        execute(site.address, "ALTER ROLE visitor LOGIN CONNECTION LIMIT -1")
    assert found.exit_code == code
    assert remedy in str(found.checks[0].remedy)


def test_bucket_that_may_not_be_listed(
    site: MergeSite, datastore: str, s3_endpoint: str, tmp_path: Path
) -> None:
    with S3Proxy(s3_endpoint, lambda method, key: Fault(403, "AccessDenied")) as proxy:
        words = (datastore, site.graph.run, "--endpoint-url", proxy.endpoint)
        code, checks = run(tmp_path, *words, "--database", site.address)
    assert code == ExitCode.NOT_PERMITTED
    assert checks[0]["subject"] == "datastore"
    assert "allow s3:ListBucket" in checks[0]["remedy"]


def test_pooler(database: str, make_pgbouncer: MakePgbouncer) -> None:
    pooled = make_pgbouncer(database).address(database)
    assert found_by(database)["pooler"].found == "none"
    checks = found_by(pooled)
    assert checks["pooler"].found == "a pooler is in between"
    assert not [c for c in checks.values() if "cannot tell" in c.found or c.standing == "bad"]


def test_encoding_and_read_only(postgres_server: PostgresServer, empty_database: str) -> None:
    postgres_server.execute(
        "CREATE DATABASE {} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", "latin"
    )
    try:
        execute(
            postgres_server.address("latin"),
            "ALTER DATABASE latin SET default_transaction_read_only = on",
        )
        checks = found_by(postgres_server.address("latin"))
    finally:
        postgres_server.execute("DROP DATABASE {} WITH (FORCE)", "latin")
    assert (checks["encoding"].standing, checks["encoding"].found) == (Standing.BAD, "LATIN1, C")
    assert (checks["writing"].standing, checks["writing"].found) == (Standing.BAD, "read-only")


def test_left_by_merges(site: MergeSite) -> None:
    site.store.put(f"{site.graph.run}/quantum-exec/deltas/nonsense.json", b"{")
    site.merge()
    check = found_by(site.address)["quarantine"]
    assert (check.found, check.standing) == ("1", Standing.WARNING)


@pytest.mark.parametrize("wrong", ["database", "datastore"])
def test_what_cannot_be_reached(
    site: MergeSite, tmp_path: Path, s3_environment: dict[str, str], wrong: str
) -> None:
    nobody = "postgresql://nobody@127.0.0.1:1/none"
    database = nobody if wrong == "database" else site.address
    datastore = "s3://not-there/x" if wrong == "datastore" else site.uri
    words = (datastore, site.graph.run, "--database", database)
    code, checks = run(tmp_path, *words, **s3_environment)
    assert code == ExitCode.UNAVAILABLE
    (bad,) = (c for c in checks if c["standing"] == "bad")
    assert (bad["subject"], bad["expected"]) == (wrong, "can be reached")
    assert ("clock of database" if wrong == "datastore" else "listing") in {
        c["subject"] for c in checks
    }


def test_bucket_that_gives_no_right_to_write(
    site: MergeSite, datastore: str, s3_endpoint: str
) -> None:
    factories.publish(open_store(datastore), site.graph)

    def rule(method: str, key: str) -> Fault | None:
        return Fault(403, "AccessDenied") if method in ("PUT", "DELETE") else None

    with S3Proxy(s3_endpoint, rule) as proxy:
        store = open_store(datastore, endpoint_url=proxy.endpoint)
        checks = found_by(site.address, store, site.graph.run, write=True)
    assert checks["object writing"].standing is Standing.BAD
    assert checks["object writing"].remedy == "allow s3:PutObject"
    assert "S3 said AccessDenied" in checks["object writing"].found
    assert checks["object reading"].standing is Standing.OK
    assert checks["listing"].found.endswith("credential: env")


def test_secrets_show_nowhere(site: MergeSite, tmp_path: Path) -> None:
    secret = "hidden-word"
    words = ("doctor", f"s3://{BUCKET}/x", site.graph.run, "--database", site.address)
    done = call(
        tmp_path, *words, module="merger.cli", PGPASSWORD=secret, AWS_SECRET_ACCESS_KEY=secret
    )
    assert secret not in done.stdout + done.stderr
