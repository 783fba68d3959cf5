# SPDX-License-Identifier: BSD-3-Clause
"""The command and the environment of a task."""

import json
import sys
from pathlib import Path

import pytest

from executor.task import InvalidTaskError, command_of, public_environment, task_environment
from registry.job import DataMode, Job, TaskCall
from tests.samples import ATTEMPT_ID, DATA_ID, QUANTUM_ID, RUN, make_input, make_job, make_output

OTHER = make_input(dataset_id="other", path="raw/other")


def job_with(*command: str, **changes: object) -> Job:
    """The job with two inputs, two outputs and a configuration."""
    config = {"threshold": 5.5, "name": "a b", "list": [1, {"x": None}]}
    fields = {
        "task": TaskCall(list(command), config=config),
        "inputs": [make_input(), OTHER],
        "outputs": [make_output(), make_output(dataset_id="second", path="x/second")],
    }
    return make_job(**{**fields, **changes})


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A sandbox in which both inputs are."""
    for predicted in (make_input(), OTHER):
        (tmp_path / "repo" / predicted.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / predicted.path).touch()
    return tmp_path


def expanded(sandbox: Path, *command: str, **changes: object) -> list[str]:
    """The arguments of a command."""
    return command_of(job_with(*command, **changes), ATTEMPT_ID, sandbox)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("{quantum_id}", QUANTUM_ID),
        ("{attempt_id}", ATTEMPT_ID),
        ("{run}/{task_label}", f"{RUN}/calibrate"),
        ("--exposure={data_id:exposure}", "--exposure=0"),
        ("{config:threshold}", "5.5"),
        ("{config:name}", "a b"),
        ("{config:list}", '[1,{"x":null}]'),
        ("{}", "{}"),
        ("${HOME} {unknown} {input} {a:b}", "${HOME} {unknown} {input} {a:b}"),
        ("awk '{print $1}'", "awk '{print $1}'"),
        ("", ""),
    ],
)
def test_placeholders_of_text(sandbox: Path, argument: str, value: str) -> None:
    assert expanded(sandbox, argument) == [value]


def test_placeholders_of_places(sandbox: Path) -> None:
    repo = sandbox / "repo"
    assert expanded(sandbox, "{repo}", "{registry}") == [str(repo), f"{sandbox}/registry.sqlite3"]
    one = {"inputs": [make_input()], "outputs": [make_output()]}
    found = expanded(sandbox, "-i={input:raw}", "{output:calexp}", **one)
    assert found == [f"-i={repo / make_input().path}", str(repo / make_output().path)]


def test_lists_are_one_argument_each(sandbox: Path) -> None:
    inputs = [str(sandbox / "repo" / i.path) for i in (make_input(), OTHER)]
    outputs = [str(sandbox / "repo" / path) for path in (make_output().path, "x/second")]
    assert expanded(sandbox, "{inputs:raw}", "{outputs:calexp}") == [*inputs, *outputs]
    assert expanded(sandbox, "--in={inputs:raw}") == [f"--in={' '.join(inputs)}"]


def test_input_that_is_not_there_is_left_out(sandbox: Path) -> None:
    (sandbox / "repo" / OTHER.path).unlink()
    there = str(sandbox / "repo" / make_input().path)
    assert expanded(sandbox, "{inputs:raw}", "{input:raw}") == [there, there]
    (sandbox / "repo" / make_input().path).unlink()
    assert expanded(sandbox, "cat", "{inputs:raw}") == ["cat"]


def test_values_are_not_expanded_again(sandbox: Path) -> None:
    task = TaskCall(["{config:x}"], config={"x": "{run} {config:x}"})
    assert expanded(sandbox, task=task) == ["{run} {config:x}"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("{input:raw}", r"expected one dataset for {input:raw}, found 2; use {inputs:raw}"),
        ("{output:calexp}", r"expected one dataset for {output:calexp}, found 2; use {outputs:"),
        ("{input:calexp}", r"expected one of \['raw'\] in {input:calexp}"),
        ("{inputs:x}", r"expected one of \['raw'\] in {inputs:x}"),
        ("{output:raw}", r"expected one of \['calexp'\] in {output:raw}"),
        ("{data_id:visit}", r"expected one of \['detector', 'exposure'\] in {data_id:visit}"),
        ("{config:x}", r"expected one of \['list', 'name', 'threshold'\] in {config:x}"),
    ],
)
def test_placeholder_that_names_nothing_is_told(sandbox: Path, argument: str, message: str) -> None:
    with pytest.raises(InvalidTaskError, match=f"task calibrate: {message}"):
        expanded(sandbox, "cp", argument)


def test_function_is_called_by_this_python(sandbox: Path) -> None:
    found = expanded(sandbox, task=TaskCall(function="m:f"))
    assert found == [sys.executable, "-m", "executor.function_task"]


PRIVATE = [
    *("PGHOST", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGUSER", "PGSSLKEY"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"),
    *("LSST_RESOURCES_S3_PROFILE_x", "LSST_DB_AUTH", "LSST_DB_AUTH_CREDENTIALS"),
    *("REGISTRY_MERGE_URL", "_CONDOR_CREDS", "CONDOR_CREDS"),
]
PUBLIC = ["PATH", "HOME", "PGPLOT_DIR", "PAGER", "MY_AWS_REGION", "OMP_NUM_THREADS", "pgdata"]


def test_addresses_and_secrets_are_kept_from_tasks() -> None:
    environment = {name: "x" for name in (*PRIVATE, *PUBLIC)}
    assert public_environment(environment) == {name: "x" for name in PUBLIC}


def test_in_direct_mode_a_task_sees_what_leads_to_s3_and_to_no_database() -> None:
    environment = {name: "x" for name in (*PRIVATE, *PUBLIC)}
    found = public_environment(environment, data_mode=DataMode.DIRECT).keys() - set(PUBLIC)
    assert found == {name for name in PRIVATE if name.startswith(("AWS", "S3", "LSST_RESOURCES"))}


def test_task_knows_where_and_who_it_is(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("OF_THE_USER", "kept")
    task = TaskCall(["true"], environment={"OMP_NUM_THREADS": "1", "OF_THE_USER": "changed"})
    found = task_environment(job_with(task=task), ATTEMPT_ID, sandbox)
    ours = {k.removeprefix("QUANTUM_EXEC_"): v for k, v in found.items() if "QUANTUM_EXEC" in k}
    assert json.loads(ours.pop("DATA_ID")) == DATA_ID
    assert ours == {
        "SANDBOX": str(sandbox),
        "REPO": str(sandbox / "repo"),
        "REGISTRY": str(sandbox / "registry.sqlite3"),
        "VERSIONS": str(sandbox / "versions.json"),
        "RUN": RUN,
        "QUANTUM_ID": QUANTUM_ID,
        "ATTEMPT_ID": ATTEMPT_ID,
        "TASK_LABEL": "calibrate",
    }
    assert (found["OMP_NUM_THREADS"], found["OF_THE_USER"]) == ("1", "changed")
    assert "secret" not in found.values()


def test_task_cannot_say_that_it_is_another(sandbox: Path) -> None:
    task = TaskCall(["true"], environment={"QUANTUM_EXEC_RUN": "u/other"})
    assert task_environment(job_with(task=task), ATTEMPT_ID, sandbox)["QUANTUM_EXEC_RUN"] == RUN
