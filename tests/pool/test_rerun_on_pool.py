# SPDX-License-Identifier: BSD-3-Clause
"""Successful quanta again on a real pool: beside what they made, and in its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fix_pool import PersonalPool
from tests.pool.submission import Site, need
from tests.pool.three_tasks import EXPOSURES, write_three_tasks
from transfer_plugins.object_store import open_store

pytestmark = pytest.mark.pool

RUN = "u/operator/repeated"
SCRATCH = "u/operator/beside"


@pytest.fixture
def site(
    pool: PersonalPool,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Site:
    """An access point whose graph was run; the calibration of one exposure failed."""
    need("psql")
    found = Site(pool, submit_directory, database, datastore, s3_settings)
    found.prepare()
    graph, store = found.directory / "graph.yaml", open_store(datastore)
    found.submit(write_three_tasks(graph, store, RUN, failing="2"), codes=(1,))
    return found


def rerun(site: Site, *options: str) -> dict[str, Any]:
    """Run the command on the pool as the guide shows it; returns its report."""
    where: tuple[str | Path, ...] = ("--datastore", site.datastore, "--config", "submit.yaml")
    words = ("quantum-exec", "rerun", RUN, *options, *where, "--pool", "--wait", "--json")
    report: dict[str, Any] = json.loads(site.command(*words).stdout)
    return report


def test_what_failed_is_mended_with_what_waited_for_it(site: Site) -> None:
    check_impossible_requests_are_refused(site)
    write_three_tasks(site.directory / "graph.yaml", open_store(site.datastore), RUN)
    report = rerun(site, "--failed", "--downstream", "--graph", "graph.yaml")
    assert sorted(q["status"] for q in report["quanta"]) == ["successful"] * 2
    site.verify(RUN)
    check_beside_and_in_place(site)


def check_impossible_requests_are_refused(site: Site) -> None:
    """By ``restart`` and ``rerun`` as by ``submit``: before anything is written or queued."""
    site.change_settings(requestMemory=10_000_000)
    where = ("--datastore", site.datastore, "--config", "submit.yaml")
    for words in (("restart", RUN), ("rerun", RUN, "--pool", "--failed", "--into", SCRATCH)):
        told = site.command("quantum-exec", *words, *where, codes=(2,)).stderr
        assert "requestMemory 10000000 MiB where the largest slot has" in told
    assert not list(open_store(site.datastore).list_keys(f"{SCRATCH}/"))
    assert len(list((site.directory / "submit").rglob("run.dag"))) == 1
    site.change_settings(requestMemory=64)


def check_beside_and_in_place(site: Site) -> None:
    """Successful quanta are run again in a scratch RUN, then in their own."""
    report = rerun(site, "--task", "calibrate", "--into", SCRATCH, "--compare")
    assert [found["verdict"] for found in report["compared"]] == ["same"] * len(EXPOSURES)
    counted = site.psql("SELECT run, count(*) FROM dataset WHERE quantum_id IS NOT NULL GROUP BY 1")
    assert sorted(counted) == [[SCRATCH, "3"], [RUN, "10"]]
    site.verify(SCRATCH)
    report = rerun(site, "--task", "detect", "--data-id", "exposure=2", "--replace", "--downstream")
    assert (report["n_quanta"], report["not_replaced"], report["consumers"]) == (3, {}, [])
    attempts = site.psql(
        "SELECT q.task_label, count(*), sum(a.superseded::int) FROM quantum q JOIN attempt a"
        f" USING (quantum_id) WHERE q.run = '{RUN}' GROUP BY q.quantum_id, 1 HAVING count(*) > 1"
    )
    expected = [["calibrate", "3", "1"], ["coadd", "2", "1"], ["detect", "2", "1"]]
    assert sorted(attempts) == expected
    site.verify(RUN)
