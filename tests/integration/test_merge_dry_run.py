# SPDX-License-Identifier: BSD-3-Clause
"""``merge --dry-run``: it tells what would be merged, and writes nothing at all."""

import json
from typing import Any

import psycopg
from psycopg import sql
from typer.testing import CliRunner

from merger.cli import app
from merger.delta_archive import archive_run
from merger.exit_codes import ExitCode
from merger.forgetting import forget
from merger.quarantine import list_quarantine
from merger.quarantine_retry import drop
from registry import names
from registry.attempt import AttemptStatus
from tests import dumps, factories
from tests.fix_merge import MergeSite

RUN = factories.RUN


def rehearse(site: MergeSite, address: str, *options: str) -> dict[str, Any]:
    """Run the command; returns its JSON object."""
    words = ["merge", site.uri, RUN, "--database", address, "--dry-run", "--json", *options]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert read["exit_code"] == done.exit_code
    return read


def prepare(site: MergeSite) -> str:
    """A delta that is merged, and new ones of each kind; returns the key of a bad one."""
    site.put(site.delta(0, 1))
    site.merge()
    site.put(site.delta(0, 2), site.delta(1, 3), site.delta(2, 4, status=AttemptStatus.FAILED))
    factories.put_delta(site.store, site.delta(2, 5), factories.framed(b'"format":99,"x":1}'))
    return factories.put_delta(site.store, site.delta(1, 6), b"{")


def test_it_counts_and_changes_nothing(site: MergeSite) -> None:
    key = prepare(site)
    before = site.dump()
    found = rehearse(site, site.address)
    assert found["statuses"] == {"successful": 2, "failed": 1, "aborted": 0}
    assert (found["n_deltas_to_merge"], found["n_deltas_merged_before"]) == (3, 1)
    assert (found["n_datasets_to_merge"], found["n_newer_format"]) == (4, 1)
    assert [(bad["key"], bad["reason"]) for bad in found["quarantined"]] == [(key, "truncated")]
    assert found["exit_code"] == ExitCode.QUARANTINED
    assert site.dump() == before
    assert site.rows("SELECT count(*) FROM merge_lease") == [(0,)]
    assert site.merge().counts.n_deltas == found["n_deltas_to_merge"]


def test_a_role_that_may_only_read_is_enough(site: MergeSite) -> None:
    prepare(site)
    with psycopg.connect(site.address) as connection:
        connection.execute("CREATE ROLE reader_of_tests LOGIN")
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO reader_of_tests").format(name))
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader_of_tests")
    try:
        address = site.address.replace("postgres@", "reader_of_tests@")
        found = rehearse(site, f"{address}&options=-cdefault_transaction_read_only%3Don")
        assert found["n_deltas_to_merge"] == 3
    finally:
        with psycopg.connect(site.address) as connection:
            connection.execute("DROP OWNED BY reader_of_tests")
            connection.execute("DROP ROLE reader_of_tests")


def test_before_there_are_tables(site: MergeSite, empty_database: str) -> None:
    site.put(site.delta(0, 1))
    found = rehearse(site, empty_database)
    assert found["exit_code"] == ExitCode.SCHEMA
    assert "run registry-merge init" in found["missing_schema"]
    assert (found["n_deltas_to_merge"], found["n_deltas_merged_before"]) == (1, 0)
    assert dumps.rows(empty_database, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []


def test_what_was_forgotten_counts_with_remerge(site: MergeSite) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2))
    site.merge()
    words = ["forget", RUN, "--yes", "--database", site.address]
    assert CliRunner().invoke(app, words).exit_code == ExitCode.OK
    assert rehearse(site, site.address)["n_deltas_to_merge"] == 0
    assert rehearse(site, site.address, "--remerge")["n_deltas_to_merge"] == 2


SAME = (
    *("n_deltas_listed", "n_deltas_merged_before", "n_quarantined", "n_dropped"),
    *("n_newer_format", "newer_format", "n_conflicts_open"),
)


def bad_keys(read: dict[str, Any]) -> set[tuple[str, str]]:
    return {(bad["key"], bad["reason"]) for bad in read["quarantined"]}


def test_it_is_as_the_merge_that_follows(site: MergeSite) -> None:
    """Of archives, of what was forgotten, given up or is bad; of keys that are none."""
    archived = site.put(site.delta(0, 1), site.delta(1, 2))
    archive_run(site.store, RUN)
    site.merge()
    forget(site.registry, RUN, [site.graph.quanta[0].quantum_id])
    prepare(site)
    given_up = factories.put_delta(site.store, site.delta(2, 7), b"{")
    site.merge()
    on_record = [one for one in list_quarantine(site.registry, RUN) if one.key == given_up]
    drop(site.registry, RUN, on_record, is_dry=False)
    site.put(site.delta(0, 8), site.delta(2, 9))
    site.store.put(names.delta_prefix(RUN) + "README", b"")
    archive = next(stored.key for stored in site.store.list_objects(names.archive_prefix(RUN)))
    site.store.put(archive.replace(".parquet", "x.parquet"), b"PAR1")
    site.store.delete(archived[1])
    found = rehearse(site, site.address)
    words = ["merge", site.uri, RUN, "--database", site.address, "--json"]
    merged = json.loads(CliRunner().invoke(app, words).stdout.splitlines()[-1])
    assert {name: found[name] for name in SAME} == {name: merged[name] for name in SAME}
    assert found["n_deltas_to_merge"] == merged["n_deltas_merged"]
    assert bad_keys(found) == bad_keys(merged)
    assert {reason for _, reason in bad_keys(found)} == {"truncated", "wrong_key", "bad_archive"}
    assert found["n_dropped"] == 1
    assert found["exit_code"] == merged["exit_code"] == ExitCode.QUARANTINED


def test_people_see_a_table_of_80_columns(site: MergeSite) -> None:
    key = prepare(site)
    words = ["merge", site.uri, RUN, "--database", site.address, "--dry-run"]
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, words)
    table = [line for line in done.stdout.splitlines() if line[:1] in "┏┃┡│└"]
    assert table and max(map(len, table)) <= 80
    assert "4 datasets; nothing was written" in done.stdout
    assert f"would be quarantined (truncated): delta '{key}'" in done.stdout
