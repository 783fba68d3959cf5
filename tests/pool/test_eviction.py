# SPDX-License-Identifier: BSD-3-Clause
"""Jobs evicted, and jobs whose processes are killed, on a real pool: nothing wrong ever counts."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from registry import names
from registry.attempt import AttemptStatus
from tests.cluster_jobs import RUN, ClusterRun, Spec, quantum_id
from tests.fix_pool import Ad, PersonalPool
from tests.pool.submission import BIN, Site
from tests.s3_proxy import S3Proxy
from transfer_plugins.object_store import ObjectStore, open_store
from transfer_plugins.plugin_protocol import ENDPOINT_ATTRIBUTE

pytestmark = pytest.mark.pool

DONE, ABORTED, FAILED = AttemptStatus.SUCCESSFUL, AttemptStatus.ABORTED, AttemptStatus.FAILED

# Tells its process id, and waits for a file: in vain in its first attempt.
WAIT = "echo $$ > {0}.new; mv {0}.new {0}.pid; until [ -e {0}.go ]; do sleep .1; done"

_SUBMIT = """
universe = vanilla
executable = {program}
transfer_executable = false
arguments = run --log-level INFO
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
transfer_input_files = {url}
transfer_output_files = stage-out.json
transfer_output_remaps = "stage-out.json = {url}"
request_memory = 32
request_disk = 10MB
job_max_vacate_time = 15
max_retries = 2
My.{endpoint_attribute} = "{endpoint}"
queue
"""


@dataclass
class PoolJob:
    """A job of HTCondor's with one quantum, or with the cluster."""

    pool: PersonalPool
    run: ClusterRun
    htcondor_cluster: int

    @property
    def id(self) -> str:
        """As HTCondor's tools want it."""
        return f"{self.htcondor_cluster}.0"

    def evict(self) -> None:
        """``condor_vacate_job``: SIGTERM, time, SIGKILL; returns when the startd is at it."""
        before = self._n_deactivated()
        self.pool.tool("condor_vacate_job", self.id)
        self.pool.wait_until(lambda: self._n_deactivated() > before, timeout_s=60)

    def _n_deactivated(self) -> int:
        log = self.pool.directory / "log" / "StartLog"
        return log.read_text(errors="replace").count("Called deactivate_claim()")

    def lose(self) -> None:
        """SIGKILL of its starter: a lost machine, as far as one machine can show it."""
        for path in self.pool.directory.glob("execute/dir_*/.job.ad"):
            if f"\nClusterId = {self.htcondor_cluster}\n" in path.read_text():
                os.kill(int(path.parent.name.removeprefix("dir_")), signal.SIGKILL)
                return
        pytest.fail(self.pool.report())

    def end(self) -> Ad:
        """Wait until it has left the queue with success; returns its ad."""
        (ad,) = self.pool.wait_for_end(self.htcondor_cluster, timeout_s=90)
        assert ad["ExitCode"] == 0, (ad, self.pool.report())
        return ad


class Waiting:
    """A task that tells where it is, and waits for a file."""

    def __init__(self, directory: Path, label: str) -> None:
        self.path = directory / label

    @property
    def script(self) -> str:
        """What it runs."""
        return WAIT.format(self.path)

    def pid(self, pool: PersonalPool) -> int:
        """Wait until it runs; returns the id of its process."""
        found = self.path.with_suffix(".pid")
        pool.wait_until(found.exists, timeout_s=60, failure=pool.hold_reasons)
        return int(found.read_text())

    def go(self) -> None:
        """Let it, and every later one, end."""
        self.path.with_suffix(".go").touch()


@dataclass
class Slow:
    """Holds the first request of a kind back until it is told to pass it on.

    Calling it says whether it did; the request arrives all the same, perhaps much later.
    """

    text: str
    methods: str

    def __post_init__(self) -> None:
        self.holding, self.passing = threading.Event(), threading.Event()

    def __call__(self, method: str, key: str) -> bool:
        is_first = method in self.methods and self.text in key and not self.holding.is_set()
        if is_first:
            self.holding.set()
            self.passing.wait(120)
        return is_first


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[S3Proxy]:
    """What stands between plugin and S3."""
    with S3Proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(datastore: str) -> ObjectStore:
    """The datastore, as tests see it."""
    return open_store(datastore)


