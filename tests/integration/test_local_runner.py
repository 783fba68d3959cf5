# SPDX-License-Identifier: BSD-3-Clause
"""The local runner: order, failing branches, and what a second call runs."""

import fcntl
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from executor.exit_codes import ExitCode
from registry import names
from registry.attempt import AttemptStatus
from tests.local_graphs import GraphRun, make_survey

N_EXPOSURES = 3


@pytest.fixture(params=["directory", "s3"])
def graph_run(request: pytest.FixtureRequest, tmp_path: Path) -> GraphRun:
    """A graph of two steps for each of three exposures and one over all, on each datastore."""
    is_s3 = request.param == "s3"
    uri = request.getfixturevalue("datastore") if is_s3 else (tmp_path / "store").as_uri()
    return GraphRun(tmp_path, uri, make_survey(N_EXPOSURES))


@pytest.fixture
def local(tmp_path: Path) -> GraphRun:
    """The same graph on a directory only."""
    return GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(N_EXPOSURES))


def test_whole_graph_in_dependency_order(graph_run: GraphRun) -> None:
    report = graph_run.run("-j", "2")
    assert (report.code, report.failures) == (0, []), report.stderr
    assert report.counts == {"isr": (3, 3, 0, 0), "fit": (3, 3, 0, 0), "coadd": (1, 1, 0, 0)}
    expected = "".join(f"raw {number}\nisr\nfit\n" for number in range(N_EXPOSURES))
    assert graph_run.content("coadd") == [expected.encode()]
    deltas = {delta.task_label: delta for delta in graph_run.counting().values()}
    assert deltas["fit"].started > deltas["isr"].started
    assert deltas["coadd"].started > deltas["fit"].finished


def test_second_call_runs_nothing(graph_run: GraphRun) -> None:
    graph_run.run()
    before = graph_run.keys()
    report = graph_run.run()
    assert report.code == 0
    assert report.counts["isr"] == (3, 3, 0, 0)
    assert graph_run.keys() == before


def test_failing_branch_stops_and_the_others_go_on(local: GraphRun) -> None:
    local.fail("fit", exposure=1)
    report = local.run("-j", "2")
    assert report.code == ExitCode.FAILED
    assert report.counts == {"isr": (3, 3, 0, 0), "fit": (3, 2, 1, 0), "coadd": (1, 0, 0, 1)}
    (failure,) = report.failures
    assert failure.startswith("fit (exposure=1), quantum ")
    assert "ended with exit code 3; its log ends:\nfit of exposure 1 does not converge" in failure
    log_key = failure.partition("log: ")[2]
    assert gzip.decompress(local.store.get(log_key)) == b"fit of exposure 1 does not converge\n"
    assert not local.content("coadd")


def test_mended_graph_runs_only_what_is_missing(local: GraphRun) -> None:
    local.fail("fit", exposure=1)
    local.run()
    before = local.attempts()
    local.mend()
    report = local.run()
    assert report.code == 0, report.stderr
    new = Counter(local.attempts()) - Counter(before)
    assert sorted(new.elements()) == [
        ("coadd", AttemptStatus.SUCCESSFUL),
        ("fit", AttemptStatus.SUCCESSFUL),
    ]
    assert len(local.counting()) == 7


def test_damaged_delta_is_run_again(local: GraphRun) -> None:
    local.run()
    key = next(k for k in local.keys() if "/deltas/" in k)
    local.store.put(key, local.store.get(key)[:-1])
    assert len(local.counting()) == 6
    assert local.run().code == 0
    assert len(local.counting()) == 7


@pytest.mark.parametrize("jobs", [1, 3])
def test_as_many_at_once_as_allowed(tmp_path: Path, jobs: int) -> None:
    document = make_survey(3)
    shared = tmp_path / "shared"
    shared.mkdir()
    # Each counts who is there at the same time; with three allowed, each waits for the others.
    script = (
        "cd $1; touch in.$2;"
        "[ $3 = 1 ] || until [ $(ls in.* | wc -l) -ge $3 ]; do sleep 0.01; done;"
        "ls in.* | wc -l > seen.$2; [ $3 = 1 ] && rm in.$2; cp $4 $5"
    )
    document["tasks"]["isr"]["command"] = [
        *("sh", "-c", script, "sh", str(shared), "{data_id:exposure}", str(jobs)),
        *("{input:raw}", "{output:isr}"),
    ]
    report = GraphRun(tmp_path, (tmp_path / "store").as_uri(), document).run("-j", str(jobs))
    assert report.code == 0, report.stderr
    assert {int(path.read_text()) for path in shared.glob("seen.*")} == {jobs}


def test_functions_beside_the_graph_file_are_found(local: GraphRun) -> None:
    local.document["tasks"]["isr"] = {"function": "survey_tasks:correct"}
    source = "def correct(repo):\n    repo.put(repo.get('raw') + b'isr\\n', 'isr')\n"
    (local.graph_file.parent / "survey_tasks.py").write_text(source)
    report = local.run(cwd=Path("/"))
    assert report.code == 0, report.failures


