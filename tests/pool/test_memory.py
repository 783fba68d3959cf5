# SPDX-License-Identifier: BSD-3-Clause
"""A task that needs more memory than asked for grows until it fits, or ends with a clear reason."""

import shlex
import stat
from pathlib import Path

import pytest

from tests.fix_pool import Ad, PersonalPool
from tests.pool.memory_tasks import NEEDS_300_MIB, write_graph
from tests.pool.submission import BIN, Site, need

pytestmark = pytest.mark.pool

RUN = "u/operator/memory"
TASKS = {"grows": NEEDS_300_MIB, "never": NEEDS_300_MIB}
# 100, 200 and 400 MiB are asked for; slots are a multiple of 128 MiB.
SETTINGS = {
    "requestMemory": 100,
    "memoryMultiplier": 2,
    "pipetask": {"never": {"requestMemoryMax": 150}},
}

# Hides from the wrapper what was granted, so that it is the pool that measures.
_UNKNOWING_WRAPPER = """#!/bin/sh
SLOT_AD=$_CONDOR_MACHINE_AD
export SLOT_AD
unset _CONDOR_MACHINE_AD
exec {wrapper} "$@"
"""


def jobs_by_label(pool: PersonalPool, cluster: object) -> dict[str, Ad]:
    """The last job of each label of a DAG, from HTCondor's history."""
    jobs = pool.history(f"DAGManJobId == {cluster} && JobUniverse == 5")
    return {job["bps_job_label"]: job for job in reversed(jobs)}


def check_registry(site: Site, errors: int) -> None:
    """One quantum is successful, the other is not, and the registry is that of the bucket."""
    found = site.psql("SELECT dataset_type FROM dataset")
    assert found == [["grows_out"]]
    told = site.psql("SELECT error FROM attempt WHERE status = 'failed'")
    assert len(told) >= errors
    site.verify(RUN)


def test_request_grows_by_our_own_limit(
    pool: PersonalPool,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> None:
    """The wrapper ends the task with 35: held with 3/34, released with more, until it fits."""
    need("psql")
    site = Site(pool, submit_directory, database, datastore, s3_settings)
    site.prepare(**SETTINGS)
    report = site.submit(write_graph(site.directory / "graph.yaml", RUN, TASKS), codes=(1,))
    jobs = jobs_by_label(pool, report["cluster"])
    grown, never = jobs["grows"], jobs["never"]
    assert (grown["NumHolds"], grown["ExitCode"], grown["MemoryProvisioned"]) == (2, 0, 512)
    assert grown["NumHoldsByReason"] == {"JobPolicy": 2}
    assert (never["NumHolds"], never["ExitCode"]) == (1, 35)
    log = Path(str(report["directory"]), "run.dag.nodes.log").read_text()
    assert "Code 3 Subcode 34" in log
    assert "the next try asks for more, up to requestMemoryMax" in log
    # Two attempts of the one and two of the other went over.
    check_registry(site, errors=4)


def test_request_grows_by_holds_of_the_pool(
    condor: None,
    pool_directory: Path,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
    tmp_path: Path,
) -> None:
    """The startd's policy holds the job with 21/102, and no delta is left of such an attempt."""
    need("psql")
    wrapper = tmp_path / "quantum-exec"
    wrapper.write_text(_UNKNOWING_WRAPPER.format(wrapper=shlex.quote(str(BIN / "quantum-exec"))))
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    plugin = BIN / "quantum_exec_plugin"
    lines = ["use POLICY:HOLD_IF_MEMORY_EXCEEDED", "STARTD.UPDATE_INTERVAL = 1"]
    with PersonalPool(
        pool_directory, plugins=[plugin], config=lines, environment=s3_settings
    ) as pool:
        site = Site(pool, submit_directory, database, datastore, s3_settings)
        site.prepare(**SETTINGS, workerExecutable=str(wrapper))
        report = site.submit(write_graph(site.directory / "graph.yaml", RUN, TASKS), codes=(1,))
        jobs = jobs_by_label(pool, report["cluster"])
        grown, never = jobs["grows"], jobs["never"]
        assert (grown["ExitCode"], grown["MemoryProvisioned"]) == (0, 512)
        assert grown["NumHoldsByReason"] == {"StartdHeldJob": 2}
        assert (never["JobStatus"], never["NumHolds"]) == (3, 2)
        log = Path(str(report["directory"]), "run.dag.nodes.log").read_text()
        assert "raise requestMemoryMax (150 MiB) and restart the run" in log
        check_registry(site, errors=0)
