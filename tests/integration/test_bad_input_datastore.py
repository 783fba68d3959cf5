# SPDX-License-Identifier: BSD-3-Clause
"""Datastores that are not there, refuse, or are named wrongly, to every command that needs one."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from executor.exit_codes import ExitCode
from registry import names
from registry.job import write_job
from registry.model import derived_id
from tests.fix_s3 import BUCKET
from tests.local_graphs import RUN, make_survey
from tests.refusals import call, check_refused, files_below
from tests.s3_proxy import Fault, S3Proxy
from tests.samples import RAW_CONTENT, RAW_KEY, make_job
from transfer_plugins.object_store import open_store

ID = derived_id("some quantum")
COMMANDS = {
    "run-local": ["run-local", "graph.yaml"],
    "submit": ["submit", "graph.yaml", "--config", "submit.yaml"],
    "rerun": ["rerun", RUN, "--quantum", ID],
    "rerun --failed": ["rerun", RUN, "--failed"],
    "graph urls": ["graph", "urls", "graph.yaml", "--resolve"],
    "shell": ["shell", RUN, "--quantum", ID],
    "shell --task": ["shell", RUN, "--task", "fit"],
}
REFUSED = Fault(403, "AccessDenied")
MISSPELT = Fault(403, "SignatureDoesNotMatch")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A directory with a graph file in it."""
    directory = tmp_path / "work"
    directory.mkdir()
    (directory / "graph.yaml").write_text(yaml.safe_dump(make_survey(1), sort_keys=False))
    # Not below /tmp, which is refused before anything is asked of the datastore.
    (directory / "submit.yaml").write_text("submitPath: /var/tmp/quantum-exec\n")
    return directory


@pytest.fixture
def closed_port() -> Iterator[str]:
    """The address of a port that is taken, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def check(graph: Path, command: str, uri: str, endpoint: str, code: int, *texts: str) -> None:
    """Call a command with a datastore; it is refused and leaves nothing."""
    before = files_below(graph)
    words = [*COMMANDS[command], "--datastore", uri, "--endpoint-url", endpoint]
    done = call(graph, *words, AWS_MAX_ATTEMPTS="2")
    if command == "graph urls":
        # It prints while it goes; what needs no answer of the datastore comes first.
        done.stdout = ""
    check_refused(done, code, *texts)
    assert files_below(graph) == before


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize("command", COMMANDS)
def test_no_such_bucket(graph: Path, s3_endpoint: str, command: str) -> None:
    texts = ("s3://not-there/repo/", "NoSuchBucket")
    code = ExitCode.DATASTORE_UNAVAILABLE
    check(graph, command, "s3://not-there/repo", s3_endpoint, code, *texts)


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize(
    ("command", "fault"), [*((command, REFUSED) for command in COMMANDS), ("shell", MISSPELT)]
)
def test_refused_credentials(graph: Path, s3_endpoint: str, command: str, fault: Fault) -> None:
    with S3Proxy(s3_endpoint, lambda method, key: fault) as proxy:
        texts = (f"s3://{BUCKET}/repo/", f"S3 said {fault.code}: said no")
        code = ExitCode.DATASTORE_UNAVAILABLE
        check(graph, command, f"s3://{BUCKET}/repo", proxy.endpoint, code, *texts)
        assert len(proxy.seen) == 1, "a refusal is not tried again"


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize("command", COMMANDS)
def test_unreachable_endpoint(graph: Path, closed_port: str, command: str) -> None:
    texts = (f"s3://{BUCKET}/repo/", "Could not connect", closed_port)
    code = ExitCode.DATASTORE_UNAVAILABLE
    check(graph, command, f"s3://{BUCKET}/repo", closed_port, code, *texts)


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize("command", ["run-local", "graph urls"])
def test_address_that_is_none(graph: Path, command: str) -> None:
    texts = ("expected the address of an S3 service", "nonsense")
    check(graph, command, f"s3://{BUCKET}/repo", "nonsense", ExitCode.USAGE, *texts)


@pytest.mark.parametrize(
    ("command", "uri"),
    [
        *((command, "nonsense") for command in COMMANDS),
        *(("shell", uri) for uri in ("s3://", "gs://bucket/x", "s3://Bad!/x", "s3://b/../x")),
    ],
)
def test_uri_that_is_none(graph: Path, command: str, uri: str) -> None:
    check(graph, command, uri, "http://127.0.0.1:1", ExitCode.USAGE, f"found {uri!r}")


@pytest.mark.parametrize("command", ["run-local", "shell"])
def test_profile_that_is_not_there(graph: Path, command: str) -> None:
    words = [*COMMANDS[command], "--datastore", f"s3://{BUCKET}/repo"]
    done = call(graph, *words, AWS_PROFILE="nobody")
    check_refused(done, ExitCode.DATASTORE_UNAVAILABLE, "profile (nobody) could not be found")


def test_no_credentials_at_all(
    graph: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    code, text = ExitCode.DATASTORE_UNAVAILABLE, "Unable to locate credentials"
    check(graph, "run-local", f"s3://{BUCKET}/repo", s3_endpoint, code, text)


def test_directory_that_is_a_file(graph: Path) -> None:
    (graph / "store").touch()
    uri = (graph / "store").as_uri()
    code = ExitCode.DATASTORE_UNAVAILABLE
    check(graph, "run-local", uri, "http://127.0.0.1:1", code, uri, "Not a directory")


def job_uri(datastore: str) -> str:
    """Publish a job with its input; returns its URI."""
    store, job = open_store(datastore), make_job()
    key = names.job_key(job.run, job.quantum_id)
    store.put(RAW_KEY, RAW_CONTENT)
    store.put(key, write_job(job))
    return f"{datastore}/{key}"


def test_run_whose_inputs_are_refused(tmp_path: Path, s3_endpoint: str, datastore: str) -> None:
    uri = job_uri(datastore)
    with S3Proxy(s3_endpoint, lambda method, key: REFUSED if RAW_KEY in key else None) as proxy:
        done = call(tmp_path, "run", uri, "--endpoint-url", proxy.endpoint)
    check_refused(done, ExitCode.STAGE_IN_FAILED, f"{datastore}/{RAW_KEY}: ")
    assert files_below(tmp_path) == set()


def test_run_whose_outputs_are_refused(tmp_path: Path, s3_endpoint: str, datastore: str) -> None:
    uri = job_uri(datastore)
    with S3Proxy(s3_endpoint, lambda method, key: REFUSED if method == "PUT" else None) as proxy:
        done = call(tmp_path, "run", uri, "--endpoint-url", proxy.endpoint)
    check_refused(done, ExitCode.STAGE_OUT_FAILED, datastore, "S3 said AccessDenied")
    assert not list(open_store(datastore).list_objects(names.delta_prefix(make_job().run)))


def test_run_without_a_service(tmp_path: Path, datastore: str, closed_port: str) -> None:
    done = call(tmp_path, "run", job_uri(datastore), "--endpoint-url", closed_port)
    check_refused(done, ExitCode.STAGE_IN_FAILED, "Could not connect", closed_port)
    assert files_below(tmp_path) == set()
