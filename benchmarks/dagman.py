# SPDX-License-Identifier: BSD-3-Clause
"""A large graph at the door of a pool: dry run, DAGMan that parses it, the first jobs.

    python -m benchmarks.dagman            needs condor_master on PATH and an unprivileged user

Jobs of the DAG are those of the dry run, but ``/bin/true`` without transfer: what is measured is
the submit side and DAGMan, and no bucket is needed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from benchmarks.graph import make, n_exposures
from benchmarks.report import run_command

N_QUANTA = 27_075
_SMALL = 2_000
_N_FIRST = 20
_MIB = 1024 * 1024
_TRANSFER = re.compile(r"transfer_(input|output|plugins)|use_oauth", re.IGNORECASE)
_POLL_S = 0.05
_DEADLINE_S = 300


def dry_run(graph: Path, directory: Path, **settings: object) -> dict[str, Any]:
    """Dry run of a graph as a process: its report, seconds and peak memory (MiB).

    ``settings`` are keys of the submit configuration; the files are in ``directory / "dag"``.
    """
    configuration = directory / "submit.yaml"
    known = {
        "submitPath": str(directory / "submit"),
        "workerExecutable": "/bin/true",
        "mergeExecutable": "/bin/true",
        "requestMemory": 16,
        "requestDisk": 1,
        **settings,
    }
    configuration.write_text(json.dumps(known))
    words = [
        *(sys.executable, "-m", "executor", "submit", str(graph), "--dry-run", "--json"),
        *("--datastore", "s3://bucket/repo", "--config", str(configuration)),
        *("--output", str(directory / "dag")),
    ]
    started = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"dry run: expected exit code 0, found {process.returncode}")
    report: dict[str, Any] = json.loads(text)
    return report | {
        "wall_s": time.monotonic() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def without_transfer(directory: Path) -> None:
    """Take all that needs a bucket out of the submit files of a DAG."""
    for path in directory.glob("*.sub"):
        lines = [line for line in path.read_text().splitlines() if not _TRANSFER.match(line)]
        path.write_text("\n".join(lines) + "\n")


def parse_with_dagman(
    directory: Path, environment: Mapping[str, str], n_first: int = _N_FIRST, max_idle: int = 100
) -> dict[str, float]:
    """Give a DAG to a pool, wait until its first jobs have ended, remove it.

    Returns
    -------
    parse_s
        From DAGMan's start until it has parsed the DAG, by its own log (whole seconds).
    dagman_mib
        Resident memory of condor_dagman when the first jobs had ended.
    submit_to_first_s
        From condor_submit_dag until they had.
    """
    started = time.monotonic()
    tool = ["condor_submit_dag", "-maxidle", str(max_idle), "run.dag"]
    subprocess.run(tool, cwd=directory, env=dict(environment), check=True, capture_output=True)
    log = directory / "run.dag.nodes.log"
    wait_for(lambda: log.exists() and log.read_text().count("Job terminated") >= n_first)
    first_s = time.monotonic() - started
    # Its name is that of its job, condor_scheduniv_exec.<id>.
    [dagman] = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if "-Dag" in (process.info["cmdline"] or []) and process.info["cwd"] == str(directory)
    ]
    found = {"dagman_mib": dagman.memory_info().rss / _MIB, "submit_to_first_s": first_s}
    text = (directory / "run.dag.dagman.out").read_text()
    subprocess.run(["condor_rm", "-all"], env=dict(environment), check=True, capture_output=True)
    wait_for(lambda: not dagman.is_running())
    return found | {"parse_s": _parse_s(text)}


def _parse_s(dagman_out: str) -> float:
    """Seconds between DAGMan's lines before and after parsing."""
    times = {}
    for line in dagman_out.splitlines():
        for key, text in (("begin", "Parsing "), ("end", "Dag contains ")):
            if text in line and key not in times:
                times[key] = time.mktime(time.strptime(line[:17], "%m/%d/%y %H:%M:%S"))
    return times["end"] - times["begin"]


def wait_for(condition: Any) -> None:
    """Wait until something is so; raises `TimeoutError`."""
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the DAG did not come so far")
        time.sleep(_POLL_S)


def measure(is_full: bool) -> dict[str, float | str]:
    """All figures; a small graph unless told otherwise."""
    from tests.fix_pool import PersonalPool

    with tempfile.TemporaryDirectory(prefix="qe-", dir="/var/tmp") as name:
        directory = Path(name)
        graph = directory / "benchmark.qgraph"
        make(graph, n_exposures(N_QUANTA if is_full else _SMALL))
        ran = dry_run(graph, directory)
        without_transfer(directory / "dag")
        (directory / "pool").mkdir()
        with PersonalPool(directory / "pool") as pool:
            environment = {**os.environ, **pool.environment}
            parsed = parse_with_dagman(directory / "dag", environment)
    return {
        "quanta": ran["n_quanta"],
        "dry run, wall time (s)": ran["wall_s"],
        "dry run, CPU (s)": ran["cpu_s"],
        "dry run, peak memory (MiB)": ran["peak_mib"],
        "files": ran["n_files"],
        "bytes of files": ran["n_bytes"],
        "DAGMan, parsing (s)": parsed["parse_s"],
        "DAGMan, memory (MiB)": parsed["dagman_mib"],
        f"submitted until {_N_FIRST} jobs had ended (s)": parsed["submit_to_first_s"],
    }


if __name__ == "__main__":
    run_command(
        __doc__, "A large graph at the door of a pool", f"{N_QUANTA} quanta, not {_SMALL}", measure
    )
