# SPDX-License-Identifier: BSD-3-Clause
"""Pause, resume and stop in the middle of a DAG, on a real pool."""

from pathlib import Path

import pytest

from tests.fix_pool import PersonalPool
from tests.pool.gated_run import GatedRun
from tests.pool.gated_tasks import N_AT_ONCE, N_WAITING
from tests.pool.submission import Site, need

pytestmark = pytest.mark.pool

N_LEFT = N_WAITING - N_AT_ONCE


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


def test_dag_is_paused_resumed_stopped_and_restarted(gated: GatedRun) -> None:
    """One RUN, steered through four DAGs; every quantum succeeds exactly once."""
    pause_in_the_middle(gated)
    n_done = resume_and_stop_at_once(gated)
    # One at a time from now on: one runs, and one waits for its turn.
    gated.site.change_settings(requestCpus=8)
    assert gated.order("restart")["n_done_before"] == n_done
    lose_dagman_alone(gated)
    restart_and_stop(gated)
    assert gated.n_successful() == n_done + 1
    assert gated.order("restart", "--wait")["n_done_before"] == n_done + 1
    gated.check_exact()
    for command in ("pause", "stop"):
        assert "expected a DAG of it in the queue" in gated.refused(command, code=39)


def pause_in_the_middle(gated: GatedRun) -> None:
    """What runs finishes, and nothing else starts."""
    paused = gated.order("pause")
    assert (paused["n_changed"], paused["n_running"]) == (N_LEFT, N_AT_ONCE)
    assert gated.order("pause")["was_already"]
    assert "quantum-exec resume" in gated.refused("restart", code=33)
    gated.gate.touch()
    assert gated.order("pause", "--wait")["n_running"] == 0
    assert gated.n_deltas() == N_AT_ONCE
    held = gated.site.pool.queue(f"DAGManJobId == {gated.cluster}")
    assert [(job["JobStatus"], job.get("NumJobStarts", 0)) for job in held] == [(5, 0)] * N_LEFT
    gated.gate.unlink()


def resume_and_stop_at_once(gated: GatedRun) -> int:
    """The DAG goes on where it was; what runs when it is stopped ends. How many are done."""
    assert gated.order("resume")["n_changed"] == N_LEFT
    resumed = gated.order("resume")
    assert (resumed["was_already"], resumed["n_changed"]) == (True, 0)
    n_done = gated.wait_until_left(N_LEFT)
    stopped = gated.order("stop", "--now", "--wait")
    assert (stopped["n_changed"], stopped["n_running"]) == (N_LEFT, 0)
    assert gated.n_successful() == n_done
    return n_done


def lose_dagman_alone(gated: GatedRun) -> None:
    """Its jobs go on; ``stop`` finds those that have not started."""
    gated.wait_until_full(running=1, idle=1)
    gated.remove_dagman_alone()
    stopped = gated.order("stop")
    assert (stopped["n_changed"], stopped["n_running"]) == (1, 1)


def restart_and_stop(gated: GatedRun) -> None:
    """The job without a DAG is removed; what runs when the new DAG is stopped finishes."""
    assert gated.order("restart")["n_orphans_removed"] == 1
    gated.wait_until_full(running=1, idle=1)
    stopped = gated.order("stop")
    assert (stopped["n_changed"], stopped["n_running"]) == (1, 1)
    gated.gate.touch()
    again = gated.order("stop", "--wait")
    assert (again["was_already"], again["n_running"]) == (True, 0)
