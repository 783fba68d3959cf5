# SPDX-License-Identifier: BSD-3-Clause
"""Secrets of the environment are in no file, object, log, argument list or message."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from registry import names
from registry.job import TaskCall, write_job
from tests.local_graphs import GraphRun, make_survey
from tests.refusals import call
from tests.samples import RAW_CONTENT, RAW_KEY, make_job
from transfer_plugins.object_store import ObjectStore, open_store

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-of-aws",
    "AWS_SESSION_TOKEN": "token-of-aws",
    "PGPASSWORD": "secret-of-postgres",
    "PGHOST": "db.example.org",
    "PGSERVICEFILE": "/home/me/services",
    "REGISTRY_MERGE_DATABASE": "postgresql://merger:secret-of-the-url@db.example.org/survey",
    "LSST_DB_AUTH_CREDENTIALS": "secret-of-lsst",
    "_CONDOR_CREDS": "/credentials",
}
# All that a task can print of itself and of whoever started it.
LOOK = "env; tr '\\0' ' ' < /proc/$PPID/cmdline; tr '\\0' ' ' < /proc/self/environ; exit 3"


def check_clean(what: str, told: bytes | str) -> None:
    """No secret is in a text."""
    text = told if isinstance(told, str) else told.decode(errors="replace")
    assert [name for name, value in SECRETS.items() if value in text] == [], what


def check_files(directory: Path) -> None:
    """No secret is in a file."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        check_clean(str(path), content)
        if content.startswith(b"\x1f\x8b"):
            check_clean(str(path), gzip.decompress(content))


def check_objects(store: ObjectStore, run: str) -> bytes:
    """No secret is in an object; returns the log of the only attempt."""
    logs = []
    for stored in store.list_objects(""):
        content = store.get(stored.key)
        if stored.key.startswith(f"{run}/{names.CONTROL}/logs/"):
            logs.append(gzip.decompress(content))
        is_gzip = content.startswith(b"\x1f\x8b")
        check_clean(stored.key, gzip.decompress(content) if is_gzip else content)
    (log,) = logs
    check_clean("log", log)
    return log


def check_messages(done: "subprocess.CompletedProcess[str]", code: int) -> None:
    """No secret is in what a command printed."""
    assert done.returncode == code, done.stderr
    check_clean("standard error", done.stderr)
    check_clean("standard output", done.stdout)


def publish(datastore: str) -> str:
    """Publish a job that looks around; returns its URI."""
    job, store = make_job(task=TaskCall(["sh", "-c", LOOK])), open_store(datastore)
    key = names.job_key(job.run, job.quantum_id)
    store.put(RAW_KEY, RAW_CONTENT)
    store.put(key, write_job(job))
    return f"{datastore}/{key}"


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_run_by_uri(tmp_path: Path, datastore: str, level: str) -> None:
    done = call(tmp_path, "run", publish(datastore), "--log-level", level, **SECRETS)
    check_messages(done, 3)
    check_files(tmp_path)
    log = check_objects(open_store(datastore), make_job().run)
    assert b"QUANTUM_EXEC_RUN=" in log
    assert b"executor" in log, "the argument list of the wrapper"


@pytest.fixture
def graph_run(tmp_path: Path, datastore: str) -> GraphRun:
    """A graph whose first task looks around."""
    document = make_survey(1)
    document["tasks"]["isr"]["command"] = ["sh", "-c", LOOK]
    found = GraphRun(tmp_path, datastore, document)
    found.prepare()
    return found


def test_run_local_and_shell(graph_run: GraphRun) -> None:
    words = ["--datastore", graph_run.datastore]
    done = call(
        graph_run.directory, "--log-level", "DEBUG", "run-local", "graph.yaml", *words, **SECRETS
    )
    check_messages(done, ExitCode.FAILED)
    assert b"QUANTUM_EXEC_RUN=" in check_objects(graph_run.store, graph_run.document["run"])
    words = ["shell", graph_run.document["run"], "--task", "isr", *words]
    done = call(graph_run.directory, "--log-level", "DEBUG", *words, "--", "./run-task", **SECRETS)
    check_messages(done, 3)
    assert "QUANTUM_EXEC_RUN=" in done.stdout
    done = call(graph_run.directory, *words, "--json", **SECRETS)
    check_messages(done, 0)
    assert "QUANTUM_EXEC_RUN=" in json.loads(done.stdout)["error"]
    check_files(graph_run.directory)


def test_messages_of_failures(tmp_path: Path, s3_endpoint: str) -> None:
    words = ["shell", "u/x", "--task", "x", "--endpoint-url", s3_endpoint]
    uri = "s3://key:secret-of-aws@not-there/x"
    for datastore in ("s3://not-there/x", uri):
        done = call(tmp_path, *words, "--datastore", datastore, **SECRETS)
        check_messages(done, ExitCode.USAGE if datastore == uri else 38)


def test_no_credentials_at_all(tmp_path: Path) -> None:
    """A DAG does not try again what a person has to set up."""
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": ""}
    words = ["archive", "s3://bucket/x", "u/x"]
    done = call(tmp_path, *words, module="merger.cli", **nothing, AWS_PROFILE="default")
    assert done.returncode == 5, done.stderr


def test_addresses_of_services(tmp_path: Path) -> None:
    """boto3 quotes the address of a service that it cannot reach."""
    words = ["archive", "s3://bucket/x", "u/x", "--json"]
    address = "http://key:secret-of-aws@127.0.0.1:1"
    ours = SECRETS | {"AWS_ACCESS_KEY_ID": "key", "AWS_MAX_ATTEMPTS": "1"}
    for found in (
        {"AWS_ENDPOINT_URL": address},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "HTTP_PROXY": address},
    ):
        done = call(tmp_path, *words, module="merger.cli", **ours | found)
        check_messages(done, 3)
        assert "127.0.0.1:1" in done.stderr
