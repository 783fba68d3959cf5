# SPDX-License-Identifier: BSD-3-Clause
"""Datasets that the task reads and writes in the datastore itself."""

from pathlib import Path
from typing import Any

import pytest

from executor.direct_data import DirectDatasets, NoPathError
from executor.outputs import OutputError
from executor.repo import Repo, RepoError
from executor.storage_classes import StorageClass, storage_class
from registry import names
from registry.job import DataMode
from registry.model import DatasetRef, DatasetType
from registry.staging import StageInReport, StageOutFile
from tests.samples import (
    ATTEMPT_ID,
    CALEXP_ID,
    RAW_CONTENT,
    RAW_ID,
    RAW_KEY,
    RUN,
    make_input,
    make_job,
    make_output,
)
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import (
    ChecksumMismatchError,
    DirectoryObjectStore,
    ObjectStore,
    open_store,
)
from transfer_plugins.s3_object_store import S3ObjectStore
from transfer_plugins.stage_in import stage_in

OPTIONAL_ID = "optional"
# A format whose library knows nothing but paths.
BY_PATH = StorageClass(lambda path: path.read_bytes(), lambda value, path: _write(path, value))
CONTENT = b"calibrated"


def _write(path: Path, value: bytes) -> None:
    path.write_bytes(value)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A datastore of each kind, with the raw exposure."""
    uri = (tmp_path / "store").as_uri()
    store = open_store(
        uri if request.param == "directory" else request.getfixturevalue("datastore")
    )
    store.put(RAW_KEY, RAW_CONTENT)
    return store


class Direct:
    """A job in direct mode, staged in."""

    def __init__(self, store: ObjectStore, tmp_path: Path, **changes: Any) -> None:
        self.sandbox = tmp_path / "sandbox"
        self.sandbox.mkdir()
        self.job = make_job(data_mode=DataMode.DIRECT, **changes)
        self.report: StageInReport = stage_in(self.job, store, self.sandbox)
        self.datasets = DirectDatasets(self.job, self.report, self.sandbox)

    @property
    def repo(self) -> Repo:
        """The repo object."""
        return Repo(self.job, self.report.attempt_id, self.sandbox)

    @property
    def key(self) -> str:
        """Key of the output."""
        extension = next(t.extension for t in self.job.dataset_types if t.name == "calexp")
        return names.dataset_key(make_output().path, extension, self.report.attempt_id)

    def files(self) -> list[str]:
        """Files in the sandbox that stage-in did not make."""
        known = {names.JOB_FILE, names.STAGE_IN_FILE, names.STAGE_OUT_FILE}
        return [p.name for p in self.sandbox.rglob("*") if p.is_file() and p.name not in known]


def test_task_reads_and_writes_there(store: ObjectStore, tmp_path: Path) -> None:
    direct = Direct(store, tmp_path)
    direct.repo.put(direct.repo.get("raw").upper(), "calexp")
    assert store.get(direct.key) == RAW_CONTENT.upper()
    assert direct.repo.get(direct.repo.output_ref("calexp")) == RAW_CONTENT.upper()
    assert direct.files() == []


@pytest.mark.parametrize("storage", [storage_class("File"), BY_PATH], ids=["bytes", "path"])
def test_formats_may_need_a_path(store: ObjectStore, tmp_path: Path, storage: StorageClass) -> None:
    direct = Direct(store, tmp_path)
    assert direct.datasets.read(RAW_ID, storage) == RAW_CONTENT
    direct.datasets.write(CALEXP_ID, b"older and longer", storage)
    direct.datasets.write(CALEXP_ID, CONTENT, storage)
    assert store.get(direct.key) == CONTENT
    assert direct.files() == []


@pytest.mark.parametrize("storage", [storage_class("File"), BY_PATH], ids=["bytes", "path"])
def test_bytes_are_verified(store: ObjectStore, tmp_path: Path, storage: StorageClass) -> None:
    direct = Direct(store, tmp_path)
    store.put(RAW_KEY, RAW_CONTENT[::-1])
    found = checksum_of_bytes(RAW_CONTENT[::-1])
    with pytest.raises(ChecksumMismatchError, match=f"{RAW_KEY}: expected sha256.*, found {found}"):
        direct.datasets.read(RAW_ID, storage)
    assert direct.files() == []


def test_unsuitable_value_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    direct = Direct(store, tmp_path)
    with pytest.raises(RepoError, match="a int cannot be written as storage class File: TypeError"):
        direct.repo.put(1, "calexp")
    assert [stored.key for stored in store.list_objects("")] == [RAW_KEY]
    assert direct.files() == []


def test_compression_follows_the_name(store: ObjectStore, tmp_path: Path) -> None:
    from astropy.io import fits

    kind = DatasetType("calexp", ["exposure", "detector"], "Fits", ".img.gz")
    direct = Direct(store, tmp_path, dataset_types=[kind, *make_job().dataset_types[1:]])
    direct.repo.put(fits.PrimaryHDU(), "calexp")
    (stored,) = store.list_objects(f"{RUN}/calexp/")
    assert store.get(stored.key)[:2] == b"\x1f\x8b"


def test_missing_input_is_told(store: ObjectStore, tmp_path: Path) -> None:
    missing = make_input(dataset_id=OPTIONAL_ID, optional=True)
    direct = Direct(store, tmp_path)
    job = make_job(data_mode=DataMode.DIRECT, inputs=[make_input(), missing])
    repo = Repo(job, ATTEMPT_ID, direct.sandbox)
    assert [ref.dataset_id for ref in repo.input_refs("raw")] == [RAW_ID]
    ref = DatasetRef(OPTIONAL_ID, "raw", missing.data_id, missing.run)
    for action in (repo.get, repo.path, repo.uri):
        with pytest.raises(
            RepoError, match=r"raw \(.*: expected an input that is there, found none"
        ):
            action(ref)


def test_where_datasets_are(store: ObjectStore, tmp_path: Path) -> None:
    direct = Direct(store, tmp_path)
    ref = direct.repo.output_ref("calexp")
    assert direct.repo.uri(ref) == f"{store.uri}/{direct.key}"
    if isinstance(store, DirectoryObjectStore):
        assert direct.repo.path(ref) == store.root / direct.key
        assert direct.datasets.location(CALEXP_ID) == str(store.root / direct.key)
    else:
        assert direct.datasets.location(CALEXP_ID) == f"{store.uri}/{direct.key}"
        with pytest.raises(NoPathError, match=f"{direct.key}: expected a file, found an object in"):
            direct.repo.path(ref)


def test_outputs_are_measured(store: ObjectStore, tmp_path: Path) -> None:
    outputs = [make_output(), make_output(dataset_id=OPTIONAL_ID, path="x", optional=True)]
    direct = Direct(store, tmp_path, outputs=outputs)
    direct.datasets.prepare_outputs()
    store.put(direct.key, CONTENT)
    found = StageOutFile(direct.key, direct.key, len(CONTENT), checksum_of_bytes(CONTENT), 0)
    assert direct.datasets.measure_outputs(may_be_missing=False) == [found, None]


def test_what_others_wrote_into_s3_is_read_once(datastore: str, tmp_path: Path) -> None:
    store = open_store(datastore)
    assert isinstance(store, S3ObjectStore)
    store.put(RAW_KEY, RAW_CONTENT)
    direct = Direct(store, tmp_path)
    store.put(direct.key, b"by put")
    store.client.put_object(
        Bucket=store.bucket, Key=f"{store.prefix}{direct.key}", Body=b"by others"
    )
    (found,) = direct.datasets.measure_outputs(may_be_missing=False)
    assert found is not None
    assert (found.size_bytes, found.checksum) == (9, checksum_of_bytes(b"by others"))


def test_missing_output_is_told(store: ObjectStore, tmp_path: Path) -> None:
    datasets = Direct(store, tmp_path).datasets
    where = datasets.location(CALEXP_ID)
    with pytest.raises(
        OutputError, match=rf"output calexp \(.*: expected a file at {where}, found"
    ):
        datasets.measure_outputs(may_be_missing=False)
    assert datasets.measure_outputs(may_be_missing=True) == [None]


@pytest.mark.parametrize("kind", ["directory", "link", "link above"])
def test_only_regular_files_of_the_datastore_are_taken(tmp_path: Path, kind: str) -> None:
    store = DirectoryObjectStore(tmp_path / "store")
    store.put(RAW_KEY, RAW_CONTENT)
    direct = Direct(store, tmp_path)
    path, elsewhere = direct.datasets.path(CALEXP_ID), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / path.name).write_bytes(CONTENT)
    path.parent.parent.mkdir(parents=True)
    if kind == "link above":
        path.parent.symlink_to(elsewhere)
    else:
        path.parent.mkdir()
        path.mkdir() if kind == "directory" else path.symlink_to(store.path(RAW_KEY))
    with pytest.raises(OutputError, match="expected a regular file at"):
        direct.datasets.measure_outputs(may_be_missing=False)


def test_what_an_earlier_try_left_is_removed(tmp_path: Path) -> None:
    store = DirectoryObjectStore(tmp_path / "store")
    store.put(RAW_KEY, RAW_CONTENT)
    direct = Direct(store, tmp_path)
    store.put(direct.key, CONTENT)
    direct.datasets.prepare_outputs()
    assert [stored.key for stored in store.list_objects("")] == [RAW_KEY]
    assert direct.datasets.path(CALEXP_ID).parent.is_dir()


def test_endpoint_is_told_to_commands(tmp_path: Path) -> None:
    endpoint = "http://s3.example.org:9000"
    report = StageInReport("q", ATTEMPT_ID, "now", datastore="s3://b/x", endpoint_url=endpoint)
    datasets = DirectDatasets(make_job(), report, tmp_path)
    assert datasets.environment == {"AWS_ENDPOINT_URL": endpoint}
