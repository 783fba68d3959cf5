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
    """An access point whose graph was run to its end."""
    need("psql")
    found = Site(pool, submit_directory, database, datastore, s3_settings)
    found.prepare()
    found.submit(write_three_tasks(found.directory / "graph.yaml", open_store(datastore), RUN))
    return found


def rerun(site: Site, *options: str) -> dict[str, Any]:
    """Run the command on the pool and wait for it; returns its report."""
    where = ("--datastore", site.datastore, "--config", site.directory / "submit.yaml")
    words: tuple[str | Path, ...] = (
        "quantum-exec",
        "rerun",
        RUN,
        *options,
        *where,
        "--pool",
        "--wait",
        "--json",
    )
    report: dict[str, Any] = json.loads(site.command(*words).stdout)
    return report


def test_reruns_beside_and_in_place(site: Site) -> None:
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
    assert sorted(attempts) == [[label, "2", "1"] for label in ("calibrate", "coadd", "detect")]
    site.verify(RUN)
