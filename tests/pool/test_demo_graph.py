# SPDX-License-Identifier: BSD-3-Clause
"""The demo's graph on a real pool gives the same registry content as the local run."""

import json
from pathlib import Path

import pytest

from executor.demo.graph import write_graph
from executor.demo.survey import make_survey
from tests.fix_pool import PersonalPool
from tests.pool.submission import Site, need
from transfer_plugins.object_store import open_store

pytestmark = [pytest.mark.pool, pytest.mark.timeout(600)]

LOCAL, POOL = "demo/local", "demo/pool"
CHAINS = {
    "exposures": {"pipetasks": "isr,characterize,calibrate", "dimensions": "exposure"},
    "patches": {"pipetasks": "coadd,measure", "dimensions": "patch"},
}


def content_of(site: Site, run: str) -> list[list[str]]:
    """Dataset type, data ID and checksum of every dataset of a RUN, as psql gives them."""
    return site.psql(
        "SELECT d.dataset_type, replace(d.data_id::text, ',', ';'), r.checksum"
        f" FROM dataset d JOIN datastore_record r USING (dataset_id) WHERE d.run = '{run}'"
        " ORDER BY 1, 2"
    )


def test_pool_and_local_run_give_the_same_datasets(
    pool: PersonalPool,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> None:
    """More than 60 quanta, alone and in clusters; psql sees no difference, verify says equal."""
    need("psql")
    site = Site(pool, submit_directory, database, datastore, s3_settings)
    site.prepare(requestMemory=200, cluster=CHAINS)
    graph = site.directory / "graph.yaml"
    write_graph(make_survey(open_store(datastore)), graph)
    site.command("quantum-exec", "run-local", graph, "--datastore", datastore, "--run", LOCAL)
    config = ("--config", site.directory / "registry-merge.yaml")
    site.command("registry-merge", "merge", datastore, LOCAL, *config)
    report = site.submit(graph, "--run", POOL)
    assert isinstance(report["n_quanta"], int) and report["n_quanta"] >= 60
    on_pool, at_home = content_of(site, POOL), content_of(site, LOCAL)
    assert len(on_pool) > 60
    assert on_pool == at_home
    for run in (LOCAL, POOL):
        verified = site.command("registry-merge", "verify", datastore, run, "--json", *config)
        assert json.loads(verified.stdout)["n_differences"] == 0