def submit(pool: PersonalPool, run: ClusterRun, key: str, endpoint: str) -> PoolJob:
    """Submit a job with one marker URL in each direction."""
    text = _SUBMIT.format(
        program=BIN / "quantum-exec",
        url=f"{run.store.uri.replace('s3:', 'qs3job:')}/{key}",
        endpoint_attribute=ENDPOINT_ATTRIBUTE,
        endpoint=endpoint,
    )
    return PoolJob(pool, run, pool.submit(text, run.sandbox))


def submit_quantum(pool: PersonalPool, run: ClusterRun, label: str, endpoint: str) -> PoolJob:
    """Submit a quantum alone."""
    return submit(pool, run, names.job_key(RUN, quantum_id(label)), endpoint)


def statuses(run: ClusterRun) -> dict[str, list[AttemptStatus]]:
    """What the attempts of each quantum ended as, oldest first."""
    found: dict[str, list[AttemptStatus]] = {}
    for delta in run.deltas():
        found.setdefault(delta.task_label, []).append(delta.status)
    return found


def test_evicted_jobs_commit_what_they_have(
    pool: PersonalPool,
    submit_directory: Path,
    store: ObjectStore,
    database: str,
    s3_settings: dict[str, str],
) -> None:
    """A quantum alone, and a cluster whose first quantum is finished; then the merge."""
    tasks = [Waiting(submit_directory, label) for label in ("alone", "second")]
    chain = [
        Spec("first", "raw", "a", not_kept="a"),
        Spec("second", "a", "b", tasks[1].script),
        Spec("third", "b", "c"),
    ]
    run = ClusterRun(store, submit_directory, [*chain, Spec("alone", "raw", "x", tasks[0].script)])
    run.publish()
    cluster = ClusterRun(store, submit_directory, chain)
    store.put(names.cluster_key(RUN, cluster.cluster.cluster_id), cluster.cluster_text)
    endpoint = s3_settings["AWS_ENDPOINT_URL"]
    key = names.cluster_key(RUN, cluster.cluster.cluster_id)
    jobs = [submit_quantum(pool, run, "alone", endpoint), submit(pool, run, key, endpoint)]
    for task, job in zip(tasks, jobs, strict=True):
        task.pid(pool)
        job.evict()
    pool.wait_until(lambda: len(run.deltas()) == 3, timeout_s=30)
    assert statuses(run) == {"first": [DONE], "second": [ABORTED], "alone": [ABORTED]}
    for task in tasks:
        task.go()
    assert [job.end()["NumJobStarts"] for job in jobs] == [2, 2]
    check_registry(Site(pool, submit_directory, database, store.uri, s3_settings))
    assert run.content("c") == b"raw\nfirst\nsecond\nthird\n"


def check_registry(site: Site) -> None:
    """After the merge: every quantum once, the first not run again, both aborted ones known."""
    site.prepare()
    config = ("--config", site.directory / "registry-merge.yaml")
    site.command("registry-merge", "merge", site.datastore, RUN, *config)
    found = site.psql("SELECT status, count(*) FROM attempt GROUP BY 1 ORDER BY 1")
    assert found == [["aborted", "2"], ["successful", "4"]]
    quanta = site.psql("SELECT status, count(*) FROM quantum GROUP BY 1")
    assert quanta == [["successful", "4"]]
    site.verify(RUN)


def kill_starter(task: int) -> None:
    """A lost machine."""
    starter = next(p for p in psutil.Process(task).parents() if p.name() == "condor_starter")
    os.kill(starter.pid, signal.SIGKILL)


def kill_wrapper(task: int) -> None:
    """The wrapper is the parent of the task."""
    os.kill(psutil.Process(task).ppid(), signal.SIGKILL)


