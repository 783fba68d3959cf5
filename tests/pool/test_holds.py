# SPDX-License-Identifier: BSD-3-Clause
"""Jobs that cannot be brought to an end: each ends as its policy says, and no DAG hangs."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executor.graph.graph_file import read_graph
from executor.submit.configuration import SubmitConfiguration
from tests.fix_pool import Ad, PersonalPool
from tests.pool.faulty_plugin import (
    FaultyBucket,
    lonely_job,
    write_faulty_plugin,
    write_other_plugin,
)
from tests.pool.memory_tasks import WRITES, write_graph
from tests.pool.submission import BIN, Site, need
from tests.s3_proxy import S3Proxy

pytestmark = pytest.mark.pool

RUN = "u/operator/holds"
CURED = ("once", "hang", "unanswered")
REFUSED = ("keyless", "unread", "unwritten")
GIVEN_UP = ("always", "silent", "killed")
QUICK = {"holdRetries": 1, "holdRetryDelay": 1, "holdTimeout": 3, "maxStarts": 2}
POLICY = SubmitConfiguration(hold_retries=1, hold_retry_delay=1, hold_timeout=3, max_starts=2)

# The init job is told of a format that no worker reads yet.
_OLD_WRAPPER = """#!/bin/sh
[ "$1" = init ] && exec {wrapper} init "$2" --formats job=99
exec {wrapper} "$@"
"""


@pytest.fixture
def bucket() -> FaultyBucket:
    """What the S3 service does to requests of some quanta."""
    return FaultyBucket()


@pytest.fixture
def site(
    condor: None,
    bucket: FaultyBucket,
    pool_directory: Path,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Iterator[Site]:
    """A pool with faulty plugins, whose bucket is behind a proxy; a transfer may take 8 s."""
    need("psql")
    plugins = [pool_directory / "quantum_exec_plugin", pool_directory / "other_plugin"]
    (pool_directory / "faults").mkdir()
    write_faulty_plugin(plugins[0], pool_directory / "faults")
    write_other_plugin(plugins[1])
    config = ["MAX_FILE_TRANSFER_PLUGIN_LIFETIME = 14", "MachineMaxVacateTime = 1"]
    with (
        S3Proxy(s3_settings["AWS_ENDPOINT_URL"], bucket) as proxy,
        PersonalPool(
            pool_directory, plugins=plugins, config=config, environment=s3_settings
        ) as pool,
    ):
        found = Site(pool, submit_directory, database, datastore, s3_settings)
        found.prepare(**QUICK, s3EndpointUrl=proxy.endpoint, transferDeadline=8)
        yield found


def jobs_by_label(site: Site, cluster: object) -> dict[str, Ad]:
    """The last job of each label of a DAG, from HTCondor's history."""
    jobs = site.pool.history(f"DAGManJobId == {cluster} && JobUniverse == 5")
    return {job["bps_job_label"]: job for job in reversed(jobs)}


def event_log(report: Mapping[str, object]) -> str:
    """What DAGMan's log tells of all jobs of a DAG."""
    return Path(str(report["directory"]), "run.dag.nodes.log").read_text()


def test_each_fault_ends_as_its_policy_says(site: Site, bucket: FaultyBucket) -> None:
    """What happens once is cured by a release; the others are removed, and each DAG ends."""
    tasks = dict.fromkeys((*CURED, *REFUSED, *GIVEN_UP), WRITES)
    path = write_graph(site.directory / "graph.yaml", RUN, tasks)
    for quantum in read_graph(path).quanta:
        (site.pool.directory / "faults" / quantum.quantum_id).write_text(quantum.task_label)
        bucket.quanta[quantum.task_label] = quantum.quantum_id
    lonely = submit_lonely(site)
    with ThreadPoolExecutor() as threads:
        old_worker = threads.submit(submit_to_an_old_worker, site)
        report = site.submit(path, codes=(1,))
        check_init(site, old_worker.result())
    check_jobs(jobs_by_label(site, report["cluster"]), event_log(report))
    check_outcome(site, report)
    check_lonely(site, lonely)


