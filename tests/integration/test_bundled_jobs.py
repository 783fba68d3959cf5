# SPDX-License-Identifier: BSD-3-Clause
"""Jobs of a bundle as processes: its plugin, its worker archive, and nothing else of ours."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.bundle.bundle_record import read_bundle
from executor.bundle.submission import publish_worker
from executor.formats import formats_text, submitted_formats
from registry import names
from tests.cluster_jobs import CHAIN, GRAPH_ID, RUN, ClusterRun, Spec
from tests.fix_bundle import BARE_PYTHON
from tests.plugin_process import Ad, Answer, call_plugin
from transfer_plugins.object_store import open_store
from transfer_plugins.plugin_protocol import (
    WORKER_ATTRIBUTE,
    WORKER_CACHE_ATTRIBUTE,
    WORKER_CHECKSUM_ATTRIBUTE,
)


@dataclass(frozen=True)
class Machine:
    """An execution point with Python, S3 and a cache; the bundle comes with its jobs."""

    directory: Path
    bundle: Path
    datastore: str
    environment: dict[str, str]

    @property
    def job_ad(self) -> dict[str, str]:
        """What the submit file of a bundle says of the worker archive."""
        record = read_bundle(self.bundle)
        return {
            WORKER_ATTRIBUTE: f"{self.datastore}/{record.worker_key}",
            WORKER_CHECKSUM_ATTRIBUTE: record.worker.checksum,
            WORKER_CACHE_ATTRIBUTE: str(self.directory / "cache"),
        }

    def plugin(self, scheme: str, key: str, path: Path, *, is_upload: bool = False) -> Answer:
        """Call the plugin as HTCondor does."""
        path.parent.mkdir(exist_ok=True)
        request = (f"{scheme}{self.datastore.removeprefix('s3')}/{key}", path)
        command: list[str | Path] = [*BARE_PYTHON, self.bundle / "quantum_exec_plugin"]
        settings = {**self.environment, "PYTHONDONTWRITEBYTECODE": "1"}
        return call_plugin(
            *(path.parent, [request], settings),
            is_upload=is_upload,
            job_ad=self.job_ad,
            command=command,
        )

    def run(self, sandbox: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the worker archive that the plugin has brought."""
        return subprocess.run(
            [*BARE_PYTHON, names.WORKER_ARCHIVE, *words],
            cwd=sandbox,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def machine(
    tmp_path: Path, bundle: Path, datastore: str, s3_environment: dict[str, str]
) -> Machine:
    """An execution point; the archive of its bundle is in the datastore."""
    publish_worker(bundle, open_store(datastore))
    return Machine(tmp_path, bundle, datastore, s3_environment)


def run_cluster(machine: Machine, run: ClusterRun) -> tuple[int, Ad]:
    """Stage in, run and stage out; returns exit code and the answer to the stage-in."""
    key = names.cluster_key(RUN, run.cluster.cluster_id)
    brought = machine.plugin("qs3job", key, run.directory / Path(key).name)
    assert brought.is_success(), brought
    done = machine.run(run.directory, "run", "--log-level", "INFO")
    sent = machine.plugin("qs3job", key, run.directory / names.STAGE_OUT_FILE, is_upload=True)
    assert sent.is_success(), sent
    return done.returncode, brought.ads[0]


def test_clusters_run_and_the_second_job_takes_the_archive_from_the_cache(machine: Machine) -> None:
    store = open_store(machine.datastore)
    failing = [*CHAIN[:2], Spec("third", "b", "c", "exit 3")]
    run = ClusterRun(store, machine.directory / "first", failing).publish()
    code, first = run_cluster(machine, run)
    assert code == 3
    assert run.done() == ["first", "second"]
    size = (machine.bundle / names.WORKER_ARCHIVE).stat().st_size
    assert first["TransferTotalBytes"] > size
    store.delete(read_bundle(machine.bundle).worker_key)
    again = ClusterRun(store, machine.directory / "second", CHAIN).publish()
    code, second = run_cluster(machine, again)
    assert code == 0
    assert second["TransferTotalBytes"] < size
    assert again.done() == ["first", "second", "third"]
    assert again.content("c") == b"raw\nfirst\nraw\nsecond\nthird\n"


def test_init_job_runs(machine: Machine) -> None:
    store = open_store(machine.datastore)
    ClusterRun(store, machine.directory / "unused").publish()
    sandbox = machine.directory / "sandbox"
    key = names.graph_record_key(RUN, GRAPH_ID)
    brought = machine.plugin("qs3", key, sandbox / Path(key).name)
    assert brought.is_success(), brought
    formats = formats_text(submitted_formats())
    done = machine.run(sandbox, "init", GRAPH_ID, "--formats", formats)
    assert done.returncode == 0, done.stderr
    result = names.init_key(RUN, GRAPH_ID)
    sent = machine.plugin("qs3", result, sandbox / names.INIT_FILE, is_upload=True)
    assert sent.is_success(), sent
    told = json.loads(store.get(result))
    assert (told["graph_id"], told["error"]) == (GRAPH_ID, None)


@pytest.mark.parametrize("found", ["cut", "changed", "missing"])
def test_archive_that_is_not_the_one_that_was_made_is_refused(machine: Machine, found: str) -> None:
    store = open_store(machine.datastore)
    run = ClusterRun(store, machine.directory / "first").publish()
    record = read_bundle(machine.bundle)
    content = (machine.bundle / names.WORKER_ARCHIVE).read_bytes()
    if found == "missing":
        store.delete(record.worker_key)
    else:
        store.put(record.worker_key, content[:-1] + (b"x" if found == "changed" else b""))
    key = names.cluster_key(RUN, run.cluster.cluster_id)
    brought = machine.plugin("qs3job", key, run.directory / Path(key).name)
    assert brought.exit_code == 1
    [ad] = brought.ads
    assert record.worker_key in ad["TransferError"]
    told = "not found" if found == "missing" else f"expected {record.worker.checksum}"
    assert told in ad["TransferError"]
    assert not (run.directory / names.WORKER_ARCHIVE).exists()
    assert not list((machine.directory / "cache").glob("*.pyz"))
