# SPDX-License-Identifier: BSD-3-Clause
"""Pause, resume and stop in the middle of a DAG, on a real pool."""

from pathlib import Path

import pytest

from tests.fix_pool import PersonalPool
from tests.pool.gated_run import GatedRun
from tests.pool.gated_tasks import N_AT_ONCE, N_COPIES, N_WAITING
from tests.pool.submission import Site, need

pytestmark = pytest.mark.pool


@pytest.fixture
def gated(
    pool: PersonalPool,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> GatedRun:
    """A RUN in the middle: as many quanta run as can, and the gate is closed."""
    need("psql")
    site = Site(pool, submit_directory, database, datastore, s3_settings)
    site.prepare()
    found = GatedRun(site, "u/operator/gated")
    found.submit()
    return found


def test_paused_dag_starts_nothing_and_resumes_where_it_was(gated: GatedRun) -> None:
    paused = gated.order("pause")
    assert (paused["n_changed"], paused["n_running"]) == (N_WAITING - N_AT_ONCE, N_AT_ONCE)
    assert gated.order("pause")["was_already"]
    assert "quantum-exec resume" in gated.refused("restart", code=33)
    gated.gate.touch()
    assert gated.order("pause", "--wait")["n_running"] == 0
    assert gated.n_deltas() == N_AT_ONCE
    held = gated.site.pool.queue(f"DAGManJobId == {gated.cluster}")
    assert [(job["JobStatus"], job.get("NumJobStarts", 0)) for job in held] == [(5, 0)] * 2
    assert gated.order("resume")["n_changed"] == N_WAITING - N_AT_ONCE
    again = gated.order("resume", "--wait")
    assert (again["was_already"], again["exit_code"]) == (True, 0)
    gated.check_exact()
    for command in ("pause", "resume", "stop"):
        assert "expected a DAG of it in the queue" in gated.refused(command, code=39)


def test_stopped_dag_merges_and_restart_runs_only_the_rest(gated: GatedRun) -> None:
    stopped = gated.order("stop")
    assert (stopped["n_changed"], stopped["n_running"]) == (N_WAITING - N_AT_ONCE, N_AT_ONCE)
    assert gated.order("stop")["was_already"]
    gated.gate.touch()
    gated.order("stop", "--wait")
    assert gated.n_deltas() == N_AT_ONCE
    counted = gated.site.psql("SELECT count(*) FROM attempt")
    assert counted == [[str(N_AT_ONCE)]]
    shown = gated.order("restart", "--dry-run")
    assert shown["unfinished"] == {"wait": N_WAITING - N_AT_ONCE, "copy": N_COPIES}
    assert gated.order("restart", "--wait")["n_done_before"] == N_AT_ONCE
    gated.check_exact()
    # Everything is done: the DAG merges only.
    assert gated.order("restart", "--wait")["n_unfinished"] == 0


def test_running_jobs_end_with_stop_now_or_without_their_dag(gated: GatedRun) -> None:
    """Paused, then stopped at once; restarted, and DAGMan alone removed; restarted again."""
    gated.order("pause")
    gated.order("stop", "--now", "--wait")
    assert not gated.jobs(2)
    assert gated.site.psql("SELECT count(*) FROM attempt WHERE status = 'successful'") == [["0"]]
    gated.order("restart")
    gated.wait_until_full()
    gated.remove_dagman_alone()
    gated.gate.touch()
    assert gated.order("restart", "--wait")["n_orphans_removed"] > 0
    gated.check_exact()
