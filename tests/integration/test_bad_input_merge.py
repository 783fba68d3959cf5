# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge`` with datastores, RUNs, databases and configurations that are wrong."""

import socket
from pathlib import Path

import pytest

from merger.exit_codes import ExitCode
from tests.factories import RUN, make_graph, publish
from tests.fix_s3 import BUCKET
from tests.refusals import call, check_refused, files_below
from tests.s3_proxy import Fault, S3Proxy
from transfer_plugins.object_store import open_store

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/survey?connect_timeout=5"


def check(cwd: Path, words: list[str], code: int, *texts: str) -> None:
    """Call it; it is refused and leaves nothing."""
    before = files_below(cwd)
    done = call(cwd, *words, module="merger.cli", AWS_MAX_ATTEMPTS="2")
    check_refused(done, code, *texts, program="registry-merge")
    assert files_below(cwd) == before


@pytest.fixture
def published(tmp_path: Path) -> str:
    """A datastore with a graph."""
    (tmp_path / "work").mkdir()
    store = open_store((tmp_path / "store").as_uri())
    publish(store, make_graph())
    return store.uri


@pytest.mark.parametrize("command", ["merge", "verify"])
@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nonsense", RUN], ExitCode.USAGE, "found 'nonsense'"),
        (["s3://[b", RUN], ExitCode.USAGE, "found 's3://[b'"),
        (["s3://key:secret@b/x", RUN], ExitCode.USAGE, "argument 2 holds a password or key"),
        (["file:///x", "u/../x"], ExitCode.USAGE, "RUN 'u/../x'"),
        (["file:///no-such-directory", "u/x"], ExitCode.ERROR, "expected a graph record"),
        (["file:///x"], ExitCode.USAGE, "expected DATASTORE and RUN"),
        (["a", "b", "c"], ExitCode.USAGE, "expected DATASTORE and RUN"),
        (["file:///x", RUN, "--nonsense"], ExitCode.USAGE, "--nonsense"),
        (["s3://b", RUN, "--endpoint-url", "x"], ExitCode.USAGE, "address of an S3 service"),
    ],
)
def test_arguments(tmp_path: Path, command: str, words: list[str], code: int, text: str) -> None:
    check(tmp_path, [command, *words, "--database", NO_DATABASE], code, text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("databaze: x\n", "databaze"),
        ("batch_size: many\n", "batch_size"),
        ("a: [", "config.yaml"),
        ("batch_size: 1\nlease: 2\nbatch_size: 3\n", "line 3: expected each key once"),
        ("? [a]\n: 1\n", "expected YAML"),
        (None, "No such file"),
    ],
)
def test_configuration(tmp_path: Path, content: str | None, text: str) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    words = ["merge", "file:///x", RUN, "--config", "config.yaml"]
    check(tmp_path, words, ExitCode.USAGE, "config.yaml", text)


@pytest.mark.parametrize("command", ["merge", "verify"])
def test_database_that_is_not_there(tmp_path: Path, published: str, command: str) -> None:
    words = [command, published, RUN, "--database", NO_DATABASE]
    done = call(tmp_path / "work", *words, module="merger.cli")
    texts = ("central registry: ", "127.0.0.1", "; what was merged stays; run it again later")
    check_refused(done, ExitCode.UNAVAILABLE, *texts, program="registry-merge")


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize("command", ["merge", "verify"])
def test_datastore_that_refuses(tmp_path: Path, s3_endpoint: str, command: str) -> None:
    words = [command, "s3://not-there/x", RUN, "--database", NO_DATABASE, "--endpoint-url"]
    check(tmp_path, [*words, s3_endpoint], ExitCode.UNAVAILABLE, "NoSuchBucket")
    words[1] = f"s3://{BUCKET}/x"
    with S3Proxy(s3_endpoint, lambda method, key: Fault(403, "AccessDenied")) as proxy:
        check(tmp_path, [*words, proxy.endpoint], ExitCode.NOT_PERMITTED, "S3 said AccessDenied")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
        check(tmp_path, [*words, closed], ExitCode.UNAVAILABLE, "Could not connect", closed)
