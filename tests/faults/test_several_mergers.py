# SPDX-License-Identifier: BSD-3-Clause
"""Several mergers at once: stopped, woken, cut off by restarts; the registry is as after one."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from merger import schema
from merger.central_registry import CentralRegistry, Timeouts
from merger.merge import merge_run
from registry.attempt import AttemptStatus
from tests import factories
from tests.dumps import dump, rows
from tests.faults.test_merge_killed import hold
from tests.fix_merge import MergeSite
from tests.fix_own_postgres import MakePostgres
from tests.processes import wait_until

N_QUANTA = 24
BATCH_SIZE = 4
DEADLINE_S = 120
RUNS = ["u/tester/night1", "u/tester/night2", "u/tester/night3"]

Process = subprocess.Popen[str]


@pytest.fixture
def three_runs(site: MergeSite) -> MergeSite:
    """Three RUNs without conflicts; in the first one attempts fail and are superseded, too."""
    for number, run in enumerate(RUNS):
        graph = factories.make_graph(N_QUANTA, name=run, run=run)
        factories.publish(site.store, graph)
        site.put(
            *(
                factories.make_delta(graph, quantum, 1000 * number + quantum + 1)
                for quantum in range(N_QUANTA)
            )
        )
        if number == 0:
            site.graph = graph
    site.put(
        site.delta(2, 101, status=AttemptStatus.FAILED), site.delta(3, 102), site.delta(3, 103)
    )
    return site


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    """Ends those that a test put in and left."""
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(site: MergeSite, run: str, *options: str, address: str | None = None) -> Process:
    command = [sys.executable, "-m", "merger.cli", "merge", site.uri, run, "--json"]
    command += ["--database", address or site.address, "--batch-size", str(BATCH_SIZE), *options]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
    )


def finish(process: Process) -> dict[str, int]:
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    found: dict[str, int] = json.loads(out)
    return found


def n_merged(address: str) -> int:
    ((number,),) = rows(address, "SELECT count(*) FROM merged_attempt")
    return int(number)


def assert_as_after_one(site: MergeSite, address: str, other: str, runs: list[str]) -> None:
    """Compare with one clean merge of each RUN."""
    with CentralRegistry(other) as registry:
        for run in runs:
            merge_run(registry, site.store, run)
    assert dump(address) == dump(other)
    assert rows(address, "SELECT count(*) FROM merge_lease") == [(0,)]


@pytest.mark.parametrize("runs", [RUNS[:1] * 3, RUNS], ids=["one run", "three runs"])
def test_three_mergers(
    three_runs: MergeSite, other_database: str, processes: list[Process], runs: list[str]
) -> None:
    with hold(three_runs, "LOCK TABLE quantum IN ACCESS EXCLUSIVE MODE") as is_blocked:
        processes += [start(three_runs, run) for run in runs]
        wait_until(is_blocked, "a merger waits for the lock", timeout_s=DEADLINE_S)
    reports = [finish(process) for process in processes]
    assert sum(r["n_deltas_merged"] for r in reports) == n_merged(three_runs.address)
    assert_as_after_one(three_runs, three_runs.address, other_database, sorted({*runs}))


def test_four_connections(
    three_runs: MergeSite, other_database: str, processes: list[Process]
) -> None:
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND application_name <> 'test' "
        "AND pid <> pg_backend_pid()"
    )
    with hold(three_runs, "LOCK TABLE quantum_input IN ACCESS EXCLUSIVE MODE"):
        processes.append(start(three_runs, RUNS[0], "--connections", "4"))
        waiting = sessions + " AND wait_event_type = 'Lock'"
        wait_until(
            lambda: rows(three_runs.address, waiting) == [(4,)], "four wait", timeout_s=DEADLINE_S
        )
        assert rows(three_runs.address, sessions) == [(4,)]
    finish(processes[0])
    assert_as_after_one(three_runs, three_runs.address, other_database, RUNS[:1])


def test_never_more_than_one_connection_by_default(
    three_runs: MergeSite, processes: list[Process]
) -> None:
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND application_name <> 'test'"
    )
    seen = set()
    processes.append(start(three_runs, RUNS[0]))
    with psycopg.connect(
        three_runs.address, autocommit=True, application_name="test"
    ) as connection:
        while processes[0].poll() is None:
            seen.add(connection.execute(sessions).fetchone())
    assert finish(processes[0])["n_deltas_merged"] == N_QUANTA + 3
    assert seen == {(0,), (1,)}


def test_stopped_beyond_its_lease_and_woken(
    three_runs: MergeSite, other_database: str, processes: list[Process]
) -> None:
    with hold(three_runs, "LOCK TABLE merged_attempt IN SHARE MODE") as is_blocked:
        processes.append(start(three_runs, RUNS[1], "--lease", "1"))
        wait_until(is_blocked, "it waits for the lock", timeout_s=DEADLINE_S)
        processes[0].send_signal(signal.SIGSTOP)
    processes.append(start(three_runs, RUNS[1], "--lease", "1"))
    assert finish(processes[1])["n_deltas_merged"] == N_QUANTA
    processes[0].send_signal(signal.SIGCONT)
    assert finish(processes[0])["n_deltas_merged"] == 0
    assert_as_after_one(three_runs, three_runs.address, other_database, RUNS[1:2])


def test_stopped_for_ever_in_the_middle_of_a_copy(
    three_runs: MergeSite, other_database: str, processes: list[Process]
) -> None:
    """No timeout of the server ends that; the next merger does."""
    with hold(three_runs, "LOCK TABLE quantum_input IN ACCESS EXCLUSIVE MODE") as is_blocked:
        processes.append(start(three_runs, RUNS[0], "--lease", "1"))
        wait_until(is_blocked, "it waits for the lock", timeout_s=DEADLINE_S)
        processes[0].send_signal(signal.SIGSTOP)
    timeouts = Timeouts(lock_s=0.5, statement_s=2)
    with CentralRegistry(three_runs.address, timeouts=timeouts) as registry:
        report = merge_run(registry, three_runs.store, RUNS[0], batch_size=BATCH_SIZE)
    assert report.counts.n_deltas == N_QUANTA + 3
    # Its own connection is gone, and the ledger tells it that all is done.
    processes[0].send_signal(signal.SIGCONT)
    assert finish(processes[0])["n_deltas_merged"] == 0
    assert_as_after_one(three_runs, three_runs.address, other_database, RUNS[:1])


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_is_restarted(
    three_runs: MergeSite, make_postgres: MakePostgres, processes: list[Process], mode: str
) -> None:
    server = make_postgres()
    server.execute("CREATE DATABASE clean")
    for database in ("postgres", "clean"):
        schema.create(server.address(database))
    address = server.address()
    processes += [start(three_runs, run, "--lease", "2", address=address) for run in RUNS]
    begun = "SELECT count(DISTINCT run) FROM merged_attempt"
    wait_until(
        lambda: rows(address, begun) == [(len(RUNS),)], "each has a batch in", timeout_s=DEADLINE_S
    )
    server.restart(mode)
    for process in processes:
        finish(process)
    assert_as_after_one(three_runs, address, server.address("clean"), RUNS)


def test_jobs_put_deltas_meanwhile(three_runs: MergeSite, other_database: str) -> None:
    """What comes late is merged by the next pass, and nothing is merged twice."""
    is_done = threading.Event()

    def put() -> None:
        for number in range(200, 240):
            three_runs.put(three_runs.delta(number % N_QUANTA, number))
        is_done.set()

    def merge() -> None:
        while not is_done.is_set():
            with CentralRegistry(three_runs.address) as registry:
                merge_run(registry, three_runs.store, RUNS[0], batch_size=BATCH_SIZE)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(put), pool.submit(merge), pool.submit(merge)]:
            done.result()
    three_runs.merge()
    assert_as_after_one(three_runs, three_runs.address, other_database, RUNS[:1])
