# SPDX-License-Identifier: BSD-3-Clause
"""``submit --requests-from``: what a RUN took, from deltas to the files of the next DAG."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from executor.exit_codes import ExitCode
from registry.delta import ResourceUse
from tests.fix_merge import MergeSite
from tests.local_graphs import make_survey
from tests.refusals import call, check_refused

MIB = 2**20


@pytest.fixture
def work(site: MergeSite) -> Iterator[Path]:
    """A graph with the task that was measured, and a configuration that names the registry."""
    graph = make_survey(2)
    graph["tasks"]["calibrate"] = graph["tasks"].pop("isr")
    for quantum in graph["quanta"]:
        quantum["task"] = quantum["task"].replace("isr", "calibrate")
    with tempfile.TemporaryDirectory(prefix="qe-", dir="/var/tmp") as name:
        directory = Path(name)
        (directory / "graph.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
        (directory / "merge.yaml").write_text(yaml.safe_dump({"database": site.address}))
        (directory / "merge.yaml").chmod(0o600)
        settings = {
            "mergeConfig": str(directory / "merge.yaml"),
            "requestMemoryMax": 65536,
            "pipetask": {"calibrate": {"requestMemory": 111, "requestCpus": 3}},
        }
        (directory / "submit.yaml").write_text(yaml.safe_dump(settings))
        yield directory


def words(run: str) -> tuple[str, ...]:
    """``quantum-exec submit --dry-run`` with the requests of a RUN."""
    where = ("--datastore", "s3://bucket/repo", "--config", "submit.yaml", "--output", "out")
    return ("submit", "graph.yaml", *where, "--dry-run", "--json", "--requests-from", run)


def test_jobs_ask_for_what_an_earlier_run_took(site: MergeSite, work: Path) -> None:
    for quantum, (memory, scratch, wall_s) in enumerate([(100, 10, 9.0), (1000, 500, 700.0)]):
        used = ResourceUse(wall_s, wall_s, 1.0, memory * MIB, 0, 0, scratch * MIB)
        site.put(site.delta(quantum, quantum + 1, resources=used))
    site.merge()
    done = call(work, *words(site.graph.run), CONDOR_CONFIG="/dev/null")
    assert done.returncode == 0, done.stderr
    labels = json.loads(done.stdout)["labels"]
    # 1000 * 1.2 + 40 for the wrapper, 500 * 1.2, and twice 700 s, in steps.
    measured = {"request_memory": 1280, "request_disk": 640, "request_walltime": 1800}
    assert {name: labels["calibrate"][name] for name in measured} == measured
    assert labels["calibrate"]["request_cpus"] == 3
    assert labels["fit"]["request_memory"] == 2048
    dag = (work / "out" / "run.dag").read_text()
    assert re.findall(r'^VARS calibrate_\S+ .* memory="(\d+)"', dag, re.MULTILINE) == ["1280"] * 2
    lines = (work / "out" / "quantum.calibrate.sub").read_text().splitlines()
    for line in (
        "request_disk = 640MB",
        "request_cpus = 3",
        "My.QuantumExecMemory = $(memory)",
        "My.QuantumExecMemoryMax = 65536",
        "My.QuantumExecWallTime = 1800",
    ):
        assert line in lines


def test_run_that_was_never_measured_is_told(site: MergeSite, work: Path) -> None:
    told = "requests of RUN 'u/none': registry-merge ended with 1: "
    check_refused(
        call(work, *words("u/none")), ExitCode.USAGE, told, "expected successful attempts"
    )
    assert not (work / "out").exists()
