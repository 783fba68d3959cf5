# SPDX-License-Identifier: BSD-3-Clause
"""One no-op quantum through ``quantum-exec run``, against ``python -c pass``.

Both are whole processes, alternated. The quantum has one input of 1 kB, one output and the command
``cp``; staging is done beforehand, as the plugin does it, and is timed apart, in-process.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from registry.job import JOB_FORMAT, Job, PredictedInput, PredictedOutput, TaskCall
from registry.model import DatasetType, derived_id
from transfer_plugins.object_store import DirectoryObjectStore
from transfer_plugins.stage_in import stage_in
from transfer_plugins.stage_out import read_list, stage_out

_RUN = "benchmark/quantum"


@dataclass(frozen=True, slots=True)
class Measured:
    """One process: seconds of wall clock and of CPU (user and system), peak RSS in MiB."""

    wall_s: float
    cpu_s: float
    rss_mib: float


def measure(command: list[str], directory: Path) -> Measured:
    """Run a process to its end and ask the kernel what it used."""
    started = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: ended with {child.returncode}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, _mib(usage))


def _mib(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def import_seconds(command: list[str], directory: Path) -> float:
    """Seconds that a process spends in imports, by ``-X importtime`` (self times summed)."""
    python, *rest = command
    done = subprocess.run(
        [python, "-X", "importtime", *rest], cwd=directory, capture_output=True, text=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    cells = (line.removeprefix("import time:").split("|")[0].strip() for line in lines)
    return sum(int(cell) for cell in cells if cell.isdigit()) / 1e6


def no_op_job() -> Job:
    """The job of a quantum that copies its input."""
    file = DatasetType("raw", ["exposure"], "File", ".raw")
    copied = DatasetType("copied", ["exposure"], "File", ".raw")
    data_id: dict[str, str | int] = {"exposure": 1}
    return Job(
        JOB_FORMAT,
        derived_id("benchmark"),
        _RUN,
        derived_id("quantum"),
        "no_op",
        data_id,
        TaskCall(command=["cp", "{input:raw}", "{output:copied}"]),
        [file, copied],
        [PredictedInput(derived_id(1), "raw", data_id, "raw", "raw/1.raw", key="raw/1.raw")],
        [PredictedOutput(derived_id(2), "copied", data_id, f"{_RUN}/copied/1.raw")],
    )


def run_benchmark(n_runs: int) -> dict[str, float]:
    """Alternate quantum and bare interpreter; medians of all figures."""
    quanta: list[Measured] = []
    bare: list[Measured] = []
    staging: list[float] = []
    imports = 0.0
    command = [sys.executable, "-m", "executor", "run"]
    for number in range(n_runs):
        with tempfile.TemporaryDirectory() as name:
            store = DirectoryObjectStore(Path(name, "datastore"))
            store.put("raw/1.raw", b"x" * 1000)
            sandbox = Path(name, "sandbox")
            sandbox.mkdir()
            started = time.perf_counter()
            stage_in(no_op_job(), store, sandbox)
            staged_in = time.perf_counter() - started
            quanta.append(measure(command, sandbox))
            started = time.perf_counter()
            stage_out(read_list(sandbox), store, sandbox, patience_s=0)
            staging.append(staged_in + time.perf_counter() - started)
            bare.append(measure([sys.executable, "-c", "pass"], sandbox))
            if number == 0:
                imports = import_seconds(command, sandbox)
    return _figures(quanta, bare, staging, imports)


def _figures(
    quanta: list[Measured], bare: list[Measured], staging: list[float], imports: float
) -> dict[str, float]:
    wall = statistics.median(m.wall_s for m in quanta)
    bare_wall = statistics.median(m.wall_s for m in bare)
    rss = statistics.median(m.rss_mib for m in quanta)
    bare_rss = statistics.median(m.rss_mib for m in bare)
    figures = {
        "quantum_wall_s": wall,
        "quantum_cpu_s": statistics.median(m.cpu_s for m in quanta),
        "quantum_rss_mib": rss,
        "quantum_import_s": imports,
        "quantum_import_share": imports / wall,
        "staging_file_wall_s": statistics.median(staging),
        "python_wall_s": bare_wall,
        "python_rss_mib": bare_rss,
        "wall_ratio_of_python": wall / bare_wall,
        "rss_ratio_of_python": rss / bare_rss,
    }
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    """Measure, show a table, and with ``--json`` one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--full", action="store_true", help="100 runs instead of 15")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    figures = run_benchmark(100 if options.full else 15)
    # Only now: a child's peak RSS begins at what its parent had (execve(2) keeps the high mark).
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "median", title="one no-op quantum, against python -c pass")
    for name, value in figures.items():
        table.add_row(name, f"{value:g}")
    Console(stderr=options.json).print(table)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
