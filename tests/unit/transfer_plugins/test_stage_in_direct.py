# SPDX-License-Identifier: BSD-3-Clause
"""Stage-in of a job in direct mode: inputs are found and compared, and stay where they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from registry import names, staging
from registry.delta import ReadInput
from registry.job import DataMode, PredictedInput
from tests import factories
from tests.samples import (
    ATTEMPT_ID,
    CALEXP_ID,
    DATA_ID,
    OTHER_QUANTUM_ID,
    QUANTUM_ID,
    RAW_CONTENT,
    RAW_ID,
    RAW_KEY,
    RUN,
    make_delta,
    make_input,
    make_job,
)
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import (
    ChecksumMismatchError,
    DirectoryObjectStore,
    ObjectHead,
    ObjectNotFoundError,
    ObjectStore,
)
from transfer_plugins.stage_in import InputNotReadyError, stage_in
from transfer_plugins.stage_out import read_list

RAW_CHECKSUM = checksum_of_bytes(RAW_CONTENT)
RAW_READ = ReadInput(RAW_ID, None, RAW_KEY, len(RAW_CONTENT), RAW_CHECKSUM)


class Unread(DirectoryObjectStore):
    """A store of which only deltas and heads may be asked for."""

    checksum: str | None = None

    def head(self, key: str) -> ObjectHead:
        """Tell a checksum as S3 would."""
        return replace(super().head(key), checksum=self.checksum)

    def measure(self, key: str) -> NoReturn:
        """Fail."""
        raise AssertionError(f"{key} was read")

    def _fetch(self, key: str, path: Path) -> NoReturn:
        self.measure(key)


@pytest.fixture
def store(tmp_path: Path) -> Unread:
    """A datastore that has the raw exposure."""
    store = Unread(tmp_path / "store")
    store.put(RAW_KEY, RAW_CONTENT)
    return store


def stage(store: ObjectStore, **changes: Any) -> staging.StageInReport:
    """Stage a job in direct mode in; nothing may arrive."""
    assert isinstance(store, DirectoryObjectStore)
    sandbox = store.root.parent / "sandbox"
    sandbox.mkdir()
    job = make_job(data_mode=DataMode.DIRECT, **changes)
    report = stage_in(job, store, sandbox)
    assert read_list(sandbox) == staging.StageOutList(RUN)
    assert [path for path in (sandbox / names.REPO_DIR).rglob("*") if path.is_file()] == []
    return report


def consumer(**changes: Any) -> dict[str, Any]:
    """The changes that make the job another one, which reads the output of the first."""
    path = names.dataset_path(RUN, "calexp", DATA_ID, ".img")
    made = PredictedInput(CALEXP_ID, "calexp", DATA_ID, RUN, path, producer=QUANTUM_ID)
    return {"quantum_id": OTHER_QUANTUM_ID, "inputs": [replace(made, **changes)], "outputs": []}


def test_known_input_is_not_read(store: Unread) -> None:
    report = stage(store, inputs=[make_input(checksum=RAW_CHECKSUM)])
    assert report.inputs == [RAW_READ]
    assert report.datastore == store.uri


def test_checksum_that_the_store_knows_is_taken(store: Unread) -> None:
    store.checksum = RAW_CHECKSUM
    assert stage(store).inputs == [RAW_READ]


def test_input_of_which_nothing_is_known_is_read_once(store: Unread) -> None:
    assert stage(DirectoryObjectStore(store.root)).inputs == [RAW_READ]


def test_made_input_is_found_through_its_delta(store: Unread) -> None:
    delta = make_delta()
    factories.put_objects(store, delta)
    factories.put_delta(store, delta)
    row = delta.rows.datastore_record[0]
    read = ReadInput(CALEXP_ID, ATTEMPT_ID, row.object_key, row.size_bytes, row.checksum)
    assert stage(store, **consumer()).inputs == [read]


def test_made_input_whose_object_is_gone_is_told(store: Unread) -> None:
    factories.put_delta(store, make_delta())
    with pytest.raises(ObjectNotFoundError, match=r"calexp_0_1.*: not found"):
        stage(store, **consumer())


def test_producer_without_success_is_told(store: Unread) -> None:
    with pytest.raises(InputNotReadyError, match=QUANTUM_ID):
        stage(store, **consumer())


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"size_bytes": 7}, f"{RAW_KEY}: expected 7 bytes, found {len(RAW_CONTENT)}"),
        ({"checksum": "sha256:00"}, f"{RAW_KEY}: expected sha256:00, found {RAW_CHECKSUM} "),
    ],
)
def test_other_bytes_are_told(store: Unread, known: dict[str, Any], message: str) -> None:
    store.checksum = RAW_CHECKSUM
    with pytest.raises(ChecksumMismatchError, match=message):
        stage(store, inputs=[make_input(**known)])


def test_missing_object_is_told(store: Unread) -> None:
    store.delete(RAW_KEY)
    with pytest.raises(ObjectNotFoundError, match=f"{RAW_KEY}: not found"):
        stage(store)


def test_input_that_its_producer_did_not_make_is_missing(store: Unread) -> None:
    factories.put_delta(store, make_delta(dataset=[], datastore_record=[], no_work=True))
    assert stage(store, **consumer(optional=True)).missing == [CALEXP_ID]


def test_success_ends_it_early(store: Unread) -> None:
    factories.put_delta(store, make_delta())
    report = stage(store)
    assert (report.successful_attempt, report.inputs) == (ATTEMPT_ID, [])