def kill_task(task: int) -> None:
    """The wrapper lives, and tells of it."""
    os.kill(task, signal.SIGKILL)


KILLS: dict[str, tuple[Callable[[int], None], list[AttemptStatus]]] = {
    "starter": (kill_starter, [DONE]),
    "wrapper": (kill_wrapper, [DONE]),
    "task": (kill_task, [FAILED, DONE]),
}


def test_killed_processes_leave_nothing_wrong(
    pool: PersonalPool, submit_directory: Path, store: ObjectStore, s3_settings: dict[str, str]
) -> None:
    """SIGKILL of starter, wrapper and task; each job runs again and ends well."""
    tasks = {label: Waiting(submit_directory, label) for label in KILLS}
    specs = [Spec(label, "raw", f"of_{label}", task.script) for label, task in tasks.items()]
    run = ClusterRun(store, submit_directory, specs).publish()
    endpoint = s3_settings["AWS_ENDPOINT_URL"]
    jobs = [submit_quantum(pool, run, label, endpoint) for label in KILLS]
    for label, task in tasks.items():
        KILLS[label][0](task.pid(pool))
        task.go()
    for job in jobs:
        job.end()
    assert statuses(run) == {label: found for label, (_, found) in KILLS.items()}
    assert run.datasets() == {f"of_{label}" for label in KILLS}


# What each job has behind it at its end. To be evicted is never a hold on 23.9, so nobody has to
# release it; it begins again at once. One that is evicted during stage-in has not started. During
# stage-out the plugin may go on for the vacate time, and the job runs again although it was done.
TRANSFERS: dict[str, dict[str, int | None]] = {
    "arriving": {"NumJobStarts": 1, "NumShadowStarts": 2, "NumHolds": None},
    "leaving": {"NumJobStarts": 2, "NumShadowStarts": 2, "NumHolds": None},
    "late": {"NumHolds": None},
}


def test_jobs_stopped_during_transfers_lose_nothing(
    pool: PersonalPool, submit_directory: Path, store: ObjectStore, proxy: S3Proxy
) -> None:
    """Evicted during stage-in and during stage-out, and lost when its delta is under way."""
    inputs = {"arriving": "raw"}
    specs = [Spec(label, inputs.get(label, ""), f"of_{label}") for label in TRANSFERS]
    run = ClusterRun(store, submit_directory, specs).publish()
    slow = {
        "arriving": Slow("raw.txt", "GET HEAD"),
        "leaving": Slow("/of_leaving/", "PUT"),
        "late": Slow(f"deltas/{quantum_id('late')}", "PUT"),
    }
    proxy.rule = lambda method, key: next((None for s in slow.values() if s(method, key)), None)
    jobs = {label: submit_quantum(pool, run, label, proxy.endpoint) for label in TRANSFERS}
    for label, rule in slow.items():
        assert rule.holding.wait(90), (label, pool.report())
    jobs["late"].lose()
    for label in ("arriving", "leaving"):
        jobs[label].evict()
    slow["leaving"].passing.set()
    ads = {label: job.end() for label, job in jobs.items()}
    found = {label: {n: ads[label].get(n) for n in facts} for label, facts in TRANSFERS.items()}
    assert found == TRANSFERS
    check_late(pool, run, slow)


def check_late(pool: PersonalPool, run: ClusterRun, slow: dict[str, Slow]) -> None:
    """What was under way arrives after the newer attempt, and changes nothing."""
    newer = run.counting("late")
    assert statuses(run) == {label: [DONE] for label in TRANSFERS}
    for rule in slow.values():
        rule.passing.set()
    pool.wait_until(lambda: len(run.deltas()) == 4, timeout_s=30)
    assert statuses(run)["late"] == [DONE, DONE]
    assert run.counting("late") == newer
    assert run.content("of_arriving") == b"raw\narriving\n"
    assert run.datasets() == {f"of_{label}" for label in TRANSFERS}
