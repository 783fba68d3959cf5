# SPDX-License-Identifier: BSD-3-Clause
"""Submitting a night: ``submit --dry-run`` of 27,040 quanta, against LSST's ``bps prepare``.

Both make everything that HTCondor would be given, from a graph file of the same shape: chains of
four tasks for each exposure and detector, one quantum a job. Ours is measured in clusters of whole
chains as well. The peer runs where ``lsst-ctrl-bps-htcondor`` is installed: in this environment, or
in that of the Python that ``QUANTUM_EXEC_LSST_PYTHON`` names; otherwise its figures are left out.
It is spared two steps of a real run: its quantum graph is copied rather than given a new RUN, and
it has no final job. Where ``condor_dagman`` is on PATH, our DAG is parsed by it.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import run_command

_EXPOSURES, _DETECTORS = 65, 104
_TASKS = ("isr", "characterize", "calibrate", "table")
_RUN = "benchmark/submit"

_CLUSTERED = """
cluster:
  chain:
    pipetasks: isr,characterize,calibrate,table
    dimensions: exposure,detector
"""


@dataclass(frozen=True)
class Spent:
    """What a process took, and the end of what it printed."""

    wall_s: float
    peak_mib: float
    printed: str


def run_measured(words: list[str], environment: dict[str, str] | None = None) -> Spent:
    """Run a program to its end; raises `RuntimeError` with its words if it fails."""
    import time

    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        printed, said = output.read(), errors.read()
    if process.returncode:
        raise RuntimeError(
            f"{words[:3]}: exit code {process.returncode}: {printed[-500:]} {said[-2000:]}"
        )
    return Spent(wall_s, usage.ru_maxrss / 1024, printed)


def make_graph(path: Path, exposures: int) -> None:
    """Write the graph file that ours reads."""
    from executor.graph.graph_writer import GraphWriter

    ccd = ["exposure", "detector"]
    header: dict[str, Any] = {
        "name": "benchmark",
        "run": _RUN,
        "dimensions": {"exposure": "int", "detector": "int"},
        "dataset_types": {
            name: {"dimensions": ccd, "storage_class": "Fits"} for name in ("raw", *_TASKS)
        },
        "tasks": {task: {"function": f"benchmark:{task}"} for task in _TASKS},
    }
    with GraphWriter(path, header) as writer:
        for exposure in range(exposures):
            for detector in range(_DETECTORS):
                here = {"exposure": exposure, "detector": detector}
                key = f"raw/{exposure:06d}/{exposure:06d}_{detector:03d}.fits"
                writer.add_input("raw", here, run="raw/all", key=key)
                for read, task in zip(("raw", *_TASKS), _TASKS, strict=False):
                    writer.add_quantum(task, here, {read: here}, {task: here})


def measure_ours(directory: Path, graph: Path, name: str, configuration: str) -> dict[str, float]:
    """``quantum-exec submit --dry-run`` as an operator calls it."""
    config = directory / f"{name}.yaml"
    config.write_text(configuration)
    output = directory / name
    words = [*(sys.executable, "-m", "executor"), "submit", str(graph), "--dry-run"]
    words += ["--datastore", "s3://bucket/repo"]
    spent = run_measured([*words, "--output", str(output), "--config", str(config), "--json"])
    files = [path for path in output.rglob("*") if path.is_file()]
    told = json.loads(spent.printed)
    return {
        f"{name}_jobs": told["n_jobs"],
        f"{name}_s": spent.wall_s,
        f"{name}_peak_mib": spent.peak_mib,
        f"{name}_files": len(files),
        f"{name}_mb": sum(path.stat().st_size for path in files) / 1e6,
    }


def run_benchmark(exposures: int) -> dict[str, float | str]:
    """Ours, ours in clusters, and the peer."""
    from benchmarks.submit_bps import measure_bps

    # Not in /tmp: no DAG may be there, and submit says so.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        graph = directory / "graph.qgraph"
        make_graph(graph, exposures)
        basic = f"submitPath: {directory / 'submit'}\nworkerExecutable: /opt/quantum-exec\n"
        figures: dict[str, float | str] = {"n_quanta": exposures * _DETECTORS * len(_TASKS)}
        figures |= measure_ours(directory, graph, "submit", basic)
        figures |= measure_ours(directory, graph, "clustered", basic + _CLUSTERED)
        bps = measure_bps(directory, exposures, _DETECTORS, _TASKS)
        figures |= bps
        if not bps:
            figures["bps"] = "lsst-ctrl-bps-htcondor is not installed"
        for figure in ("s", "peak_mib", "files", "mb") if bps else ():
            ours, theirs = figures[f"submit_{figure}"], bps[f"bps_{figure}"]
            figures[f"{figure}_ratio_of_bps"] = float(ours) / theirs
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in figures.items()}


def main() -> None:
    """Measure, show a table, and with ``--json`` one line."""
    run_command(
        __doc__ or "",
        "submitting a night, against bps prepare",
        "ten times the quanta: 270,400",
        lambda full: run_benchmark(_EXPOSURES * (10 if full else 1)),
    )


if __name__ == "__main__":
    main()
