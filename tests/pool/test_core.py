# SPDX-License-Identifier: BSD-3-Clause
"""The core: three dependent tasks on a real pool, looked at with software that is not ours."""

import getpass
import gzip
import json
from pathlib import Path

import pytest

from tests.fix_pool import Ad, PersonalPool
from tests.pool.submission import Site, need
from tests.pool.three_tasks import EXPOSURES, write_three_tasks
from transfer_plugins.object_store import open_store

pytestmark = pytest.mark.pool

RUN = "u/operator/three-tasks"
CHAIN = "u/operator/all"
N_QUANTA = 2 * len(EXPOSURES) + 1
N_OUTPUTS = 3 * len(EXPOSURES) + 1


@pytest.fixture
def site(
    pool: PersonalPool,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Site:
    """An access point, ready to submit."""
    need("psql")
    need("s3cmd")
    found = Site(pool, submit_directory, database, datastore, s3_settings)
    found.prepare()
    return found


def jobs_of_dag(pool: PersonalPool, cluster: object) -> list[Ad]:
    """The jobs of a DAG's quanta, from HTCondor's history."""
    return pool.history(f"DAGManJobId == {cluster} && QuantumExecQuantumId =!= undefined")


def test_three_tasks_on_the_pool(site: Site) -> None:
    """What each point of the core asks, after one submission: transfers, rows, sums, secrets."""
    site.prepare(
        **{"project": "survey", "payload": {"payloadName": "three", "output": CHAIN}},
        **{"initTasks": ["detect"], "pipetask": {"detect": {"maxJobs": 2}}},
        attributes={"+Night": "20261122"},
    )
    graph = write_three_tasks(site.directory / "graph.yaml", open_store(site.datastore), RUN)
    cluster = submit_twice(site, graph)
    site.pool.wait_for_end(cluster, timeout_s=240)
    jobs = jobs_of_dag(site.pool, cluster)
    assert len(jobs) == N_QUANTA
    for job in jobs:
        check_transfers(site.pool, job)
    check_attributes(site, cluster, jobs)
    check_order(jobs)
    chains = site.psql("SELECT chain, child FROM collection_chain")
    assert chains == [[CHAIN, RUN]]
    check_datasets(site)
    check_dimension_records(site)
    check_surroundings(site)
    check_submit_files(site)
    site.verify(RUN)


def submit_twice(site: Site, graph: Path) -> int:
    """Two submissions lead to one DAG; the second says which cluster is there."""
    where = ("--datastore", site.datastore, "--config", site.directory / "submit.yaml")
    first = json.loads(site.command("quantum-exec", "submit", graph, *where, "--json").stdout)
    refused = site.command("quantum-exec", "submit", graph, *where, codes=(33,))
    assert f"found cluster {first['cluster']}" in refused.stderr
    return int(first["cluster"])


def check_transfers(pool: PersonalPool, job: Ad) -> None:
    """HTCondor's own records: our plugin moved everything, HTCondor's transfer nothing."""
    quantum_id = job["QuantumExecQuantumId"]
    for kind, results, least_files in (
        ("INPUT", "InputPluginResultList", 2),
        ("OUTPUT", "OutputPluginResultList", 3),
    ):
        [record] = pool.epochs(kind, job["ClusterId"])
        [result] = record[results]
        assert result["TransferProtocol"] == "qs3job"
        assert result["TransferUrl"].startswith("qs3job://")
        assert result["TransferUrl"].endswith(f"{quantum_id}.json")
        assert result["TransferSuccess"] is True
        assert result["TransferTotalBytes"] > 0
        assert result["DeveloperData"]["FilesCount"] >= least_files
    for statistics in (job["TransferInputStats"], job["TransferOutputStats"]):
        assert not [name for name in statistics if name.upper().startswith("CEDAR")]


def check_attributes(site: Site, cluster: object, jobs: list[Ad]) -> None:
    """What ``condor_q``, ``bps report`` and a site's accounting find on jobs and on their DAG."""
    of_run = {
        "QuantumExecRun": RUN,
        "QuantumExecDatastore": site.datastore,
        **{"bps_isjob": "True", "bps_run": RUN, "bps_project": "survey", "bps_payload": "three"},
        "bps_operator": getpass.getuser(),
    }
    [dag] = site.pool.history(f"ClusterId == {cluster}")
    [init] = site.pool.history(f'DAGManJobId == {cluster} && bps_job_label == "init"')
    [merge] = site.pool.history(f'DAGManJobId == {cluster} && bps_job_label == "merge"')
    for ad in (dag, init, merge, *jobs):
        assert {name: ad.get(name) for name in of_run} == of_run
    n = len(EXPOSURES)
    counts = {f"detect:{n}", f"calibrate:{n}", "coadd:1"}
    assert set(dag["bps_run_quanta"].split(";")) == counts
    for name in ("bps_run_summary", "bps_job_summary"):
        assert set(dag[name].split(";")) == {*counts, "init:1", "merge:1"}
    for job in jobs:
        label, quantum_id = job["QuantumExecTaskLabel"], job["QuantumExecQuantumId"]
        assert (job["bps_job_label"], job["bps_job_quanta"]) == (label, f"{label}:1")
        assert job["bps_job_name"] == job["DAGNodeName"] == f"{label}_{quantum_id}"
        assert (job["Night"], job["QuantumExecRetry"]) == ("20261122", 0)


def check_order(jobs: list[Ad]) -> None:
    """``initTasks``: all others wait for all of them; ``maxJobs``: two of a label at once."""
    detected = [job for job in jobs if job["bps_job_label"] == "detect"]
    ends = sorted(job["CompletionDate"] for job in detected)
    others = [job["QDate"] for job in jobs if job not in detected]
    assert min(others) >= ends[-1]
    assert max(job["QDate"] for job in detected) >= ends[0]


def check_datasets(site: Site) -> None:
    """psql counts each predicted output once, with the sum of the object in S3."""
    rows = site.psql(
        "SELECT d.dataset_id, r.object_key, r.checksum FROM dataset d"
        f" JOIN datastore_record r USING (dataset_id) WHERE d.run = '{RUN}'"
    )
    assert len(rows) == N_OUTPUTS
    assert len({dataset_id for dataset_id, _, _ in rows}) == N_OUTPUTS
    for _, key, checksum in rows:
        assert checksum == f"sha256:{site.sha256(key)}"
    statuses = site.psql(f"SELECT status, count(*) FROM quantum WHERE run = '{RUN}' GROUP BY 1")
    assert statuses == [["successful", str(N_QUANTA)]]


def check_dimension_records(site: Site) -> None:
    """What tasks inserted with plain sqlite3 is in PostgreSQL, and what was seeded as well."""
    found = site.psql(
        "SELECT data_id ->> 'exposure', record ->> 'zero_point' FROM dimension_record"
        " WHERE dimension = 'calibration' ORDER BY 1"
    )
    assert found == [[str(e), str(27.0 + e)] for e in EXPOSURES]
    seeded = site.psql("SELECT count(*) FROM dimension_record WHERE dimension = 'exposure'")
    assert seeded == [[str(len(EXPOSURES))]]


def check_surroundings(site: Site) -> None:
    """No process from the task up to the starter has a database, or S3 in the task's case."""
    socket_directory = site.database.partition("host=")[2]
    store = open_store(site.datastore)
    keys = [o.key for o in store.list_objects(f"{RUN}/surroundings/")]
    assert len(keys) == len(EXPOSURES)
    for key in keys:
        processes = json.loads(store.get(key))
        assert "condor_starter" in {process["name"] for process in processes}
        for process in processes:
            text = json.dumps(process)
            assert socket_directory not in text
            assert "postgresql:" not in text
            variables = [word.partition("=")[0] for word in process["environ"]]
            assert not [v for v in variables if v.startswith(("PG", "REGISTRY_MERGE"))]
        assert not [word for word in processes[0]["environ"] if word.startswith("AWS_")]


def check_submit_files(site: Site) -> None:
    """No secret in any file of the DAG nor in a job ad, and HTCondor understood every line."""
    files = [path for path in (site.directory / "submit").rglob("*") if path.is_file()]
    texts = [path.read_text(errors="replace") for path in files]
    texts.append(json.dumps(site.pool.history()))
    secret = site.s3_settings["AWS_SECRET_ACCESS_KEY"]
    assert secret == "secret-of-the-tests"
    assert not [text for text in texts if secret in text]
    assert not [text for text in texts if "was unused by" in text]


def test_failing_branch_is_mended_and_rerun(site: Site) -> None:
    """A branch stops, the rest ends, the failure is told; mended, rerun and resubmitted, all is."""
    store = open_store(site.datastore)
    graph = site.directory / "graph.yaml"
    site.submit(write_three_tasks(graph, store, RUN, failing="2"), codes=(1,))
    [[quantum_id, error, log_key]] = site.psql(
        "SELECT q.quantum_id, replace(replace(a.error, E'\\n', ' '), ',', ' '), a.log_key"
        " FROM quantum q JOIN attempt a USING (attempt_id) WHERE q.status = 'failed'"
    )
    assert "calibration of exposure 2 does not converge" in error
    assert b"exposure 2 does not converge" in gzip.decompress(store.get(log_key))
    counted = site.psql(f"SELECT count(*) FROM dataset WHERE run = '{RUN}'")
    assert counted == [[str(N_OUTPUTS - 2)]]
    write_three_tasks(graph, store, RUN)
    where = ("--datastore", site.datastore, "--config", site.directory / "submit.yaml")
    rerun = ("quantum-exec", "rerun", RUN, "--quantum", quantum_id, "--graph", graph)
    site.command(*rerun, *where, "--pool", "--wait")
    report = site.submit(graph)
    assert report["n_done_before"] == N_QUANTA - 1
    check_datasets(site)
    attempts = site.psql(f"SELECT status FROM attempt WHERE quantum_id = '{quantum_id}' ORDER BY 1")
    assert attempts == [["failed"], ["successful"]]
    site.verify(RUN)