def test_wrappers_get_no_address_and_no_secret(local: GraphRun) -> None:
    script = "tr '\\0' '\\n' < /proc/$PPID/environ; env; cp {input:raw} {output:isr}"
    local.document["tasks"]["isr"]["command"] = ["sh", "-c", script]
    local.environment.update(PGPASSWORD="pg-secret", AWS_SECRET_ACCESS_KEY="aws-secret")
    assert local.run().code == 0
    logs = b"".join(
        gzip.decompress(local.store.get(key)) for key in local.keys() if "/logs/" in key
    )
    assert b"QUANTUM_EXEC_RUN" in logs
    assert b"pg-secret" not in logs and b"aws-secret" not in logs


def test_no_work_makes_no_work_downstream(local: GraphRun) -> None:
    local.document["tasks"]["isr"]["command"] = ["sh", "-c", "exit 79"]
    local.document["tasks"]["coadd"]["optional_inputs"] = ["fit"]
    report = local.run()
    assert report.code == 0, report.failures
    no_work = {d.task_label for d in local.counting().values() if d.no_work}
    assert no_work == {"isr", "fit"}
    assert local.content("coadd") == [b""]


def test_missing_input_is_a_failure_like_any_other(local: GraphRun) -> None:
    local.prepare()
    local.store.delete("raw/1.txt")
    report = local.run()
    assert report.code == ExitCode.FAILED
    assert report.counts == {"isr": (3, 2, 1, 0), "fit": (3, 2, 0, 1), "coadd": (1, 0, 0, 1)}
    assert "raw/1.txt: not found" in report.failures[0]


def test_run_of_another_graph_is_refused(local: GraphRun) -> None:
    local.run()
    del local.document["quanta"][0]
    refused = local.run()
    assert refused.code == ExitCode.OTHER_GRAPH
    assert "choose another RUN, or --extend it" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert local.run("--extend").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["graph.yaml", "--datastore", "gs://b"], "expected s3://bucket/prefix or file:///dir"),
        (["none.yaml", "--datastore", "file:///tmp"], "none.yaml: cannot be read: "),
        (["graph.yaml", "--datastore", "file:///tmp", "--run", "a//b"], "part '' must begin"),
        (["graph.yaml"], "Missing option '--datastore'"),
        (["graph.yaml", "--datastore", "file:///tmp", "-j", "0"], "Invalid value for '-j'"),
    ],
)
def test_wrong_usage_is_told_in_a_line(local: GraphRun, arguments: list[str], message: str) -> None:
    local.prepare()
    command = [sys.executable, "-m", "executor", "run-local", *arguments]
    done = subprocess.run(command, cwd=local.directory, capture_output=True, text=True)
    assert done.returncode == ExitCode.USAGE
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_report_for_people(local: GraphRun) -> None:
    local.fail("fit", exposure=0)
    done = local.call("run-local")
    assert done.returncode == ExitCode.FAILED
    rows = [line.split()[:5] for line in done.stdout.splitlines()]
    assert ["isr", "3", "3", "0", "0"] in rows
    assert ["fit", "3", "2", "1", "0"] in rows
    assert "fit (exposure=0), quantum" in done.stderr


def test_sandboxes_are_removed(local: GraphRun) -> None:
    local.fail("fit", exposure=1)
    local.run()
    assert list(local.scratch.iterdir()) == []


def test_only_what_killed_runners_left_is_removed(local: GraphRun) -> None:
    local.scratch.mkdir()
    for name in ("quantum-exec-dead", "quantum-exec-living", "quantum-exec-foreign", "other"):
        (local.scratch / name).mkdir()
    for name in ("quantum-exec-dead", "quantum-exec-living", "other"):
        (local.scratch / name / "lock").touch()
    with (local.scratch / "quantum-exec-living" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert local.run().code == 0
    left = sorted(os.listdir(local.scratch))
    assert left == ["other", "quantum-exec-foreign", "quantum-exec-living"]


def test_two_runners_at_once_make_one_result(local: GraphRun) -> None:
    runners = [local.start("-j", "2") for _ in range(2)]
    for runner in runners:
        runner.communicate(timeout=120)
    assert [runner.returncode for runner in runners] == [0, 0]
    assert len(local.counting()) == 7
    assert local.run().code == 0
    assert len(local.content("coadd")) == 1


def test_directory_that_cannot_hold_sandboxes_is_told(local: GraphRun) -> None:
    (local.directory / "scratch").write_text("a file")
    report = local.call("run-local", "--scratch", str(local.scratch))
    assert report.returncode == ExitCode.SANDBOX_UNUSABLE
    assert "Traceback" not in report.stderr
    assert f"scratch {local.scratch}: expected a directory to write in" in report.stderr


def test_json_report_is_one_object(local: GraphRun) -> None:
    done = local.call("run-local", "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["run"] == local.document["run"]
    assert [task["task_label"] for task in report["tasks"]] == ["isr", "fit", "coadd"]
    assert report["tasks"][0]["min_s"] <= report["tasks"][0]["mean_s"]
    assert names.CONTROL not in str(report["failures"])
