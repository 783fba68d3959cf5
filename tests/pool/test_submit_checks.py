# SPDX-License-Identifier: BSD-3-Clause
"""What ``submit`` says of a pool before anything is queued, and the files of a dry run."""

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_pool import PersonalPool
from tests.pool.submission import Site
from tests.pool.three_tasks import write_three_tasks
from transfer_plugins.object_store import open_store

pytestmark = pytest.mark.pool

RUN = "u/operator/checked"


@pytest.fixture
def site(
    pool: PersonalPool,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> Site:
    """An access point, ready to submit."""
    found = Site(pool, submit_directory, database, datastore, s3_settings)
    found.prepare()
    return found


@pytest.fixture(scope="module")
def poor_pool(condor: None) -> Iterator[PersonalPool]:
    """A pool without our plugin."""
    with tempfile.TemporaryDirectory(prefix="qe-") as name:
        with PersonalPool(Path(name)) as running:
            yield running


def words(site: Site) -> tuple[str | Path, ...]:
    """``quantum-exec submit`` of a small graph."""
    graph = write_three_tasks(site.directory / "graph.yaml", open_store(site.datastore), RUN)
    where = ("--datastore", site.datastore, "--config", site.directory / "submit.yaml")
    return ("quantum-exec", "submit", graph, *where)


def check_untouched(site: Site) -> None:
    """Nothing of the RUN is in the bucket, nothing in the queue, no file of a DAG."""
    assert not list(open_store(site.datastore).list_keys(f"{RUN}/"))
    assert not site.pool.queue(f'QuantumExecRun == "{RUN}"')
    assert not list((site.directory / "submit").rglob("*.dag"))


def test_impossible_request_is_said_at_submit(site: Site) -> None:
    site.prepare(pipetask={"coadd": {"requestMemory": 900_000_000}})
    refused = site.command(*words(site), codes=(2,)).stderr
    assert "pool: coadd: expected requests that a slot of the pool can meet" in refused
    assert "found requestMemory 900000000 MiB where the largest slot has" in refused
    assert "--ignore-slots" in refused
    assert refused.count("\n") == 1
    check_untouched(site)


def test_pool_without_plugin_is_said_at_submit(site: Site, poor_pool: PersonalPool) -> None:
    poor = Site(poor_pool, site.directory, site.database, site.datastore, site.s3_settings)
    refused = poor.command(*words(poor), codes=(2,)).stderr
    assert "expected a slot with the transfer plugin (qs3job in" in refused
    told = json.loads(poor.command(*words(poor), "--dry-run", "--json", codes=(2,)).stdout)
    [error] = told["errors"]
    assert "expected a slot with the transfer plugin (qs3job in" in error
    elastic = ("--dry-run", "--json", "--ignore-slots")
    told = json.loads(poor.command(*words(poor), *elastic).stdout)
    assert told["errors"] == []
    assert len(told["warnings"]) == 1
    check_untouched(poor)


def test_missing_right_is_said_at_submit(site: Site, poor_pool: PersonalPool) -> None:
    """The schedd lets read but not write, as ``condor_submit`` says, too."""
    poor = Site(poor_pool, site.directory, site.database, site.datastore, site.s3_settings)
    with reconfigured(poor_pool, "SCHEDD.DENY_WRITE = *"):
        told = poor_pool.tool(
            "condor_submit", "-", stdin="executable = /bin/true\nqueue\n", check=False
        )
        assert "DENIED" in told.stderr
        refused = poor.command(*words(poor), codes=(1,)).stderr
    assert "schedd: expected the right to submit, found that " in refused
    assert "@pool.test has none; the pool's administrator has to give it" in refused
    assert refused.count("\n") == 1
    check_untouched(poor)


@contextlib.contextmanager
def reconfigured(pool: PersonalPool, line: str) -> Iterator[None]:
    """A line more in the configuration, until the schedd answers again as before."""
    path = pool.directory / "condor_config"
    before = path.read_text()

    def may_write() -> bool:
        return pool.tool("condor_ping", "-type", "schedd", "WRITE", check=False).returncode == 0

    path.write_text(f"{before}{line}\n")
    pool.tool("condor_reconfig", "-schedd")
    pool.wait_until(lambda: not may_write(), timeout_s=20)
    try:
        yield
    finally:
        path.write_text(before)
        pool.tool("condor_reconfig", "-schedd")
        pool.wait_until(may_write, timeout_s=20)


def test_image_without_a_runtime_is_said_at_submit(site: Site) -> None:
    """``condor_submit`` asks for what no slot advertises: such a job would be idle for ever."""
    if site.pool.tool("condor_status", "-af", "HasContainer").stdout.startswith("true"):
        pytest.skip("this machine can run containers")
    site.prepare(pipetask={"coadd": {"containerImage": "docker://a/b:1"}})
    refused = site.command(*words(site), codes=(2,)).stderr
    assert "pool: coadd: expected a slot that can run containerImage docker://a/b:1" in refused
    assert "HasContainer, HasDockerURL" in refused
    check_untouched(site)
    output = site.directory / "dry"
    site.command(*words(site), "--dry-run", "--output", output, codes=(2,))
    file = "quantum.coadd.sub"
    variables = variables_of(output / "run.dag")[file]
    done = site.pool.tool("condor_submit", "-dry-run", "-", *variables, file, cwd=output)
    assert "TARGET.HasContainer && TARGET.HasDockerURL" in done.stdout
    assert "unused" not in done.stdout + done.stderr


def variables_of(dag: Path) -> dict[str, list[str]]:
    """Each submit file of a DAG with the VARS of one of its nodes, as condor_submit takes them."""
    nodes = re.findall(r"^(?:JOB|FINAL) (\S+) (\S+\.sub)", dag.read_text(), re.MULTILINE)
    variables = dict(re.findall(r"^VARS (\S+) (.*)$", dag.read_text(), re.MULTILINE))
    found = {}
    for name, file in nodes:
        given = re.findall(r'(\w+)="([^"]*)"', variables.get(name, ""))
        found[file] = [f"{key}={value.replace('$(RETRY)', '0')}" for key, value in given]
    return found


def test_files_of_a_dry_run_are_what_htcondor_takes(site: Site) -> None:
    """``condor_submit -dry-run`` uses every line; settings of all levels are taken."""
    attributes = {"attributes": {"+Night": 20261122}, "accountingGroup": "survey"}
    condor = {"rank": "Memory", "+JobNodeset": "night", "request_gpus": 0}
    site.prepare(
        computeSite="here",
        site={"here": {"profile": {"condor": condor}}},
        requestWalltime="1:00:00",
        environment={"OMP_NUM_THREADS": 1},
        **attributes,
    )
    output = site.directory / "dry"
    told = json.loads(site.command(*words(site), "--dry-run", "--output", output, "--json").stdout)
    assert (told["errors"], told["warnings"]) == ([], [])
    check_untouched(site)
    for file, variables in variables_of(output / "run.dag").items():
        done = site.pool.tool("condor_submit", "-dry-run", "-", *variables, file, cwd=output)
        assert "unused" not in done.stdout + done.stderr, file
        if file.startswith("quantum."):
            for line in ("Night=20261122", 'JobNodeset="night"', "Rank=Memory", "bps_isjob="):
                assert line in done.stdout, file


def test_schedd_that_is_away_is_said_at_submit(site: Site) -> None:
    """A configuration of HTCondor that leads nowhere."""
    nowhere = Path(site.pool.directory) / "condor_config"
    copied = site.directory / "nowhere"
    copied.mkdir()
    shutil.copy(nowhere, copied / "condor_config")
    with (copied / "condor_config").open("a") as file:
        file.write("COLLECTOR_HOST = 127.0.0.1:1\nSCHEDD_ADDRESS_FILE = /nowhere\n")
    away = Site(PersonalPool(copied), site.directory, *rest(site))
    refused = away.command(*words(away), codes=(1,)).stderr
    # Where there is an address file of the schedd, the collector is the first to be missed.
    assert "schedd: expected one" in refused or "collector: cannot be asked" in refused
    check_untouched(site)


def rest(site: Site) -> tuple[str, str, dict[str, str]]:
    """What sites share beside pool and directory."""
    return site.database, site.datastore, dict(site.s3_settings)
