# SPDX-License-Identifier: BSD-3-Clause
"""Direct mode through ``quantum-exec run-local``: the same RUN comes of it as in staged mode."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry import names
from registry.job import DataMode, read_job
from tests.chain_graph import make_document, quantum_id
from tests.local_graphs import RUN, GraphRun
from tests.run_outcome import (
    named_by_verify,
    registry_content,
    registry_merge,
)

if TYPE_CHECKING:
    from tests.fix_chain import Reference

DIRECT = ("--data", "direct", "-j", "1")
# What the commands of the graph do, with the repo object.
FUNCTIONS = """
def split(repo):
    raw = repo.get("raw")
    repo.put(raw + b"left\\n", "left")
    repo.put(raw + b"right\\n", "right")

def join(repo):
    left, right = repo.get("left"), repo.get("right")
    repo.put(left + right + b"\\n", "sum")
    repo.put(b"\\n" + right + left, "difference")
    repo.metric("n_lines", 6)
    repo.add_dimension_record("visit", {"visit": 1}, {"n": 6})

def show(repo):
    repo.put(repo.get("sum") + repo.get("difference"), "plot")
"""
# A command that knows S3 by itself, and writes through no code of ours.
COPY_IN_S3 = """
import sys, boto3
client = boto3.client("s3")
(source, target) = (uri.removeprefix("s3://").split("/", 1) for uri in sys.argv[1:])
content = client.get_object(Bucket=source[0], Key=source[1])["Body"].read()
client.put_object(Bucket=target[0], Key=target[1], Body=content)
"""


def chain(tmp_path: Path, datastore: str, *, functions: bool = False) -> GraphRun:
    """The three quanta in a row, of commands or of functions."""
    document = make_document()
    if functions:
        (tmp_path / "chain_tasks.py").write_text(FUNCTIONS)
        labels = list(document["tasks"])
        document["tasks"] = {label: {"function": f"chain_tasks:{label}"} for label in labels}
    return GraphRun(tmp_path, datastore, document)


@pytest.mark.parametrize("place", ["directory, commands", "directory, functions", "S3, functions"])
def test_everything_is_as_in_staged_mode(
    tmp_path: Path,
    place: str,
    database: str,
    reference: "Reference",
    request: pytest.FixtureRequest,
) -> None:
    in_s3 = place.startswith("S3")
    uri = request.getfixturevalue("datastore") if in_s3 else (tmp_path / "store").as_uri()
    graph_run = chain(tmp_path, uri, functions=place.endswith("functions"))
    report = graph_run.run(*DIRECT)
    assert (report.code, report.failures) == (0, [])
    assert graph_run.result() == reference.result
    registry_merge("merge", database, graph_run.store, RUN)
    assert registry_content(database) == reference.content
    assert named_by_verify(database, graph_run.store, RUN) == {}


def test_job_says_so(tmp_path: Path) -> None:
    graph_run = chain(tmp_path, (tmp_path / "store").as_uri())
    for options, mode in ((DIRECT, DataMode.DIRECT), (("-j", "1"), DataMode.STAGED)):
        assert graph_run.run(*options).code == 0
        content = graph_run.store.get(names.job_key(RUN, quantum_id("join")))
        assert read_job(content, "job").data_mode is mode
    assert len(graph_run.attempts()) == 3


@pytest.mark.parametrize(
    ("victim", "message"),
    [
        pytest.param("$$", "the task was killed by SIGKILL", id="task"),
        pytest.param("$PPID", "quantum-exec run ended with SIGKILL", id="wrapper"),
    ],
)
def test_attempt_killed_half_way_is_made_again(
    tmp_path: Path, database: str, reference: "Reference", victim: str, message: str
) -> None:
    graph_run = chain(tmp_path, (tmp_path / "store").as_uri())
    join = graph_run.document["tasks"]["join"]["command"]
    whole = join[2]
    # Dies with one output written and the other one begun.
    join[2] = '(cat "$1" "$2"; echo "$WORD") > "$3"; echo half > "$4"; kill -9 ' + victim
    join[2] += "; sleep 60"
    report = graph_run.run(*DIRECT)
    assert report.code == 1
    assert message in report.failures[0]
    join[2] = whole
    assert graph_run.run(*DIRECT).code == 0
    assert graph_run.result() == reference.result
    registry_merge("merge", database, graph_run.store, RUN)
    assert registry_content(database) == reference.content
    left = named_by_verify(database, graph_run.store, RUN)["orphaned"]
    assert {key.removeprefix(f"{RUN}/").split("/")[0] for key in left} == {"difference", "sum"}


def test_missing_output_fails_the_quantum(tmp_path: Path) -> None:
    graph_run = chain(tmp_path, (tmp_path / "store").as_uri())
    graph_run.document["tasks"]["split"]["command"] = ["true"]
    report = graph_run.run(*DIRECT)
    assert (report.code, report.counts["split"], report.counts["join"][3]) == (1, (1, 0, 1, 0), 1)
    place = tmp_path / "store" / RUN / "left"
    assert f"output left (exposure=1): expected a file at {place}/left_1." in report.failures[0]


def copy_task(tmp_path: Path, datastore: str, command: list[str]) -> GraphRun:
    """The first quantum alone, with one output, by a command."""
    document: dict[str, Any] = make_document()
    document["tasks"] = {"split": {"command": command}}
    document["quanta"] = document["quanta"][:1]
    del document["quanta"][0]["outputs"]["right"]
    return GraphRun(tmp_path, datastore, document)


def test_plain_copy_to_the_path_is_an_output(tmp_path: Path) -> None:
    command = ["cp", "{input:raw}", "{output:left}"]
    graph_run = copy_task(tmp_path, (tmp_path / "store").as_uri(), command)
    assert graph_run.run(*DIRECT).failures == []
    assert graph_run.content("left") == [b"raw 0\n"]


def test_command_may_write_to_s3_itself(tmp_path: Path, datastore: str) -> None:
    command = [sys.executable, "-c", COPY_IN_S3, "{input:raw}", "{output:left}"]
    graph_run = copy_task(tmp_path, datastore, command)
    assert graph_run.run(*DIRECT).failures == []
    assert graph_run.content("left") == [b"raw 0\n"]


def test_task_sees_the_settings_of_s3_and_no_others(tmp_path: Path, datastore: str) -> None:
    script = (
        "import os, sys, boto3; b, k = sys.argv[1][5:].split('/', 1);"
        "found = sorted(n for n in os.environ if n[:3] in ('AWS', 'PGP'));"
        "boto3.client('s3').put_object(Bucket=b, Key=k, Body=' '.join(found).encode())"
    )
    graph_run = copy_task(tmp_path, datastore, [sys.executable, "-c", script, "{output:left}"])
    graph_run.environment["PGPASSWORD"] = "secret"
    assert graph_run.run(*DIRECT).failures == []
    (content,) = graph_run.content("left")
    assert b"AWS_SECRET_ACCESS_KEY" in content
    assert b"PGPASSWORD" not in content


def test_file_in_the_sandbox_is_no_output(tmp_path: Path) -> None:
    command = ["sh", "-c", 'cp "$1" "$2" && cp "$1" "$3/left.txt"', "sh"]
    command += ["{input:raw}", "{output:left}", "{repo}"]
    graph_run = copy_task(tmp_path, (tmp_path / "store").as_uri(), command)
    (failure,) = graph_run.run(*DIRECT).failures
    assert "in repo/, found 'repo/left.txt'" in failure
