# SPDX-License-Identifier: BSD-3-Clause
"""Short tasks on a real pool, several in a job and each in its own: the same registry content."""

import datetime
import os
from pathlib import Path

import pytest

from tests.fix_pool import PersonalPool
from tests.pool.chains import CLUSTER, TASKS, write_chains
from tests.pool.daemon_load import DaemonLoad
from tests.pool.submission import Site, need

pytestmark = [pytest.mark.pool, pytest.mark.timeout(3600)]

CLUSTERED, ALONE = "u/operator/clustered", "u/operator/alone"
# 300 for the figures of docs/pool.md.
N_QUANTA = int(os.environ.get("QUANTUM_EXEC_CHAINED_QUANTA", "18"))
N_EXPOSURES = N_QUANTA // len(TASKS)
N_CHAINS_IN_A_JOB = 5 if N_EXPOSURES < 100 else 10
N_JOBS = -(-N_EXPOSURES // N_CHAINS_IN_A_JOB)


@pytest.fixture
def site(
    pool: PersonalPool,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Site:
    """An access point whose configuration puts chains together."""
    need("psql")
    found = Site(pool, submit_directory, database, datastore, s3_settings)
    prepare(found)
    return found


def prepare(site: Site, **settings: object) -> None:
    """Write the configuration, with clusters and one retry."""
    chains = {**CLUSTER, "partitionMaxSize": N_CHAINS_IN_A_JOB}
    site.prepare(numberOfRetries=1, cluster={"chains": chains}, **settings)


def submit(site: Site, run: str, failing: int = 0) -> dict[str, object]:
    """Submit the chains; with many of them, tell what it took."""
    graph = write_chains(site.directory / "graph.yaml", run, N_EXPOSURES, failing=failing)
    if N_QUANTA < 300:
        return site.submit(graph)
    begun = datetime.datetime.now(datetime.UTC)
    with DaemonLoad(site.pool) as load:
        report = site.submit(graph, timeout_s=1500)
    wall_s = (datetime.datetime.now(datetime.UTC) - begun).total_seconds()
    stamp = str(report["directory"]).rpartition("/")[2].replace("Z", "+0000")
    queued = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%S.%f%z")
    to_queue_s = (queued - begun).total_seconds()
    counts = f"{report['n_jobs']} jobs, {report['n_quanta']} quanta"
    print(f"\n{run}: {counts} in {wall_s:.1f} s, of these {to_queue_s:.1f} s to the queue")
    print(f"CPU seconds {load.seconds()}")
    return report


def content(site: Site, run: str) -> list[list[str]]:
    """Dataset type, data ID and checksum of every dataset of a RUN; no checksum if not kept."""
    return site.psql(
        "SELECT d.dataset_type, d.data_id ->> 'exposure', coalesce(r.checksum, '')"
        f" FROM dataset d LEFT JOIN datastore_record r USING (dataset_id) WHERE d.run = '{run}'"
        " ORDER BY 1, 2"
    )


def test_clusters_give_what_single_quanta_give(site: Site) -> None:
    """One quantum of a cluster fails once, so that the next try of the job runs it alone."""
    report = submit(site, CLUSTERED, failing=3)
    assert (report["n_jobs"], report["n_quanta"]) == (N_JOBS, N_QUANTA)
    attempts = site.psql(
        "SELECT q.task_label, a.status, count(*) FROM attempt a JOIN quantum q USING (quantum_id)"
        f" WHERE q.run = '{CLUSTERED}' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    every = str(N_EXPOSURES)
    assert attempts == [
        ["fit", "successful", every],
        *(["flag", "failed", "1"], ["flag", "successful", every]),
        ["isr", "successful", every],
    ]
    site.verify(CLUSTERED)
    prepare(site, clusterAlgorithm="none")
    report = submit(site, ALONE)
    assert (report["n_jobs"], report["n_quanta"]) == (N_QUANTA, N_QUANTA)
    site.verify(ALONE)
    check_content(content(site, CLUSTERED), content(site, ALONE))


def check_content(clustered: list[list[str]], alone: list[list[str]]) -> None:
    """The same datasets; what only members read has a location only where a try failed."""
    assert len(alone) == N_QUANTA
    assert [row[:2] for row in clustered] == [row[:2] for row in alone]
    kept = [row for row in clustered if row[2]]
    assert [row for row in kept if row not in alone] == []
    unfinished = [row[0] for row in kept if row[0] != "flag"]
    assert unfinished == ["fit"]
    assert len(kept) == N_EXPOSURES + len(unfinished)
