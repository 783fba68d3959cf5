# SPDX-License-Identifier: BSD-3-Clause
"""DAGMan and the whole pool killed in the middle of a DAG: what comes back, and what is run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from tests.fix_pool import PersonalPool
from tests.pool.gated_run import GatedRun
from tests.pool.gated_tasks import N_AT_ONCE, N_QUANTA
from tests.pool.submission import BIN, Site, need

pytestmark = pytest.mark.pool


@pytest.fixture
def gated(
    condor: None,
    pool_directory: Path,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Iterator[GatedRun]:
    """A RUN in the middle, on a pool of its own that may be killed."""
    need("psql")
    plugin = BIN / "quantum_exec_plugin"
    with PersonalPool(pool_directory, plugins=[plugin], environment=s3_settings) as pool:
        site = Site(pool, submit_directory, database, datastore, s3_settings)
        site.prepare()
        found = GatedRun(site, "u/operator/killed")
        found.submit()
        yield found


def dagman_of(pool: PersonalPool) -> list[psutil.Process]:
    """The processes of DAGMan."""
    return [p for p in pool.processes() if p.name() == "condor_dagman"]


def test_dagman_and_then_the_pool_are_killed_and_recover(gated: GatedRun) -> None:
    """HTCondor starts DAGMan again, and the queue outlives its daemons: nothing is to be done."""
    [dagman] = dagman_of(gated.site.pool)
    dagman.kill()
    gated.site.pool.wait_until(
        lambda: {p.pid for p in dagman_of(gated.site.pool)} - {dagman.pid}, timeout_s=60
    )
    gated.refused("restart", code=33)
    # Their shadows look for the lost starters until the lease ends, 10 minutes otherwise.
    gated.site.pool.tool(
        "condor_qedit", "-constraint", "JobUniverse == 5", "JobLeaseDuration", "20"
    )
    gated.site.pool.kill()
    gated.gate.touch()
    gated.site.pool.start()
    gated.wait_for_end()
    gated.check_exact()


def test_pool_is_lost_with_its_queue_and_the_dag(gated: GatedRun) -> None:
    """Only the datastore is left; what it has is not run again, and settings may be others."""
    gated.order("pause")
    gated.gate.touch()
    gated.order("pause", "--wait")
    pool = gated.site.pool
    pool.kill()
    shutil.rmtree(pool.directory / "spool")
    shutil.rmtree(gated.site.directory / "submit")
    pool.start()
    path = gated.site.directory / "submit.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "requestMemory": 96}))
    restarted = gated.order("restart", "--wait")
    assert (restarted["n_done_before"], restarted["n_orphans_removed"]) == (N_AT_ONCE, 0)
    jobs = pool.history("JobUniverse == 5")
    assert [job["QuantumExecMemory"] for job in jobs] == [96] * (N_QUANTA - N_AT_ONCE)
    gated.check_exact()
