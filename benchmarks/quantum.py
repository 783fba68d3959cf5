# SPDX-License-Identifier: BSD-3-Clause
"""No-op quanta through ``quantum-exec run``, against ``python -c pass`` and the shell.

All are whole processes, alternated. The quantum has one input of 1 kB, one output and the command
``cp``. Staging is done beforehand, as the plugin does it, and timed apart, in-process; the cases by
URI stage in and out themselves, in a directory as datastore:

ten quanta in one process
    against ten processes of one quantum each.
a quantum with 200 inputs of 10 kB
    against a shell that copies the same files and takes their SHA-256.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import run_command
from registry import names
from registry.job import (
    JOB_FORMAT,
    Job,
    PredictedInput,
    PredictedOutput,
    TaskCall,
    write_job,
)
from registry.model import DatasetType, derived_id
from transfer_plugins.object_store import DirectoryObjectStore
from transfer_plugins.stage_in import stage_in
from transfer_plugins.stage_out import read_list, stage_out

_RUN = "benchmark/quantum"
_INPUT_BYTES = 10_000
_MANY_INPUTS = 200


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


def put_job(store: DirectoryObjectStore, job: Job) -> str:
    """Publish a job and its inputs; returns the URI of the job file."""
    for found in job.inputs:
        store.put(str(found.key), bytes(_INPUT_BYTES))
    key = names.job_key(job.run, job.quantum_id)
    store.put(key, write_job(job))
    return f"{store.uri}/{key}"


def job_number(number: int, n_inputs: int) -> Job:
    """The job of a quantum of its own, with some inputs."""
    raws = [
        PredictedInput(
            derived_id(number, i),
            "raw",
            {"exposure": i},
            "raw",
            f"raw/{i}.raw",
            key=f"raw/{i}.raw",
        )
        for i in range(n_inputs)
    ]
    path = f"{_RUN}/copied/{number}.raw"
    output = PredictedOutput(derived_id("out", number), "copied", {"exposure": number}, path)
    return replace(
        no_op_job(),
        quantum_id=derived_id("quantum", number),
        task=TaskCall(command=["touch", "{output:copied}"]),
        inputs=raws,
        outputs=[output],
    )


def measure_by_uri(n_runs: int) -> dict[str, float]:
    """Quanta that stage in and out by themselves: ten at once, and one of 200 inputs."""
    command = [sys.executable, "-m", "executor", "run"]
    ten: list[float] = []
    single: list[float] = []
    many: list[float] = []
    shell: list[float] = []
    for _ in range(n_runs):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            stores = [DirectoryObjectStore(directory / f"store{i}") for i in range(3)]
            together = [put_job(stores[0], job_number(i, 1)) for i in range(10)]
            alone = put_job(stores[1], job_number(0, 1))
            wide = put_job(stores[2], job_number(0, _MANY_INPUTS))
            ten.append(measure([*command, *together], directory).wall_s / 10)
            single.append(measure([*command, alone], directory).wall_s)
            many.append(measure([*command, wide], directory).wall_s)
            copy = f"mkdir copy && cp {stores[2].root}/raw/* copy && sha256sum copy/*"
            shell.append(measure(["sh", "-c", copy], directory).wall_s)
    figures = {
        "quantum_by_uri_wall_s": statistics.median(single),
        "one_of_ten_quanta_in_one_process_wall_s": statistics.median(ten),
        "one_of_ten_ratio_of_single": statistics.median(ten) / statistics.median(single),
        "inputs_200_wall_s": statistics.median(many),
        "inputs_200_beyond_single_wall_s": statistics.median(many) - statistics.median(single),
        "inputs_200_ratio_of_cp_and_sha256sum": statistics.median(many) / statistics.median(shell),
    }
    return {name: round(value, 4) for name, value in figures.items()}


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
    run_command(
        __doc__ or "",
        "no-op quanta",
        "100 runs instead of 15",
        lambda full: run_benchmark(100 if full else 15) | measure_by_uri(20 if full else 5),
    )


if __name__ == "__main__":
    main()
