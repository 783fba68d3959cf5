# SPDX-License-Identifier: BSD-3-Clause
"""What ``submit`` says of this machine before anything is queued; no pool is needed for it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from executor.exit_codes import ExitCode
from tests.local_graphs import make_survey
from tests.refusals import NO_AWS, call, check_refused

SUBMIT = ("submit", "graph.yaml", "--datastore", "s3://bucket/repo", "--config", "submit.yaml")


@pytest.fixture
def work() -> Iterator[Path]:
    """A directory outside /tmp with a graph in it."""
    with tempfile.TemporaryDirectory(prefix="qe-", dir="/var/tmp") as name:
        directory = Path(name)
        (directory / "graph.yaml").write_text(yaml.safe_dump(make_survey(2), sort_keys=False))
        configure(directory)
        yield directory


def configure(directory: Path, **settings: object) -> None:
    """Write the submit configuration."""
    (directory / "submit.yaml").write_text(yaml.safe_dump(settings))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"submitPath": "/tmp/below"}, "submitPath: expected a directory outside /tmp"),
        ({"submitPath": "graph.yaml/below"}, "submitPath: expected a directory to write in"),
        ({"mergeConfig": "/not/there.yaml"}, "mergeConfig: expected a file that can be read"),
        ({"mergeExecutable": "/not/there"}, "mergeExecutable: expected a program on this machine"),
        ({"bundle": "/not/there"}, "expected a directory made by quantum-exec bundle --output"),
        ({"containerImage": "/not/there.sif"}, "containerImage: expected an image, found no"),
        ({"output": "u/tester/survey"}, "output: expected a chain of another name than the RUN"),
        ({"initTasks": ["irs"]}, "initTasks: irs: expected a task label of the graph, found none"),
    ],
)
def test_what_this_machine_lacks(work: Path, settings: dict[str, object], text: str) -> None:
    configure(work, **settings)
    check_refused(call(work, *SUBMIT), ExitCode.USAGE, text)
    assert {path.name for path in work.iterdir()} == {"graph.yaml", "submit.yaml"}


def test_all_reasons_are_told_at_once(work: Path) -> None:
    configure(work, mergeConfig="/not/there.yaml", bundle="/nor/there")
    missing = {"AWS_SHARED_CREDENTIALS_FILE": "/no/credentials", "PGPASSFILE": "/no/passwords"}
    of_variables = ("found no /no/credentials", "found no /no/passwords")
    texts = ("mergeConfig: ", "bundle /nor/there: ", *of_variables)
    check_refused(call(work, *SUBMIT, **missing), ExitCode.USAGE, *texts)


def test_disk_too_small_for_the_files_of_the_dag(work: Path) -> None:
    """In a mount namespace, where an ordinary user may mount a disk of 16 KiB."""
    (work / "small").mkdir()
    configure(work, submitPath=str(work / "small" / "submit"))
    mount = f'mount -t tmpfs -o size=16k tmpfs {work}/small && exec "$@"'
    inside = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    if subprocess.run([*inside, "true"], cwd=work, capture_output=True).returncode:
        pytest.skip("this system lets no user mount a disk")
    done = subprocess.run(
        [*inside, sys.executable, "-m", "executor", *SUBMIT],
        env={**os.environ, **NO_AWS},
        cwd=work,
        capture_output=True,
        text=True,
    )
    text = "submitPath: expected 0.04 MiB for the files of 5 jobs, found 0.02 MiB free in"
    check_refused(done, ExitCode.USAGE, text)


@pytest.mark.usefixtures("s3_environment")
def test_no_pool(work: Path, datastore: str) -> None:
    words = ("submit", "graph.yaml", "--datastore", datastore, "--config", "submit.yaml")
    nowhere = {"CONDOR_CONFIG": "/dev/null", "_CONDOR_COLLECTOR_HOST": "127.0.0.1:1"}
    done = call(work, *words, **nowhere)
    check_refused(done, ExitCode.FAILED, "schedd: expected one that can be reached")
    assert {path.name for path in work.iterdir()} == {"graph.yaml", "submit.yaml"}


def dry_run(work: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """The report of a dry run without pool and bucket."""
    done = call(work, *SUBMIT, "--dry-run", "--json", *options, CONDOR_CONFIG="/dev/null")
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_dry_run_writes_the_files_and_nothing_else(work: Path) -> None:
    found = dry_run(work, "--output", "out")
    assert found["directory"] == str(work / "out")
    assert (found["n_jobs"], found["n_quanta"], found["errors"]) == (5, 5, [])
    files = [path for path in (work / "out").rglob("*") if path.is_file()]
    assert {"run.dag", "merge.sub", "quantum.isr.sub"} < {path.name for path in files}
    assert found["n_files"] == len(files)
    assert found["n_bytes"] == sum(path.stat().st_size for path in files)
    assert {p.name for p in work.iterdir()} == {"graph.yaml", "submit.yaml", "out"}
    [warning] = found["warnings"]
    assert "not checked against a pool" in warning
    again = call(work, *SUBMIT, "--dry-run", "--output", "out", CONDOR_CONFIG="/dev/null")
    check_refused(again, ExitCode.USAGE, "--output: expected an empty directory")


def test_dry_run_with_a_bundle(work: Path, bundle: Path) -> None:
    """A cluster, a quantum alone and the init job: all start with the archive, all alike."""
    clusters = {"chain": {"pipetasks": "isr"}}
    configure(work, bundle=str(bundle), requestMemory=64, cluster=clusters)
    assert dry_run(work, "--output", "out")["errors"] == []
    record = json.loads((bundle / "bundle.json").read_text())
    names = [path.name for path in (work / "out").glob("*.sub")]
    assert {"init.sub", "merge.sub", "quantum.chain.sub"} < set(names)
    for name in names:
        text = (work / "out" / name).read_text()
        if name == "merge.sub":
            assert "worker.pyz" not in text
            continue
        for line in (
            "executable = /usr/bin/env",
            "transfer_executable = false",
            f"arguments = python3 worker.pyz {'init' if name == 'init.sub' else 'run'} ",
            f"transfer_plugins = qs3,qs3job={bundle}/quantum_exec_plugin",
            f'My.QuantumExecWorkerArchive = "s3://bucket/repo/{record["worker_key"]}"',
            f'My.QuantumExecWorkerChecksum = "{record["worker"]["checksum"]}"',
        ):
            assert f"\n{line}" in text, name


def test_damaged_bundle_is_told_before_anything_is_written(work: Path, bundle: Path) -> None:
    shutil.copytree(bundle, work / "bundle")
    (work / "bundle" / "worker.pyz").write_bytes(b"")
    configure(work, bundle=str(work / "bundle"))
    check_refused(call(work, *SUBMIT), ExitCode.USAGE, "expected worker.pyz with sha256:")


def test_dry_run_tells_errors_and_writes_all_the_same(work: Path) -> None:
    configure(work, mergeConfig="/not/there.yaml", pipetask={"irs": {"requestCpus": 2}})
    found = dry_run(work, "--output", "out", code=2)
    assert found["errors"] == [
        "mergeConfig: expected a file that can be read, found no /not/there.yaml"
    ]
    assert "did you mean isr?" in str(found["warnings"])
    assert (work / "out" / "run.dag").exists()


def test_requests_that_do_not_fit_are_a_warning(work: Path) -> None:
    graph = make_survey(2)
    for dataset, size in zip(graph["inputs"], (5 * 2**20, 700 * 2**20), strict=True):
        dataset["size_bytes"] = size
    (work / "graph.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    configure(work, requestDisk=699)
    told = dry_run(work)["warnings"]
    assert told[0] == (
        "requestDisk: isr: expected at least the 700 MiB of inputs that one of its quanta reads, "
        "found 699 MiB"
    )
    # First and greatest request of a label may come from different levels.
    configure(
        work, requestDisk=700, requestMemoryMax=3000, pipetask={"fit": {"requestMemory": 4000}}
    )
    told, of_pool = dry_run(work)["warnings"]
    assert told.startswith("requestMemoryMax: fit: expected at least its requestMemory, 4000 MiB")
    assert "not checked against a pool" in of_pool


def test_dry_run_shows_a_table(work: Path) -> None:
    done = call(work, *SUBMIT, "--dry-run", "--output", "out", CONDOR_CONFIG="/dev/null")
    assert done.returncode == 0, done.stderr
    for text in ("isr", "2048", "5 quanta in 5 jobs; nothing was queued", str(work / "out")):
        assert text in done.stdout


def test_requests_of_a_file_go_first(work: Path) -> None:
    configure(work, pipetask={"isr": {"requestMemory": 4096, "requestCpus": 3}})
    (work / "measured.yaml").write_text("pipetask: {isr: {requestMemory: 300}}\n")
    found = dry_run(work, "--requests", "measured.yaml")
    isr = found["labels"]["isr"]
    assert (isr["request_memory"], isr["request_cpus"]) == (300, 3)
    (work / "measured.yaml").write_text("requestMemory: 300\n")
    done = call(work, *SUBMIT, "--dry-run", "--requests", "measured.yaml")
    check_refused(done, ExitCode.USAGE, "measured.yaml: expected requests of task labels")


def test_requests_of_an_earlier_run_are_asked_of_the_registry(work: Path) -> None:
    program = work / "registry-merge"
    program.write_text(
        '#!/bin/sh\n[ "$*" = "requests u/r --yaml --config /dev/null" ] || exit 7\n'
        'echo "pipetask: {isr: {requestMemory: 333}}"\n'
    )
    program.chmod(0o755)
    configure(work, mergeExecutable=str(program), mergeConfig="/dev/null")
    found = dry_run(work, "--requests-from", "u/r")
    assert found["labels"]["isr"]["request_memory"] == 333
    refused = call(work, *SUBMIT, "--dry-run", "--requests-from", "u/other")
    check_refused(refused, ExitCode.USAGE, "requests of RUN 'u/other': registry-merge ended with 7")
