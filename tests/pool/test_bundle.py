# SPDX-License-Identifier: BSD-3-Clause
"""A pool on which nothing of this project is installed: jobs bring the programs with them."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.bundle.bundle_record import BundleRecord, read_bundle
from tests.fix_bundle import make_bundle
from tests.fix_pool import Ad, PersonalPool
from tests.pool.submission import Site, need
from tests.pool.three_tasks import EXPOSURES, write_three_tasks
from tests.s3_proxy import S3Proxy
from transfer_plugins.object_store import open_store

pytestmark = pytest.mark.pool

RUN, NEXT_RUN = "u/operator/bundled", "u/operator/bundled-next"
N_QUANTA = 2 * len(EXPOSURES) + 1
# Of these tests, without what is installed of ours: jobs find python3 with it.
BARE_PATH = os.pathsep.join(
    place for place in os.get_exec_path() if not Path(place, "quantum-exec").exists()
)
PAIRS = {"pairs": {"pipetasks": "detect,calibrate", "dimensions": "exposure"}}
ALL = {"all": {"pipetasks": "detect,calibrate,coadd"}}


@dataclass(frozen=True)
class BareSite:
    """A site whose pool has nothing of ours, and what its S3 server was asked for."""

    site: Site
    s3: S3Proxy
    bundle: BundleRecord

    def prepare(self, **settings: object) -> None:
        """Write the configuration; only the bundle knows how the wrapper is started."""
        bundle = str(self.site.directory / "bundle")
        self.site.prepare(bundle=bundle, workerExecutable="/nowhere/quantum-exec", **settings)

    def submit(self, run: str) -> list[Ad]:
        """Run the three tasks; returns the jobs that ran on the execution point."""
        path = self.site.directory / "graph.yaml"
        graph = write_three_tasks(path, open_store(self.site.datastore), run)
        report = self.site.submit(graph)
        self.site.verify(run)
        counted = self.site.psql(f"SELECT count(*) FROM quantum WHERE run = '{run}'")
        assert counted == [[str(N_QUANTA)]]
        return self.site.pool.history(f"DAGManJobId == {report['cluster']} && JobUniverse == 5")

    def n_requests(self, method: str) -> int:
        """How often the S3 server was asked for the worker archive in this way."""
        return sum(seen.key.endswith(self.bundle.worker_key) for seen in self.s3.of(method))


@pytest.fixture
def bare(
    condor: None,
    pool_directory: Path,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Iterator[BareSite]:
    """An access point with a bundle, and a pool of its own without our plugin."""
    need("psql")
    make_bundle(submit_directory / "bundle")
    with S3Proxy(s3_settings["AWS_ENDPOINT_URL"]) as s3:
        settings = {**s3_settings, "AWS_ENDPOINT_URL": s3.endpoint}
        cache = str(pool_directory / "cache")
        own = {"PATH": BARE_PATH, "QUANTUM_EXEC_WORKER_CACHE": cache}
        with PersonalPool(pool_directory, environment=settings | own) as pool:
            site = Site(pool, submit_directory, database, datastore, settings)
            yield BareSite(site, s3, read_bundle(submit_directory / "bundle"))


def test_jobs_bring_their_programs(bare: BareSite) -> None:
    """Init job, clusters and a quantum alone; the second RUN finds the archive on the machine."""
    bare.prepare(cluster=PAIRS)
    jobs = bare.submit(RUN)
    assert len(jobs) == 1 + len(EXPOSURES) + 1
    check_jobs(bare, jobs)
    check_worker_processes(bare)
    assert (bare.n_requests("PUT"), bare.n_requests("GET")) == (1, 1)
    bare.prepare(cluster=ALL)
    jobs = bare.submit(NEXT_RUN)
    assert len(jobs) == 2
    check_jobs(bare, jobs)
    assert (bare.n_requests("PUT"), bare.n_requests("GET")) == (1, 1)
    check_other_commands_upload_it(bare)


def check_other_commands_upload_it(bare: BareSite) -> None:
    """Whoever queues a DAG puts the archive where it is missing; the pool is not waited for."""
    where = ("--datastore", bare.site.datastore, "--config", "submit.yaml")
    again = ("--pool", "--task", "coadd", "--into", f"{RUN}-beside")
    for n_before, words in enumerate([("restart", RUN), ("rerun", NEXT_RUN, *again)], 1):
        open_store(bare.site.datastore).delete(bare.bundle.worker_key)
        bare.site.command("quantum-exec", *words, *where)
        assert bare.n_requests("PUT") == n_before + 1


def check_jobs(bare: BareSite, jobs: list[Ad]) -> None:
    """HTCondor's own records: it moves the plugin in, and out only what the init job says."""
    for job in jobs:
        is_init = "QuantumExecTaskLabel" not in job
        assert job["Cmd"] == "/usr/bin/env"
        assert job["Args"].startswith(f"python3 worker.pyz {'init' if is_init else 'run'} ")
        assert "HasJobTransferPlugins" in job["Requirements"]
        assert job["ExitCode"] == 0
        assert job["TransferInputStats"]["CedarFilesCountTotal"] == 1
        sent = job["TransferOutputStats"].get("CedarFilesCountTotal", 0)
        assert sent == (2 if is_init else 0)
        kinds = {"INPUT": "InputPluginResultList", "OUTPUT": "OutputPluginResultList"}
        for kind, results in kinds.items():
            [record] = bare.site.pool.epochs(kind, job["ClusterId"])
            [result] = record[results]
            assert result["TransferProtocol"] == ("qs3" if is_init else "qs3job")
            assert result["TransferSuccess"] is True


def check_worker_processes(bare: BareSite) -> None:
    """Between task and starter there is the archive, run by the machine's own Python."""
    store = open_store(bare.site.datastore)
    keys = [stored.key for stored in store.list_objects(f"{RUN}/surroundings/")]
    assert len(keys) == len(EXPOSURES)
    for key in keys:
        lines = [process["cmdline"] for process in json.loads(store.get(key))]
        assert ["python3", "worker.pyz", "run"] in [line[:3] for line in lines]
        programs = [word for line in lines for word in line if word.endswith("/quantum-exec")]
        assert not programs
