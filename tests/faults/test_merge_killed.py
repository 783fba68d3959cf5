# SPDX-License-Identifier: BSD-3-Clause
"""However a merge ends, and however many run at once, the registry is that of one clean merge."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from registry.attempt import AttemptStatus
from registry.model import DimensionRecord
from tests import factories
from tests.dumps import Dump, dump, empty
from tests.fix_merge import MergeSite
from tests.fix_proxy import Cut, MakeProxy

N_QUANTA = 30
BATCH_SIZE = 8
DEADLINE_S = 60


@pytest.fixture
def filled(site: MergeSite) -> MergeSite:
    """A RUN with everything: failures, superseded attempts, a conflict, a bad delta."""
    site.graph = factories.make_graph(N_QUANTA, name="filled")
    second = factories.make_graph(3, name="second")
    for graph in (site.graph, second):
        factories.publish(site.store, graph)
    for number in range(N_QUANTA):
        records = [DimensionRecord("exposure", {"exposure": number % 5}, {"n": number % 2})]
        site.put(site.delta(number, number + 1, dimension_record=records))
    site.put(site.delta(1, 100), site.delta(2, 101, status=AttemptStatus.FAILED))
    site.put(factories.make_delta(second, 1, 102))
    factories.put_delta(site.store, site.delta(3, 103), b"junk")
    factories.put_delta(site.store, site.delta(4, 104, host="nul\0"))
    return site


@pytest.fixture
def clean(filled: MergeSite, other_database: str) -> Dump:
    """The dump of one clean merge."""
    with CentralRegistry(other_database) as registry:
        merge_run(registry, filled.store, filled.graph.run)
    found = dump(other_database)
    assert all(found[table] for table in ("merge_conflict", "quarantine", "dimension_source"))
    return found


def start_merge(site: MergeSite, address: str | None = None) -> subprocess.Popen[str]:
    """Start a real ``registry-merge merge``."""
    command = [sys.executable, "-m", "merger.cli", "merge", site.uri, site.graph.run, "--json"]
    command += ["--database", address or site.address, "--batch-size", str(BATCH_SIZE)]
    # Others wait for the lease of one that was killed.
    command += ["--lease", "1"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition, and fail if the process ends before it is met."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the condition was never met"


@contextmanager
def hold(site: MergeSite, statement: str) -> Iterator[Callable[[], bool]]:
    """Hold a lock; gives a function that tells whether another session waits for a lock."""
    with (
        psycopg.connect(site.address, application_name="test") as holder,
        psycopg.connect(site.address, autocommit=True, application_name="test") as watcher,
    ):
        holder.execute(statement.encode())

        def is_blocked() -> bool:
            found = watcher.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            return found != (0,)

        yield is_blocked
        holder.rollback()


def wait_for_no_other_session(site: MergeSite) -> None:
    """Wait until the server has noticed that its client was killed."""
    with psycopg.connect(site.address, autocommit=True) as watcher:
        deadline = time.monotonic() + DEADLINE_S
        while watcher.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend' "
            "AND application_name <> 'test'"
        ).rowcount:
            assert time.monotonic() < deadline


LOCKS = {
    # The ledger rows are in; the COPY of what follows waits.
    "claim": "LOCK TABLE quantum IN ACCESS EXCLUSIVE MODE",
    "attempts": "LOCK TABLE quantum_input IN ACCESS EXCLUSIVE MODE",
    "datasets": "LOCK TABLE datastore_record IN ACCESS EXCLUSIVE MODE",
    # Everything is in; the COMMIT waits in a deferred trigger.
    "commit": "SELECT pg_advisory_xact_lock(4711)",
}


def add_slow_commit(address: str) -> None:
    """Make every COMMIT that added ledger rows wait for a lock."""
    with psycopg.connect(address) as connection:
        connection.execute(
            """
            CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER wait_at_commit AFTER INSERT ON merged_attempt
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_at_commit()
            """
        )


def remove_slow_commit(address: str) -> None:
    with psycopg.connect(address) as connection:
        connection.execute("DROP FUNCTION wait_at_commit CASCADE")


@pytest.mark.parametrize("place", LOCKS)
def test_killed_between_copy_and_commit(filled: MergeSite, clean: Dump, place: str) -> None:
    add_slow_commit(filled.address)
    before = filled.dump()
    with hold(filled, LOCKS[place]) as is_blocked:
        process = start_merge(filled)
        wait_until(is_blocked, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    process.communicate()
    wait_for_no_other_session(filled)
    if place != "commit":
        # Nothing of the batch is there; RUN and dataset types were committed before. A server
        # that was told to COMMIT does so, though nobody is there any more to hear of it.
        assert filled.dump() | {"run": [], "dataset_type": []} == before
    remove_slow_commit(filled.address)
    filled.merge(batch_size=BATCH_SIZE)
    assert filled.dump() == clean


def test_killed_in_a_later_batch(filled: MergeSite, clean: Dump) -> None:
    """What earlier batches committed stays, and is not merged again."""
    # The same ledger row, not yet committed: the claim of its batch has to wait for it.
    newest = factories.attempt(N_QUANTA)
    row = f"INSERT INTO merged_attempt VALUES ('{newest}', 'x', gen_random_uuid(), '')"
    with hold(filled, row) as is_blocked:
        process = start_merge(filled)
        wait_until(is_blocked, process)
        ((n_merged,),) = filled.rows("SELECT count(*) FROM merged_attempt")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert 0 < n_merged < N_QUANTA
    wait_for_no_other_session(filled)
    report = filled.merge(batch_size=BATCH_SIZE)
    assert report.n_merged_before >= n_merged
    assert filled.dump() == clean


def test_two_mergers_at_once(filled: MergeSite, clean: Dump) -> None:
    with hold(filled, "LOCK TABLE quantum IN ACCESS EXCLUSIVE MODE") as is_blocked:
        processes = [start_merge(filled) for _ in range(2)]
        wait_until(is_blocked, processes[0])
    reports = [json.loads(process.communicate()[0]) for process in processes]
    assert {process.returncode for process in processes} <= {0, 10, 11}
    n_merged = sum(report["n_deltas_merged"] for report in reports)
    assert n_merged == len(clean["merged_attempt"])
    # What the other one has merged is not taken for bad.
    assert [report["n_quarantined"] for report in reports] == [len(clean["quarantine"])] * 2
    assert filled.dump() == clean


@pytest.mark.parametrize("n_mergers", [3])
def test_mergers_that_are_killed_and_others_that_go_on(
    filled: MergeSite, clean: Dump, n_mergers: int
) -> None:
    with hold(filled, "LOCK TABLE attempt IN ACCESS EXCLUSIVE MODE") as is_blocked:
        victims = [start_merge(filled) for _ in range(n_mergers)]
        wait_until(is_blocked, victims[0])
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
        # Though they wait for a lock that nobody gives up, the server ends their sessions.
        wait_for_no_other_session(filled)
        survivor = start_merge(filled)
    out, err = survivor.communicate(timeout=DEADLINE_S)
    assert survivor.returncode in (10, 11), err
    assert json.loads(out)["n_deltas_merged"] == len(clean["merged_attempt"])
    assert filled.dump() == clean


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("n_before", [0, 4, 6])
def test_connection_lost_at_commit(
    filled: MergeSite, clean: Dump, make_proxy: MakeProxy, cut: Cut, n_before: int
) -> None:
    proxy, address = make_proxy(filled.address)
    with CentralRegistry(address) as registry:
        for _ in range(n_before):
            registry.transact(lambda cursor: None)
        proxy.cuts += [cut, cut]
        merge_run(registry, filled.store, filled.graph.run, batch_size=BATCH_SIZE)
    assert proxy.n_cut == 2
    assert filled.dump() == clean


@pytest.mark.parametrize("cut", Cut)
def test_connection_lost_at_each_commit(
    filled: MergeSite, clean: Dump, make_proxy: MakeProxy, cut: Cut
) -> None:
    """Whichever transaction it is: graph, ledger, batch, quarantine."""
    for n_whole in range(12):
        empty(filled.address)
        proxy, address = make_proxy(filled.address)
        cutting = iter([False] * n_whole + [True])
        original = proxy._is_cut

        def is_cut(received: bytes, server: object) -> bool:
            if b"COMMIT\0" in received and next(cutting, False):  # noqa: B023
                proxy.cuts.append(cut)  # noqa: B023
            return original(received, server)  # type: ignore[arg-type] # noqa: B023

        proxy._is_cut = is_cut  # type: ignore[method-assign]
        with CentralRegistry(address) as registry:
            merge_run(registry, filled.store, filled.graph.run, batch_size=BATCH_SIZE)
        assert filled.dump() == clean
