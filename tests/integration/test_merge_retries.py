# SPDX-License-Identifier: BSD-3-Clause
"""Transactions are run again where that helps, and only there."""

import psycopg
import pytest

from merger.central_registry import CentralRegistry, CentralRegistryError, Timeouts
from tests.fix_merge import MergeSite


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merger.central_registry._LONGEST_PAUSE_S", 0.0)


def raise_sometimes(site: MergeSite, sqlstate: str, n_times: int) -> None:
    """Make the first so many batches fail with an error as the server raises it."""
    with psycopg.connect(site.address) as connection:
        connection.execute(
            f"""
            CREATE SEQUENCE tries;
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('tries') <= {n_times} THEN
                    RAISE EXCEPTION 'as told' USING ERRCODE = '{sqlstate}';
                END IF;
                RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON attempt
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()
            """.encode()
        )


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "53300", "55P03", "57P01", "08006"])
def test_passing_errors_are_tried_again(site: MergeSite, sqlstate: str) -> None:
    site.put(site.delta())
    raise_sometimes(site, sqlstate, 3)
    assert site.merge().counts.n_deltas == 1
    assert site.rows("SELECT last_value FROM tries") == [(4,)]
    assert site.differences() == []


def test_passing_error_that_does_not_pass(site: MergeSite) -> None:
    site.put(site.delta())
    raise_sometimes(site, "40001", 1000)
    site.registry = CentralRegistry(site.address, timeouts=Timeouts(patience_s=0.1))
    with (
        site.registry,
        pytest.raises(CentralRegistryError, match=r"as told \(tried \d+ times in \d+ s\)"),
    ):
        site.merge()
    assert site.rows("SELECT count(*) FROM merged_attempt") == [(0,)]


def test_other_errors_are_not_tried_again(site: MergeSite) -> None:
    site.put(site.delta())
    raise_sometimes(site, "42501", 1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="as told"):
        site.merge()
    assert site.rows("SELECT last_value FROM tries") == [(1,)]


def test_merge_that_a_person_cancels_is_not_tried_again(site: MergeSite) -> None:
    site.put(site.delta())
    raise_sometimes(site, "57014", 1)
    with pytest.raises(psycopg.errors.QueryCanceled, match="as told"):
        site.merge()


def test_statement_that_takes_too_long_is_tried_for_a_while(site: MergeSite) -> None:
    timeouts = Timeouts(statement_s=0.05, patience_s=0.1)
    with (
        CentralRegistry(site.address, timeouts=timeouts) as registry,
        pytest.raises(CentralRegistryError, match=r"statement timeout \(tried \d+ times in"),
    ):
        registry.transact(lambda cursor: cursor.execute("SELECT pg_sleep(10)"))


def test_session_that_an_administrator_ends(site: MergeSite) -> None:
    def end_own_session(cursor: psycopg.Cursor) -> str:
        if not ended:
            ended.append(True)
            with psycopg.connect(site.address, autocommit=True) as other:
                pid = cursor.connection.info.backend_pid
                other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        cursor.execute("SELECT 1")
        return "done"

    ended: list[bool] = []
    assert site.registry.transact(end_own_session) == "done"


def test_database_that_cannot_be_reached_is_not_tried_again() -> None:
    with (
        CentralRegistry("postgresql://nobody@127.0.0.1:1/none") as registry,
        pytest.raises(CentralRegistryError, match=r"central registry: .*127\.0\.0\.1"),
    ):
        registry.transact(lambda cursor: None)


def test_nothing_outlives_a_transaction(site: MergeSite) -> None:
    """What a pooler in transaction mode would hand to the next client."""
    site.put(site.delta())
    site.merge()

    def look(cursor: psycopg.Cursor) -> tuple[object, ...]:
        cursor.execute(
            "SELECT (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), "
            "(SELECT count(*) FROM pg_prepared_statements), "
            "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            " AND pid = pg_backend_pid())"
        )
        return cursor.fetchone() or ()

    # The one advisory lock is that of the transaction that looks.
    assert site.registry.transact(look) == (0, 0, 1)
    connection = site.registry._connection
    assert connection is not None
    settings = ("lock_timeout", "idle_in_transaction_session_timeout", "transaction_isolation")
    found = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in settings]
    assert found == [("0",), ("0",), ("read committed",)]
