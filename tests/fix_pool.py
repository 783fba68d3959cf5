# SPDX-License-Identifier: BSD-3-Clause
"""A personal HTCondor pool: real daemons of one unprivileged user, on this machine only."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import pytest

Ad = dict[str, Any]
T = TypeVar("T")

# Where HTCondor keeps its own programs differs between Debian, RPM and conda packages.
_INSTALLATION = ("BIN", "SBIN", "LIB", "LIBEXEC")

_CONFIG = """\
use role:CentralManager
use role:Submit
use role:Execute

LOCAL_DIR = {directory}
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run

CONDOR_HOST = 127.0.0.1
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
USE_SHARED_PORT = True

ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
ALLOW_ADMINISTRATOR = *
UID_DOMAIN = pool.test
# Access point and execution point of different domains: no job counts on a shared file system.
FILESYSTEM_DOMAIN = ap.pool.test
STARTD.FILESYSTEM_DOMAIN = ep.pool.test
STARTER.FILESYSTEM_DOMAIN = ep.pool.test
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_CLIENT_AUTHENTICATION_METHODS = FS
# Newer Python bindings refuse FS with daemons older than 24.0.22, 25.0.12 and 25.11.1 otherwise.
SEC_FS_ENFORCE_CHANNEL_BINDING = False

# More than the real ones: the jobs of the tests mostly wait.
NUM_CPUS = 8
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = cpus=100%
SLOT_TYPE_1_PARTITIONABLE = True
RUNBENCHMARKS = 0

# Every interval as short as it goes.
SCHEDD_INTERVAL = 1
# With its default of 5 every third job waits 6 s for a match, otherwise 2.
SCHEDD_MIN_INTERVAL = 0
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
UPDATE_INTERVAL = 2
POLLING_INTERVAL = 2
STARTER_UPDATE_INTERVAL = 3
STARTER_INITIAL_UPDATE_INTERVAL = 2
PERIODIC_EXPR_INTERVAL = 2
MAX_PERIODIC_EXPR_INTERVAL = 2
PERIODIC_EXPR_TIMESLICE = 0.5
DAGMAN_USER_LOG_SCAN_INTERVAL = 1
MachineMaxVacateTime = 15

