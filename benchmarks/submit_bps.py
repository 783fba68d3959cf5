# SPDX-License-Identifier: BSD-3-Clause
"""The peer of `benchmarks.submit`: ``bps prepare`` for HTCondor, on a graph of LSST's own mocks."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_MAKE_GRAPH = """
import sys
from lsst.pipe.base.tests.mocks import InMemoryRepo
exposures, detectors, path, *tasks = sys.argv[1:]
repo = InMemoryRepo()
insert = repo.butler.registry.insertDimensionData
most = 10**6
here = {"instrument": "Cam"}
insert("instrument", dict(name="Cam", visit_max=most, exposure_max=most, detector_max=most,
                          class_name="not.imported"))
insert("physical_filter", dict(here, name="r", band="r"))
insert("day_obs", dict(here, id=20260101))
insert("group", dict(here, name="g"))
insert("detector", *[dict(here, id=n, full_name=str(n)) for n in range(int(detectors))])
insert("exposure", *[dict(here, id=n, obs_id=str(n), physical_filter="r", day_obs=20260101,
                          group="g") for n in range(int(exposures))])
for label in tasks:
    repo.add_task(label, dimensions=["exposure", "detector"])
builder = repo.make_quantum_graph_builder(output_run="u/me/benchmark")
builder.finish(output="u/me", attach_datastore_records=False).write(path)
"""

_CONFIGURATION = """
qgraphFile: {directory}/lsst.qg
submitPath: {directory}/bps
operator: me
project: benchmark
campaign: benchmark
computeSite: local
site: {{local: {{}}}}
payload:
  payloadName: benchmark
  butlerConfig: {directory}/repo
  inCollection: raw
  output: u/me
  outputRun: u/me/benchmark
updateQuantumGraph: "/bin/cp {{inputQgraphFile}} {{qgraphFile}}"
finalJob: {{whenRun: NEVER}}
"""


def lsst_python() -> str | None:
    """A Python that has LSST's BPS with its HTCondor plugin; None if there is none."""
    python = os.environ.get("QUANTUM_EXEC_LSST_PYTHON", sys.executable)
    command = [python, "-c", "import lsst.ctrl.bps.htcondor"]
    try:
        found = subprocess.run(command, cwd="/", capture_output=True).returncode == 0
    except OSError:
        return None
    return python if found else None


def measure_bps(
    directory: Path, exposures: int, detectors: int, tasks: Sequence[str]
) -> dict[str, float]:
    """Seconds, peak memory, files and bytes of ``bps prepare``; empty if it is not installed."""
    from benchmarks.submit import run_measured

    python = lsst_python()
    if python is None:
        return {}
    graph = directory / "lsst.qg"
    run_measured([python, "-c", _MAKE_GRAPH, str(exposures), str(detectors), str(graph), *tasks])
    config = directory / "bps.yaml"
    config.write_text(_CONFIGURATION.format(directory=directory))
    environment = dict(os.environ, CTRL_MPEXEC_DIR="/not/used", DAF_BUTLER_DIR="/not/used")
    bps = Path(python).with_name("bps")
    spent = run_measured([str(bps), "prepare", str(config)], environment)
    files = [path for path in (directory / "bps").rglob("*") if path.is_file()]
    return {
        "bps_s": spent.wall_s,
        "bps_peak_mib": spent.peak_mib,
        "bps_files": len(files),
        "bps_mb": sum(path.stat().st_size for path in files) / 1e6,
    }