def check_jobs(jobs: Mapping[str, Ad], log: str) -> None:
    """How each job ended (4 completed, 3 removed), after how many holds, and why."""
    assert {label: job["JobStatus"] for label, job in jobs.items()} == {
        **dict.fromkeys(("init", *CURED), 4),
        **dict.fromkeys((*REFUSED, *GIVEN_UP), 3),
    }
    holds = {label: job["NumHolds"] for label, job in jobs.items() if label != "init"}
    # Whoever was refused waits for a person, and is never released.
    assert holds == {**dict.fromkeys(holds, 1), "always": 2}
    for code in ("Code 13 Subcode 256", "Code 13 Subcode 62", "Code 3 Subcode 61"):
        assert code in log
    assert "Unable to locate credentials" in log
    for label in ("unread", "unwritten"):
        assert "AccessDenied" in jobs[label]["RemoveReason"]
    assert "out of time after 8 s" in log


def check_outcome(site: Site, report: Mapping[str, object]) -> None:
    """The registry has what succeeded; ``status`` tells causes; each submit line was used."""
    found = site.psql("SELECT dataset_type FROM dataset ORDER BY 1")
    assert found == [[f"{label}_out"] for label in sorted(CURED)]
    site.verify(RUN)
    words = ("--config", site.directory / "submit.yaml", "--json")
    status = json.loads(site.command("quantum-exec", "status", RUN, *words, codes=(1,)).stdout)
    counts = {hold["cause"]: hold["holds"] for hold in status["holds"]}
    assert (counts["missing credential"], counts["too many starts"]) == (3, 2)
    told = Path(str(report["directory"]), "run.dag.dagman.out").read_text()
    assert "was unused by" not in told
    assert "DAGMAN_MAX_SUBMITS_PER_INTERVAL setting: 100" in told


def submit_to_an_old_worker(site: Site) -> dict[str, object]:
    """Submit to workers of a release that does not fit that of the access point."""
    directory = site.directory / "old"
    directory.mkdir()
    wrapper = directory / "quantum-exec"
    wrapper.write_text(_OLD_WRAPPER.format(wrapper=BIN / "quantum-exec"))
    wrapper.chmod(0o755)
    other = dataclasses.replace(site, directory=directory)
    other.prepare(**QUICK, workerExecutable=str(wrapper))
    return other.submit(
        write_graph(directory / "graph.yaml", f"{RUN}-old", {"one": WRITES}), codes=(1,)
    )


def check_init(site: Site, report: Mapping[str, object]) -> None:
    """No quantum was submitted, nothing was tried again, and the command says why."""
    assert "job: expected a worker that reads format 99" in str(report["init_error"])
    jobs = site.pool.history(f"DAGManJobId == {report['cluster']} && JobUniverse == 5")
    assert [(job["bps_job_label"], job["ExitCode"]) for job in jobs] == [("init", 21)]


def submit_lonely(site: Site) -> dict[str, int]:
    """Jobs that bring a plugin, or need one of the pool, that cannot be executed any more."""
    (site.pool.directory / "other_plugin").chmod(0o600)
    forbidden, no_interpreter = site.directory / "forbidden", site.directory / "no_interpreter"
    forbidden.write_text("#!/bin/sh\n")
    forbidden.chmod(0o600)
    no_interpreter.write_text("#!/no/such/interpreter\n")
    no_interpreter.chmod(0o755)
    lines = {
        "forbidden": ("transfer_plugins = own=forbidden", "transfer_input_files = own://b/k"),
        "no_interpreter": (
            "transfer_plugins = own=no_interpreter",
            "transfer_input_files = own://b/k",
        ),
        "of_the_pool": ("transfer_input_files = spoilt://b/k",),
    }
    return {
        name: site.pool.submit(lonely_job(found, POLICY), site.directory)
        for name, found in lines.items()
    }


def check_lonely(site: Site, clusters: Mapping[str, int]) -> None:
    """Sent out three times and held with our own code; that of the pool is held by HTCondor."""
    every = " || ".join(f"ClusterId == {cluster}" for cluster in clusters.values())
    site.pool.wait_until(lambda: not site.pool.queue(every), timeout_s=60)
    jobs = {job["ClusterId"]: job for job in site.pool.history(every)}
    for name in ("forbidden", "no_interpreter"):
        job = jobs[clusters[name]]
        # NumHolds is more: HTCondor counts a hold again while the shadow still ends.
        assert (job["JobStatus"], job["NumJobStarts"]) == (3, 0)
        assert job["NumShadowStarts"] == 3
        assert "3 times and never started" in job["RemoveReason"]
    job = jobs[clusters["of_the_pool"]]
    assert (job["JobStatus"], job["NumShadowStarts"]) == (3, 2)
    assert "plugin for type spoilt not found" in job["RemoveReason"]