JOB_EPOCH_HISTORY = $(SPOOL)/epoch_history
MAX_FILE_TRANSFER_PLUGIN_LIFETIME = 120
"""


class PoolError(AssertionError):
    """The pool did not come to an expected state; the message tells what it was doing."""


class PersonalPool:
    """An HTCondor pool of one machine and one user, with every file below one directory.

    Parameters
    ----------
    directory
        Existing directory, best with a short path: where HTCondor cannot use abstract sockets, they
        lie below it, and the path of a socket ends at 107 bytes.
    plugins
        File transfer plugins of the pool, beside those that HTCondor brings.
    config
        Lines that come after the configuration above.
    environment
        What the daemons, and so the plugins, see beside PATH, HOME and LANG. Nothing is inherited
        from this process.
    """

    def __init__(
        self,
        directory: Path,
        *,
        plugins: Sequence[Path] = (),
        config: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.plugins = list(plugins)
        self.config = list(config)
        self.daemon_environment = dict(environment or {})
        self._master: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What a client of the pool needs in its environment."""
        return {"CONDOR_CONFIG": str(self.directory / "condor_config")}

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemons; return when there is a slot and a schedd."""
        for name in ("log", "spool", "execute", "lock", "run"):
            (self.directory / name).mkdir(exist_ok=True)
        (self.directory / "condor_config").write_text(self._config_text())
        with open(self.directory / "log" / "master.out", "wb") as output:
            self._master = subprocess.Popen(
                ["condor_master", "-f"],
                env=self._clean_environment() | self.daemon_environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.wait_until(self._is_ready, timeout_s=60, failure=self._master_failure)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> list[str]:
        """End the daemons and their jobs.

        Returns
        -------
        killed
            The processes that did not end by themselves; empty when all went well.
        """
        if self._master is None:
            return []
        if self._master.poll() is None:
            self.tool("condor_off", "-fast", "-master", check=False)
        try:
            self._master.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._master.kill()
            self._master.wait()
        self._master = None
        _, left = psutil.wait_procs(self.processes(), timeout=5)
        killed = [f"{process.pid} {process.name()}" for process in left if process.is_running()]
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=5)
        return killed

    def kill(self) -> None:
        """End every process of the pool at once, jobs and DAGMan with it, as a power cut does."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.stop()

    def processes(self) -> list[psutil.Process]:
        """Every process of the pool: daemons, plugins, jobs, clients, and what they started.

        Process groups would not find them all: each job has its own, and may leave it.
        """
        mark = f"{self.directory}/"
        found = []
        for process in psutil.process_iter():
            try:
                if any(mark in value for value in process.environ().values()):
                    found.append(process)
            except psutil.Error:  # ended meanwhile, or of another user
                continue
        return found

    def _config_text(self) -> str:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", self._port))
            self._port = probe.getsockname()[1]
        lines = [f"{name} = {_site_value(name)}" for name in _INSTALLATION]
        lines.append(_CONFIG.format(directory=self.directory, port=self._port))
        if self.plugins:
            plugins = ", ".join(map(str, self.plugins))
            lines.append(f"FILETRANSFER_PLUGINS = $(FILETRANSFER_PLUGINS), {plugins}")
        return "\n".join([*lines, *self.config, ""])

    def _clean_environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return inherited | {"LANG": "C.UTF-8"} | self.environment

    def _is_ready(self) -> bool:
        queries = (["condor_status"], ["condor_status", "-schedd"])
        return all(
            self.tool(*query, "-af", "Name", check=False).stdout.strip() for query in queries
        )

    def _master_failure(self) -> str | None:
        assert self._master is not None
        code = self._master.poll()
        return None if code is None else f"condor_master ended with exit code {code}"

    # --- clients ------------------------------------------------------------------------------

    def tool(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 60,
        cwd: Path | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as client of the pool."""
        done = subprocess.run(
            argv,
            env=self._clean_environment(),
            cwd=cwd or self.directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            raise PoolError(
                f"{' '.join(argv)} ended with exit code {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def submit(self, description: str, directory: Path) -> int:
        """Submit the jobs of a submit description; paths in it are relative to the directory."""
        done = self.tool("condor_submit", "-terse", "-", cwd=directory, stdin=description)
        return int(done.stdout.split(".")[0])

    def queue(self, constraint: str = "true") -> list[Ad]:
        """Jobs that have not left the queue."""
        return self._ads("condor_q", "-allusers", "-constraint", constraint)

    def history(self, constraint: str = "true") -> list[Ad]:
        """Jobs that have left the queue."""
        return self._ads("condor_history", "-constraint", constraint)

    def epochs(self, kind: str = "EPOCH", cluster: int | None = None) -> list[Ad]:
        """Records of the epoch history, oldest first.

        Parameters
        ----------
        kind
            ``EPOCH``: one for each attempt at running a job. ``INPUT`` and ``OUTPUT``: one for each
            transfer, with the result ads of the plugin in ``InputPluginResultList`` and
            ``OutputPluginResultList``.
        cluster
            Only records of this cluster.
        """
        path = self.directory / "spool" / "epoch_history"
        records = parse_epochs(path.read_text()) if path.exists() else []
        return [
            ad for ad in records if ad["EpochAdType"] == kind and cluster in (None, ad["ClusterId"])
        ]

    def _ads(self, *argv: str) -> list[Ad]:
        text = self.tool(*argv, "-json").stdout
        ads: list[Ad] = json.loads(text) if text.strip() else []
        return ads

    # --- waiting ------------------------------------------------------------------------------

    def wait_until(
        self,
        condition: Callable[[], T],
        *,
        timeout_s: float,
        failure: Callable[[], str | None] | None = None,
    ) -> T:
        """Ask until the condition is true, and return what it said.

        Raises
        ------
        PoolError
            If time is up, or as soon as ``failure`` returns a message.
        """
        deadline = time.monotonic() + timeout_s
        while not (answer := condition()):
            if failure is not None and (message := failure()):
                raise PoolError(f"{message}\n{self.report()}")
            if time.monotonic() > deadline:
                raise PoolError(f"not true after {timeout_s:g} s\n{self.report()}")
            time.sleep(0.2)
        return answer

    def wait_for_end(self, cluster: int, *, timeout_s: float = 60) -> list[Ad]:
        """Wait until every job of a cluster has left the queue; a held job is a failure."""
        constraint = f"ClusterId == {cluster}"
        self.wait_until(
            lambda: not self.queue(constraint),
            timeout_s=timeout_s,
            failure=lambda: self.hold_reasons(constraint),
        )
        return self.wait_until(lambda: self.history(constraint), timeout_s=10)

    def wait_for_hold(self, cluster: int, *, timeout_s: float = 60) -> Ad:
        """Wait until a job of a cluster is held; a job that ends is a failure."""
        constraint = f"ClusterId == {cluster}"
        held = self.wait_until(
            lambda: self.queue(f"{constraint} && JobStatus == 5"),
            timeout_s=timeout_s,
            failure=lambda: "the job ended" if self.history(constraint) else None,
        )
        return held[0]

    def hold_reasons(self, constraint: str = "true") -> str | None:
        """Why jobs are held, or None."""
        reasons = [
            f"job {ad['ClusterId']}.{ad['ProcId']} is held with code "
            f"{ad.get('HoldReasonCode')}/{ad.get('HoldReasonSubCode')}: {ad.get('HoldReason')}"
            for ad in self.queue(f"({constraint}) && JobStatus == 5")
        ]
        return "\n".join(reasons) or None

    def report(self) -> str:
        """Queue, hold reasons and ends of the logs: what a person needs to find the cause."""
        queue = self.tool("condor_q", "-allusers", "-nobatch", check=False)
        held = self.tool("condor_q", "-allusers", "-hold", check=False)
        parts = [queue.stdout + queue.stderr, held.stdout + held.stderr]
        for path in sorted((self.directory / "log").iterdir()):
            if re.match(r"(Master|Sched|Shadow|Start|Starter)Log|master\.out", path.name):
                parts.append("\n".join([f"--- {path.name}", *_tail(path)]))
        return "\n".join(parts)


def _tail(path: Path) -> list[str]:
    lines = path.read_text(errors="replace").splitlines()
    # The schedd writes one such line for each of our own queries.
    return [line for line in lines if "Number of Active Workers" not in line][-25:]


def parse_epochs(text: str) -> list[Ad]:
    """Read an epoch history: ads, each followed by a line that says what the ad was.

    Such a line is ``*** INPUT ClusterId=1 ProcId=0 RunInstanceId=0 Owner="qe" CurrentTime=17…``.
    HTCondor 23.9 says nowhere else what an ad is, and spells the names in the ad of a transfer in
    another way (``ClusterID``).
    """
    records: list[Ad] = []
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("***"):
            words = dict(re.findall(r"(ClusterId|ProcId|RunInstanceId)=(\d+)", line))
            ids = {name: int(number) for name, number in words.items()}
            records.append(_parse_ad("\n".join(lines)) | ids | {"EpochAdType": line.split()[1]})
            lines = []
        else:
            lines.append(line)
    return records


def _parse_ad(text: str) -> Ad:
    # Imported late, because importing it reads HTCondor's configuration.
    import classad2

    ad: Ad = json.loads(classad2.parseOne(text).printJson())
    return ad


def _site_value(name: str) -> str:
    done = subprocess.run(
        ["condor_config_val", name], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()


def _refuse(reason: str) -> None:
    """Skip here, fail in CI: a pool test that was not run must not look like one that passed."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def condor() -> None:
    """HTCondor can be run here."""
    if shutil.which("condor_master") is None:
        _refuse("condor_master is not on PATH (.ci/debian-root pool has one)")
    if os.geteuid() == 0:
        _refuse("expected an unprivileged user for a personal pool, found root")


@pytest.fixture
def pool_directory() -> Iterator[Path]:
    """Directory for a pool of a test's own, with a shorter path than tmp_path has."""
    with tempfile.TemporaryDirectory(prefix="qe-") as name:
        yield Path(name)


@pytest.fixture
def submit_directory() -> Iterator[Path]:
    """Directory to submit from: DAGMan refuses to run a DAG that lies below /tmp."""
    with tempfile.TemporaryDirectory(prefix="qe-", dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def pool(condor: None, s3_settings: dict[str, str]) -> Iterator[PersonalPool]:
    """A running pool with our plugin, whose daemons know the S3 service of the tests."""
    plugin = Path(sys.executable).with_name("quantum_exec_plugin")
    if not plugin.exists():
        _refuse(f"expected the plugin at {str(plugin)!r}: install this project first")
    with tempfile.TemporaryDirectory(prefix="qe-") as name:
        with PersonalPool(Path(name), plugins=[plugin], environment=s3_settings) as running:
            yield running
