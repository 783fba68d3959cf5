# SPDX-License-Identifier: BSD-3-Clause
"""The repo object: what a task sees of its quantum."""

import json
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest

from executor import private_registry
from executor.repo import Repo, RepoError
from executor.storage_classes import UnknownStorageClassError
from registry import names
from registry.delta import MetricRow, ReadInput
from registry.job import TaskCall
from registry.model import DatasetRef, DatasetType, DimensionRecord
from tests.samples import (
    ATTEMPT_ID,
    CALEXP_ID,
    DATA_ID,
    QUANTUM_ID,
    RAW_CONTENT,
    RAW_ID,
    RAW_KEY,
    RUN,
    make_input,
    make_job,
    make_output,
)

OTHER_ID = "other"
JOB = make_job(
    task=TaskCall(function="m:f", config={"gain": 1.5}),
    inputs=[make_input(), make_input(dataset_id=OTHER_ID, path="raw/other", optional=True)],
    outputs=[make_output(), make_output(dataset_id="second", path=f"{RUN}/second")],
)
READ = [ReadInput(RAW_ID, None, RAW_KEY, 1, "sha256:00")]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repo with one input that is there, and one optional one that is not."""
    private_registry.create(tmp_path / names.PRIVATE_REGISTRY, JOB, READ)
    path = tmp_path / "repo" / make_input().path
    path.parent.mkdir(parents=True)
    path.write_bytes(RAW_CONTENT)
    return Repo(JOB, ATTEMPT_ID, tmp_path)


def test_who_one_is(repo: Repo) -> None:
    assert (repo.run, repo.task_label, repo.data_id) == (RUN, "calibrate", DATA_ID)
    assert (repo.quantum_id, repo.attempt_id) == (QUANTUM_ID, ATTEMPT_ID)
    assert repo.config["gain"] == 1.5
    assert repo.log.name == "calibrate"


def test_inputs_that_are_there(repo: Repo) -> None:
    ref = DatasetRef(RAW_ID, "raw", DATA_ID, "raw/all")
    assert repo.input_refs("raw") == [ref]
    assert repo.input_ref("raw") == ref
    assert repo.get("raw") == repo.get(ref) == RAW_CONTENT


def test_several_inputs_are_read_by_their_refs(repo: Repo, tmp_path: Path) -> None:
    refs = [DatasetRef(i.dataset_id, "raw", DATA_ID, i.run) for i in JOB.inputs]
    (tmp_path / "repo" / JOB.inputs[1].path).parent.mkdir(exist_ok=True)
    (tmp_path / "repo" / JOB.inputs[1].path).write_bytes(b"other")
    assert repo.input_refs("raw") == refs
    assert repo.get(refs[1]) == b"other"
    with pytest.raises(RepoError, match="input 'raw': expected exactly one dataset, found 2"):
        repo.get("raw")


def test_no_input_at_all_is_told(repo: Repo) -> None:
    repo.path(repo.input_ref("raw")).unlink()
    assert repo.input_refs("raw") == []
    with pytest.raises(RepoError, match="input 'raw': expected exactly one dataset, found 0"):
        repo.get("raw")


def test_outputs(repo: Repo, tmp_path: Path) -> None:
    first, second = repo.output_refs("calexp")
    assert first == DatasetRef(CALEXP_ID, "calexp", DATA_ID, RUN)
    repo.put(b"1", first)
    repo.put(b"2", second)
    assert (tmp_path / "repo" / make_output().path).read_bytes() == b"1"
    assert repo.path(second).read_bytes() == b"2"
    with pytest.raises(RepoError, match="output 'calexp': expected exactly one dataset, found 2"):
        repo.put(b"3", "calexp")


def test_single_output_is_written_by_its_type(tmp_path: Path) -> None:
    repo = Repo(make_job(), ATTEMPT_ID, tmp_path)
    repo.put(b"pixels", "calexp")
    assert repo.path(repo.output_ref("calexp")).read_bytes() == b"pixels"


@pytest.mark.parametrize("dataset_type", ["calexp", "nothing"])
def test_type_that_is_no_input_is_told(repo: Repo, dataset_type: str) -> None:
    with pytest.raises(RepoError, match=rf"input '{dataset_type}': expected one of \['raw'\] for"):
        repo.get(dataset_type)


def test_missing_optional_input_is_told(repo: Repo) -> None:
    ref = DatasetRef(OTHER_ID, "raw", DATA_ID, "raw/all")
    for action in (repo.get, repo.path, repo.uri):
        with pytest.raises(
            RepoError, match=r"raw \(.*: expected an input that is there, found none"
        ):
            action(ref)


def two_exposures(tmp_path: Path) -> Repo:
    """A repo with inputs and outputs of two exposures."""
    ids = [{"exposure": 3, "detector": 1}, {"exposure": 4, "detector": 1}]
    inputs = [make_input(dataset_id=f"i{n}", data_id=i, path=f"i{n}") for n, i in enumerate(ids)]
    outputs = [make_output(dataset_id=f"o{n}", data_id=i, path=f"o{n}") for n, i in enumerate(ids)]
    (tmp_path / "repo").mkdir()
    for predicted in inputs:
        (tmp_path / "repo" / predicted.path).write_text(predicted.path)
    return Repo(make_job(inputs=inputs, outputs=outputs), ATTEMPT_ID, tmp_path)


def test_refs_are_chosen_by_data_id(tmp_path: Path) -> None:
    repo = two_exposures(tmp_path)
    assert repo.get(repo.input_ref("raw", exposure=4)) == b"i1" == repo.get("raw", exposure=4)
    repo.put(b"four", "calexp", exposure=4)
    assert repo.get(repo.output_ref("calexp", exposure=4)) == b"four"
    assert repo.output_ref("calexp", exposure=3, detector=1).dataset_id == "o0"
    assert len(repo.input_refs("raw", detector=1)) == len(repo.output_refs("calexp")) == 2
    assert repo.input_refs("raw", exposure="4") == repo.output_refs("calexp", detector=2) == []
    with pytest.raises(
        RepoError, match=r"input 'raw' \(exposure=5\): expected exactly one dataset"
    ):
        repo.input_ref("raw", exposure=5)
    with pytest.raises(RepoError, match=r"expected a ref alone, found exposure=3 beside it"):
        repo.get(repo.input_ref("raw", exposure=4), exposure=3)


def test_dimension_that_a_type_does_not_have_is_told(tmp_path: Path) -> None:
    message = r"'calexp': expected dimensions among \['exposure', 'detector'\], found \['expos'\]"
    with pytest.raises(RepoError, match=message):
        two_exposures(tmp_path).output_refs("calexp", expos=3)


def test_second_put_replaces_the_first(tmp_path: Path) -> None:
    repo = Repo(make_job(), ATTEMPT_ID, tmp_path)
    repo.put(b"older and longer", "calexp")
    repo.put(b"newer", "calexp")
    assert repo.get(repo.output_ref("calexp")) == b"newer"
    assert repo.uri(repo.output_ref("calexp")) == repo.path(repo.output_ref("calexp")).as_uri()


UNSUITABLE = [
    (
        "Json",
        {"a": {1}},
        "a dict cannot be written as storage class Json: TypeError: Object of type",
    ),
    (
        "Parquet",
        [1],
        r"a list cannot be written as storage class Parquet: TypeError: expected a pya",
    ),
    ("Fits", 1, "a int cannot be written as storage class Fits: AttributeError"),
    ("NumpyArray", [object()], "a list cannot be written as storage class NumpyArray: ValueError"),
    ("File", "text", "a str cannot be written as storage class File: TypeError"),
]


@pytest.mark.parametrize(("name", "value", "message"), UNSUITABLE)
def test_unsuitable_value_is_told_and_changes_nothing(
    tmp_path: Path, name: str, value: object, message: str
) -> None:
    repo = repo_of(tmp_path, name)
    path = repo.path(repo.output_ref("calexp"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"older")
    with pytest.raises(RepoError, match=r"calexp \(exposure=0, detector=1\): " + message):
        repo.put(value, "calexp")
    assert path.read_bytes() == b"older"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize("name", ["Json", "Yaml", "Parquet", "NumpyArray", "Fits"])
def test_damaged_file_is_told(tmp_path: Path, name: str) -> None:
    repo = repo_of(tmp_path, name)
    ref = repo.output_ref("calexp")
    with pytest.raises(
        RepoError, match=r"calexp \(.*: expected a file at .*calexp_0_1.*, found none"
    ):
        repo.get(ref)
    repo.path(ref).parent.mkdir(parents=True)
    repo.path(ref).write_bytes(b"\xff[damaged")
    message = rf"calexp \(.*: expected storage class {name} at {repo.path(ref)}, found what cannot"
    with pytest.raises(RepoError, match=message):
        repo.get(ref)


@pytest.mark.parametrize("name", ["Json", "Yaml", "NumpyArray"])
def test_each_get_gives_a_value_of_its_own(tmp_path: Path, name: str) -> None:
    repo = repo_of(tmp_path, name)
    repo.put(np.zeros(3) if name == "NumpyArray" else [0, 0, 0], "calexp")
    ref = repo.output_ref("calexp")
    first, second = repo.get(ref), repo.get(ref)
    first[0] = 9
    repo.path(ref).unlink()
    assert (first[0], second[0]) == (9, 0)


def test_package_that_is_not_installed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    repo = repo_of(tmp_path, "Yaml")
    path = repo.path(repo.output_ref("calexp"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}")
    for action in (lambda: repo.put({}, "calexp"), lambda: repo.get(repo.output_ref("calexp"))):
        with pytest.raises(RepoError, match="storage class Yaml needs a package that is not inst"):
            action()


def repo_of(tmp_path: Path, storage_class: str) -> Repo:
    """A repo whose output has another storage class."""
    kind = DatasetType("calexp", ["exposure", "detector"], storage_class, ".img")
    job = make_job(dataset_types=[kind, *JOB.dataset_types[1:]])
    return Repo(job, ATTEMPT_ID, tmp_path)


def test_versions_are_kept(repo: Repo, tmp_path: Path) -> None:
    repo.version("calibration set", "2026-03")
    repo.version("sextractor", "2.28.0")
    repo.version("sextractor", "2.28.1")
    found = json.loads((tmp_path / names.VERSIONS_FILE).read_bytes())
    assert found == {"calibration set": "2026-03", "sextractor": "2.28.1"}


@pytest.mark.parametrize("version", ["", "x" * 201, "a\nb", 2])
def test_version_that_cannot_be_kept_is_refused(repo: Repo, version: str) -> None:
    with pytest.raises(RepoError, match="of 'tool': expected two texts of 1 to 200 printable"):
        repo.version("tool", version)


def test_foreign_ref_is_told(repo: Repo) -> None:
    foreign = DatasetRef("x", "raw", {"exposure": 9}, RUN)
    for action in (repo.get, repo.path):
        with pytest.raises(RepoError, match=r"raw \(exposure=9\): expected an input or output of"):
            action(foreign)


def test_input_is_not_written(repo: Repo) -> None:
    with pytest.raises(RepoError, match=r"raw \(.*\): expected an output to write, found an input"):
        repo.put(b"x", repo.input_ref("raw"))
    assert repo.get("raw") == RAW_CONTENT


def test_type_without_reader_is_told(tmp_path: Path) -> None:
    kind = DatasetType("calexp", ["exposure", "detector"], "Pickle", ".pickle")
    repo = Repo(make_job(dataset_types=[kind, *JOB.dataset_types[1:]]), ATTEMPT_ID, tmp_path)
    with pytest.raises(UnknownStorageClassError, match="found 'Pickle'"):
        repo.put(b"x", "calexp")


def test_records_are_read(repo: Repo) -> None:
    assert repo.dimension_record("exposure") == {"airmass": 1.25}
    assert repo.dimension_record("exposure", {"exposure": 0}) == {"airmass": 1.25}
    for data_id in ({"exposure": 1}, {}, {"detector": 1}):
        with pytest.raises(RepoError, match="dimension 'exposure': expected a record for"):
            repo.dimension_record("exposure", dict(data_id))


def test_what_is_reported_comes_out(tmp_path: Path) -> None:
    path = tmp_path / names.PRIVATE_REGISTRY
    seeded = private_registry.create(path, JOB, READ)
    repo = Repo(JOB, ATTEMPT_ID, tmp_path)
    repo.metric("n_stars", 3)
    repo.metric("n_stars", 4)
    repo.add_dimension_record("star", {"star": 7}, {"mag": 17.5})
    rows = private_registry.added_rows(path, seeded, JOB, ATTEMPT_ID)
    assert rows.metric == [MetricRow("n_stars", 4.0)]
    assert rows.dimension_record == [DimensionRecord("star", {"star": 7}, {"mag": 17.5})]
    assert repo.dimension_record("star", {"star": 7}) == {"mag": 17.5}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metric_that_is_no_number_is_refused_at_once(repo: Repo, value: float) -> None:
    with pytest.raises(RepoError, match="metric 'seeing': expected a finite number"):
        repo.metric("seeing", value)


def test_record_twice_is_refused_at_once(repo: Repo) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        repo.add_dimension_record("exposure", {"exposure": 0}, {"airmass": 2})
