# SPDX-License-Identifier: BSD-3-Clause
"""``status`` of a DAG on a real pool says the same as the queue, which it does not ask."""

import json
from typing import Any

import pytest

from tests.fix_pool import PersonalPool
from tests.pool.submission import Site, need
from tests.pool.three_tasks import write_three_tasks
from transfer_plugins.object_store import open_store

pytestmark = pytest.mark.pool

RUN = "u/operator/watched"


@pytest.fixture
def site(
    pool: PersonalPool,
    submit_directory: Any,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Site:
    """An access point, ready to submit."""
    need("psql")
    found = Site(pool, submit_directory, database, datastore, s3_settings)
    found.prepare()
    return found


def status(site: Site, *codes: int) -> dict[str, Any]:
    """``quantum-exec status --json`` as the operator types it."""
    words = ("status", RUN, "--datastore", site.datastore, "--config", "submit.yaml", "--json")
    found: dict[str, Any] = json.loads(site.command("quantum-exec", *words, codes=codes).stdout)
    return found


def queue_counts(pool: PersonalPool, dag: int) -> dict[str, int]:
    """Jobs of quanta in the queue, by the words of ``status``."""
    words = {1: "PENDING", 2: "RUNNING", 5: "HELD", 6: "RUNNING"}
    found = {"PENDING": 0, "RUNNING": 0, "HELD": 0}
    for ad in pool.queue(f"DAGManJobId == {dag} && QuantumExecTaskLabel =!= undefined"):
        if ad["JobStatus"] in words and ad["JobUniverse"] == 5:
            found[words[ad["JobStatus"]]] += 1
    return found


def is_the_same(site: Site, dag: int) -> dict[str, Any] | None:
    """The status, if the queue was the same before and after it was read, and it says so."""
    before = queue_counts(site.pool, dag)
    # The DAG may end meanwhile, with a failure.
    found = status(site, 0, 1)
    if queue_counts(site.pool, dag) != before:
        return None
    counts = {state: found["jobs"][state] for state in before}
    return found if counts == before else None


def test_status_says_what_the_queue_says(site: Site) -> None:
    """Held before it runs, running, failed at last: each time as the schedd has it."""
    graph = write_three_tasks(site.directory / "graph.yaml", open_store(site.datastore), RUN, "2")
    where = ("--datastore", site.datastore, "--config", site.directory / "submit.yaml")
    report = json.loads(site.command("quantum-exec", "submit", graph, *where, "--json").stdout)
    dag = report["cluster"]
    detect = f'DAGManJobId == {dag} && QuantumExecTaskLabel == "detect"'
    site.pool.wait_until(lambda: site.pool.queue(detect), timeout_s=60)
    site.pool.tool("condor_hold", "-constraint", detect)
    held = site.pool.wait_until(lambda: is_the_same(site, dag), timeout_s=60)
    assert held is not None
    assert held["dag"]["state"] == "RUNNING"
    assert held["jobs"]["HELD"] == held["holds"][0]["held"] >= 1
    assert held["holds"][0]["cause"] == "user"
    site.pool.tool("condor_release", "-constraint", detect)
    site.pool.wait_until(lambda: is_the_same(site, dag), timeout_s=60)
    site.pool.wait_until(lambda: not site.pool.queue(f"ClusterId == {dag}"), timeout_s=120)
    check_end(site, dag)


def check_end(site: Site, dag: int) -> None:
    """After the end: counts as in the history, the error as in the delta."""
    found = status(site, 1)
    told = {state: number for state, number in found["jobs"].items() if number}
    assert told == {"SUCCEEDED": 5, "FAILED": 1, "PRUNED": 1}
    ads = site.pool.history(f"DAGManJobId == {dag} && QuantumExecTaskLabel =!= undefined")
    quanta = [ad for ad in ads if ad["JobUniverse"] == 5]
    assert sum(ad.get("ExitCode") == 0 for ad in quanta) == 5
    assert len(quanta) - found["retries"] == 6
    [group] = found["failures"]
    assert "does not converge" in group["error"]
    assert found["attempts_without_delta"] is not None
    words = ("logs", RUN, "--failed", "--datastore", site.datastore)
    shown = site.command("quantum-exec", *words).stdout
    assert "calibration of exposure 2 does not converge" in shown
