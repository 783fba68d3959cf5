# SPDX-License-Identifier: BSD-3-Clause
"""A pool on which nothing of this project is installed: jobs bring the programs with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_bundle import make_bundle
from tests.fix_pool import Ad, PersonalPool
from tests.pool.submission import Site, need
from tests.pool.three_tasks import EXPOSURES, write_three_tasks
from transfer_plugins.object_store import open_store

pytestmark = pytest.mark.pool

RUN = "u/operator/bundled"
N_QUANTA = 2 * len(EXPOSURES) + 1
BIG_BYTES = 1_000_000
"""No dataset of the three tasks is as large, and the worker archive is."""


@pytest.fixture
def site(
    condor: None,
    pool_directory: Path,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Iterator[Site]:
    """An access point with a bundle, and a pool of its own without our plugin."""
    need("psql")
    need("s3cmd")
    bundle = submit_directory / "bundle"
    make_bundle(bundle)
    environment = {**s3_settings, "QUANTUM_EXEC_WORKER_CACHE": str(pool_directory / "cache")}
    with PersonalPool(pool_directory, environment=environment) as pool:
        found = Site(pool, submit_directory, database, datastore, s3_settings)
        found.prepare(bundle=str(bundle), workerExecutable="/nowhere/quantum-exec")
        yield found


def submit(site: Site, run: str) -> list[Ad]:
    """Run the three tasks; returns the jobs of their quanta."""
    graph = write_three_tasks(site.directory / "graph.yaml", open_store(site.datastore), run)
    report = site.submit(graph, "--run", run)
    site.verify(run)
    counted = site.psql(f"SELECT count(*) FROM quantum WHERE run = '{run}'")
    assert counted == [[str(N_QUANTA)]]
    constraint = f"DAGManJobId == {report['cluster']} && QuantumExecTaskLabel isnt undefined"
    return site.pool.history(f"{constraint} && JobUniverse == 5")


def n_fetched(pool: PersonalPool) -> int:
    """How many jobs fetched the worker archive, as HTCondor's records of transfers have it."""
    results = [r for ad in pool.epochs("INPUT") for r in ad["InputPluginResultList"]]
    return sum(result["TransferTotalBytes"] > BIG_BYTES for result in results)


def test_jobs_bring_their_programs(site: Site) -> None:
    jobs = submit(site, RUN)
    assert len(jobs) == N_QUANTA
    for job in jobs:
        assert job["Cmd"] == "/usr/bin/env"
        assert "HasJobTransferPlugins" in job["Requirements"]
        statistics = job["TransferInputStats"]
        assert statistics["CedarFilesCountTotal"] == 1
        assert "CedarFilesCountTotal" not in job["TransferOutputStats"]
    assert n_fetched(site.pool) == 1
    submit(site, f"{RUN}-again")
    assert n_fetched(site.pool) == 1
