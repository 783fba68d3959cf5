# SPDX-License-Identifier: BSD-3-Clause
"""DAGMan and the whole pool killed in the middle of a DAG: what comes back, and what is run."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

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


def processes_of(
    gated: GatedRun, is_meant: Callable[[psutil.Process], bool]
) -> list[psutil.Process]:
    """Some processes of the pool; others may end while they are looked at."""
    found = []
    for process in gated.site.pool.processes():
        with suppress(psutil.Error):
            if is_meant(process):
                found.append(process)
    return found


def dagman_of(gated: GatedRun) -> list[psutil.Process]:
    """The processes of DAGMan."""
    return processes_of(gated, lambda process: process.name() == "condor_dagman")


def tasks_of(gated: GatedRun) -> list[psutil.Process]:
    """The processes of tasks that wait for the gate."""
    return processes_of(gated, lambda process: str(gated.gate) in process.cmdline())


def test_killed_dagman_and_pool_recover_and_a_lost_queue_is_made_up_for(gated: GatedRun) -> None:
    """kill -9 of DAGMan, then of all daemons, then of all with the queue and the DAG's files."""
    kill_dagman(gated)
    kill_pool(gated)
    gated.order("pause")
    gated.gate.touch()
    gated.order("pause", "--wait")
    lose_pool(gated)
    gated.site.change_settings(requestMemory=96)
    restarted = gated.order("restart", "--wait")
    assert (restarted["n_done_before"], restarted["n_orphans_removed"]) == (N_AT_ONCE, 0)
    jobs = gated.site.pool.history("JobUniverse == 5")
    assert [job["QuantumExecMemory"] for job in jobs] == [96] * (N_QUANTA - N_AT_ONCE)
    gated.check_exact()


def kill_dagman(gated: GatedRun) -> None:
    """HTCondor starts it again, and nothing is to be done."""
    [dagman] = dagman_of(gated)
    dagman.kill()
    gated.site.pool.wait_until(
        lambda: {p.pid for p in dagman_of(gated)} - {dagman.pid}, timeout_s=60
    )
    gated.refused("restart", code=33)


def kill_pool(gated: GatedRun) -> None:
    """The queue outlives its daemons: DAGMan and the jobs that ran are started again."""
    # Their shadows look for the lost starters until the lease ends, 10 minutes otherwise.
    gated.site.pool.tool("condor_qedit", "-constraint", "JobUniverse == 5", "JobLeaseDuration", "5")
    gated.site.pool.kill()
    gated.site.pool.start()
    gated.site.pool.wait_until(
        lambda: dagman_of(gated) and len(tasks_of(gated)) == N_AT_ONCE, timeout_s=60
    )
    gated.wait_until_full()


def lose_pool(gated: GatedRun) -> None:
    """Only the datastore is left."""
    pool = gated.site.pool
    pool.kill()
    shutil.rmtree(pool.directory / "spool")
    shutil.rmtree(gated.site.directory / "submit")
    pool.start()
