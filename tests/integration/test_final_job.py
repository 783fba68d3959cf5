# SPDX-License-Identifier: BSD-3-Clause
"""``configs/bps-final-job.yaml``: run as LSST's BPS runs a final job."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from merger import schema
from merger.exit_codes import ExitCode
from tests import factories
from tests.own_postgres import OwnPostgres
from transfer_plugins.object_store import DirectoryObjectStore

CONFIG = Path(__file__).parents[2] / "configs" / "bps-final-job.yaml"
SECRET = "hidden-word"


def write_script(directory: Path, values: dict[str, str]) -> Path:
    """Write what BPS writes: its variables replaced, but for two, which are arguments."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    known = {k: v for k, v in config.items() if isinstance(v, str)} | values
    command = re.sub(r"\{(\w+)\}", lambda found: known[found[1]], config["finalJob"]["command1"])
    script = directory / "final_job.bash"
    lines = ["#!/bin/bash\n", "set -e", "set -x", "qgraphFile=$1", "butlerConfig=$2", command]
    script.write_text("\n".join(lines) + "\n")
    script.chmod(0o755)
    return script


def run_script(script: Path, home: Path) -> "subprocess.CompletedProcess[str]":
    """Run it as a job: an almost empty environment."""
    return subprocess.run(
        [script, "run.qg", "/repo/butler.yaml"],
        cwd=script.parent,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def home(tmp_path: Path, password_postgres: OwnPostgres) -> Path:
    """Home directory of the account, with the password of the database where LSST keeps it."""
    port = password_postgres.port
    with psycopg.connect(password_postgres.address("survey")) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public AUTHORIZATION merger")
    found = tmp_path / "home" / ".lsst" / "db-auth.yaml"
    found.parent.mkdir(parents=True)
    entry = {"url": f"postgresql://127.0.0.1:{port}/*", "username": "merger", "password": SECRET}
    found.write_text(json.dumps([entry]))
    found.chmod(0o600)
    (tmp_path / "merge.yaml").write_text(f"database: postgresql://127.0.0.1:{port}/survey\n")
    return tmp_path / "home"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script of a run with three deltas."""
    store = DirectoryObjectStore(tmp_path / "datastore")
    graph = factories.make_graph()
    factories.publish(store, graph)
    for number in range(3):
        delta = factories.make_delta(graph, number, number + 1)
        factories.put_objects(store, delta)
        factories.put_delta(store, delta)
    values = {
        "registryMerge": str(Path(sys.executable).with_name("registry-merge")),
        "registryMergeConfig": str(tmp_path / "merge.yaml"),
        "registryMergeDatastore": store.uri,
        "output": "u/tester/survey",
        "outputRun": graph.run,
    }
    return write_script(tmp_path, values)


def test_final_job(script: Path, home: Path, password_postgres: OwnPostgres) -> None:
    too_early = run_script(script, home)
    assert too_early.returncode == ExitCode.SCHEMA, too_early.stderr
    schema.create(password_postgres.address("survey", user="merger", password=SECRET))
    for _ in range(2):
        done = run_script(script, home)
        assert done.returncode == ExitCode.OK, done.stderr
        assert SECRET not in done.stdout + done.stderr
    assert "+ " in done.stderr, "bash shows what it runs"
    with psycopg.connect(password_postgres.address("survey")) as connection:
        chain = connection.execute("SELECT chain, child FROM collection_chain").fetchall()
        ((number,),) = connection.execute("SELECT count(*) FROM dataset").fetchall()
    assert (number, chain) == (6, [("u/tester/survey", factories.RUN)])


def test_exit_codes_that_are_tried_again() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    for_good = set(config["finalJob"]["retryUnlessExit"])
    assert set(ExitCode) - for_good == {ExitCode.OK, ExitCode.UNAVAILABLE, ExitCode.STOPPED}


def test_final_job_without_a_password(script: Path, home: Path) -> None:
    (home / ".lsst" / "db-auth.yaml").unlink()
    done = run_script(script, home)
    assert done.returncode == ExitCode.NOT_PERMITTED
    assert f"(db-auth: {home}/.lsst/db-auth.yaml, which is not there)" in done.stderr
