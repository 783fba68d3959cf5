# SPDX-License-Identifier: BSD-3-Clause
"""Jobs that cannot be brought to an end: each ends as its policy says, and no DAG hangs."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.graph.graph_file import read_graph
from tests.fix_pool import Ad, PersonalPool
from tests.pool.memory_tasks import WRITES, write_graph
from tests.pool.submission import BIN, Site, need

pytestmark = pytest.mark.pool

# Stands before the real plugin and does what a file named after the quantum says.
_FAULTY_PLUGIN = """#!/bin/sh
[ "$1" = -classad ] && exec {plugin} -classad
url=$(sed -n 's/.*Url *= *"\\([^"]*\\)".*/\\1/p' "$2" | head -n 1)
fault={faults}/$(basename "$url" .json)
case "$(cat "$fault" 2> /dev/null) $*" in
once*) rm "$fault"; exit 1 ;;
always*) exit 1 ;;
hang*) exec sleep 1000 ;;
silent*-upload*) exit 0 ;;
killed*-upload*) kill -KILL $$ ;;
denied*)
    unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    AWS_EC2_METADATA_DISABLED=true exec {plugin} "$@" ;;
esac
exec {plugin} "$@"
"""
FAULTS = ("once", "always", "hang", "silent", "killed", "denied")
QUICK = {"holdRetries": 1, "holdRetryDelay": 1, "holdTimeout": 3, "maxStarts": 2}


@pytest.fixture
def faulty_plugin(tmp_path: Path) -> Path:
    """The real plugin behind a script that can be told to fail."""
    (tmp_path / "faults").mkdir()
    path = tmp_path / "quantum_exec_plugin"
    plugin = BIN / "quantum_exec_plugin"
    path.write_text(_FAULTY_PLUGIN.format(plugin=plugin, faults=tmp_path / "faults"))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def site(
    condor: None,
    faulty_plugin: Path,
    pool_directory: Path,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Iterator[Site]:
    """An access point whose pool has that plugin, and ends one that hangs after 12 s."""
    need("psql")
    config = ["MAX_FILE_TRANSFER_PLUGIN_LIFETIME = 12", "MachineMaxVacateTime = 1"]
    with PersonalPool(
        pool_directory, plugins=[faulty_plugin], config=config, environment=s3_settings
    ) as pool:
        found = Site(pool, submit_directory, database, datastore, s3_settings)
        found.prepare(**QUICK)
        yield found


def jobs_by_label(site: Site, cluster: object) -> dict[str, Ad]:
    """The last job of each label of a DAG, from HTCondor's history."""
    jobs = site.pool.history(f"DAGManJobId == {cluster} && JobUniverse == 5")
    return {job["bps_job_label"]: job for job in reversed(jobs)}


def event_log(report: dict[str, object]) -> str:
    """What DAGMan's log tells of all jobs of a DAG."""
    return Path(str(report["directory"]), "run.dag.nodes.log").read_text()


def test_each_fault_ends_as_its_policy_says(site: Site, faulty_plugin: Path) -> None:
    """Failing once is cured by a release; the others are removed, and the DAG ends."""
    run = "u/operator/holds"
    path = write_graph(site.directory / "graph.yaml", run, dict.fromkeys(FAULTS, WRITES))
    for quantum in read_graph(path).quanta:
        (faulty_plugin.parent / "faults" / quantum.quantum_id).write_text(quantum.task_label)
    report = site.submit(path, codes=(1,))
    jobs, log = jobs_by_label(site, report["cluster"]), event_log(report)
    assert {label: job["JobStatus"] for label, job in jobs.items()} == {
        "init": 4,
        "once": 4,
        **dict.fromkeys(FAULTS[1:], 3),
    }
    assert jobs["once"]["NumHolds"] == 1
    # Released once in vain; that without credentials waits for a person, never released.
    assert [jobs[f]["NumHolds"] for f in ("always", "hang", "denied")] == [2, 2, 1]
    for code in ("Code 13 Subcode 256", "Code 13 Subcode 62", "Code 3 Subcode 61"):
        assert code in log
    assert "Unable to locate credentials" in log
    assert site.psql("SELECT dataset_type FROM dataset") == [["once_out"]]
    site.verify(run)
    check_lines(report)


def check_lines(report: dict[str, object]) -> None:
    """HTCondor used each line of every submit description."""
    told = Path(str(report["directory"]), "run.dag.dagman.out").read_text()
    assert "was unused by" not in told
    assert "DAGMAN_MAX_SUBMITS_PER_INTERVAL setting: 100" in told


def test_plugin_that_cannot_be_executed_ends_the_dag_at_the_init_job(
    site: Site, faulty_plugin: Path
) -> None:
    """No quantum is submitted: the init job fails, and the DAG ends with it."""
    faulty_plugin.chmod(0o600)
    path = write_graph(site.directory / "graph.yaml", "u/operator/noexec", {"one": WRITES})
    report = site.submit(path, codes=(1,))
    assert list(jobs_by_label(site, report["cluster"])) == ["init"]
