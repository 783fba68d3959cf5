# SPDX-License-Identifier: BSD-3-Clause
"""Many mergers that start in one moment share the few connections that a server has."""

import json
import subprocess
import sys
from pathlib import Path

from merger import schema
from merger.central_registry import CentralRegistry
from merger.merge import merge_run
from tests import factories
from tests.dumps import dump, rows
from tests.fix_own_postgres import MakePostgres
from tests.own_postgres import OwnPostgres
from transfer_plugins.object_store import DirectoryObjectStore

N_MERGERS = 30
N_QUANTA = 10
RUNS = ["u/tester/night1", "u/tester/night2", "u/tester/night3"]


def make_server(make_postgres: MakePostgres) -> OwnPostgres:
    """A server with few connections and two registries: one to be merged into, one to compare."""
    server = make_postgres(settings="max_connections = 8")
    server.execute("CREATE DATABASE clean")
    for database in ("postgres", "clean"):
        schema.create(server.address(database))
    return server


def make_runs(store: DirectoryObjectStore) -> None:
    for number, run in enumerate(RUNS):
        graph = factories.make_graph(N_QUANTA, name=run, run=run)
        factories.publish(store, graph)
        for quantum in range(N_QUANTA):
            factories.put_delta(store, factories.make_delta(graph, quantum, number * 100 + quantum))


def run_at_once(commands: list[list[str]]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.forked_mergers"],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
        check=True,
    )


def test_more_mergers_than_connections(make_postgres: MakePostgres, tmp_path: Path) -> None:
    server, store = make_server(make_postgres), DirectoryObjectStore(tmp_path)
    make_runs(store)
    options = ["--database", server.address(), "--batch-size", "3", "--json"]
    ended = run_at_once(
        [["merge", store.uri, RUNS[number % len(RUNS)], *options] for number in range(N_MERGERS)]
    )
    assert json.loads(ended.stdout) == [0] * N_MERGERS, ended.stderr
    assert "too many clients" in server.log(), "the connections sufficed: nothing was shown"
    with CentralRegistry(server.address("clean")) as registry:
        for run in RUNS:
            merge_run(registry, store, run)
    assert dump(server.address()) == dump(server.address("clean"))
    assert rows(server.address(), "SELECT count(*) FROM merge_lease") == [(0,)]
