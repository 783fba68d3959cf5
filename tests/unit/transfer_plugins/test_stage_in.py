# SPDX-License-Identifier: BSD-3-Clause
"""Stage-in: the inputs of a job in its sandbox, and the attempt that counts."""

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from registry import names, staging
from registry.attempt import AttemptStatus, attempt_milliseconds
from registry.delta import Delta, ReadInput, write_delta
from registry.errors import QuantumExecError
from registry.job import Job, PredictedInput, read_job
from tests import factories
from tests.samples import (
    ATTEMPTS,
    CALEXP_ID,
    DATA_ID,
    GRAPH,
    OTHER_QUANTUM_ID,
    QUANTUM_ID,
    RAW_CONTENT,
    RAW_ID,
    RAW_KEY,
    RUN,
    key_of,
    make_delta,
    make_failed_delta,
    make_input,
    make_job,
)
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import (
    ChecksumMismatchError,
    DirectoryObjectStore,
    ObjectNotFoundError,
    ObjectStore,
    open_store,
)
from transfer_plugins.stage_in import InputNotReadyError, stage_in
from transfer_plugins.stage_out import read_list

RAW_CHECKSUM = checksum_of_bytes(RAW_CONTENT)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A datastore that has the raw exposure."""
    store = open_store((tmp_path / "store").as_uri())
    store.put(RAW_KEY, RAW_CONTENT)
    return store


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """An empty sandbox."""
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    return sandbox


def made_input(**changes: object) -> PredictedInput:
    """An input that the quantum of `make_delta` makes."""
    path = names.dataset_path(RUN, "calexp", DATA_ID, ".img")
    made = PredictedInput(CALEXP_ID, "calexp", DATA_ID, RUN, path, producer=QUANTUM_ID)
    return replace(made, **changes)  # type: ignore[arg-type]


def consumer(*inputs: PredictedInput) -> Job:
    """The job of another quantum, which reads what that of `make_delta` makes."""
    return make_job(quantum_id=OTHER_QUANTUM_ID, inputs=list(inputs), outputs=[])


def put_success(store: ObjectStore, attempt_id: str) -> Delta:
    """An attempt that succeeded: its objects, and its delta."""
    delta = make_delta(attempt_id=attempt_id)
    factories.put_objects(store, delta)
    factories.put_delta(store, delta)
    return delta


def found_in(sandbox: Path) -> bytes:
    """The content of the calibrated exposure in a sandbox."""
    return (sandbox / names.REPO_DIR / made_input().path).read_bytes()


def test_inputs_arrive_with_their_paths(store: ObjectStore, sandbox: Path) -> None:
    job = make_job(inputs=[make_input(checksum=RAW_CHECKSUM)])
    report = stage_in(job, store, sandbox)
    assert (sandbox / "repo" / make_input().path).read_bytes() == RAW_CONTENT
    assert report.inputs == [ReadInput(RAW_ID, None, RAW_KEY, len(RAW_CONTENT), RAW_CHECKSUM)]
    assert (report.quantum_id, report.missing) == (QUANTUM_ID, [])
    assert report.successful_attempt is None
    text = (sandbox / names.STAGE_IN_FILE).read_bytes()
    assert staging.read_stage_in_report(text, "report") == report
    assert read_job((sandbox / names.JOB_FILE).read_bytes(), "job") == job


def test_stage_out_list_is_there_and_empty(store: ObjectStore, sandbox: Path) -> None:
    stage_in(make_job(), store, sandbox)
    assert read_list(sandbox) == staging.StageOutList(RUN)


def test_stage_out_list_is_there_before_the_datastore_is_asked(sandbox: Path) -> None:
    class Deaf(DirectoryObjectStore):
        def list_objects(self, prefix: str) -> NoReturn:
            assert read_list(sandbox) == staging.StageOutList(RUN)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        stage_in(make_job(), Deaf(sandbox), sandbox)
    assert not (sandbox / names.STAGE_IN_FILE).exists()


def test_missing_object_is_told_and_leaves_no_report(store: ObjectStore, sandbox: Path) -> None:
    store.delete(RAW_KEY)
    with pytest.raises(ObjectNotFoundError, match=f"{RAW_KEY}: not found"):
        stage_in(make_job(), store, sandbox)
    assert not (sandbox / names.STAGE_IN_FILE).exists()
    assert not list((sandbox / "repo").rglob("*.raw"))


def test_other_bytes_leave_no_file(store: ObjectStore, sandbox: Path) -> None:
    job = make_job(inputs=[make_input(checksum=checksum_of_bytes(b"other"))])
    with pytest.raises(ChecksumMismatchError, match=f"{RAW_KEY}: expected .*, found "):
        stage_in(job, store, sandbox)
    assert [p for p in (sandbox / "repo").rglob("*") if p.is_file()] == []


def test_other_size_is_told(store: ObjectStore, sandbox: Path) -> None:
    with pytest.raises(ChecksumMismatchError, match=f"{RAW_KEY}: expected 7 bytes, found 21"):
        stage_in(make_job(inputs=[make_input(size_bytes=7)]), store, sandbox)
    assert not (sandbox / names.STAGE_IN_FILE).exists()


def test_made_input_is_found_through_its_delta(store: ObjectStore, sandbox: Path) -> None:
    delta = put_success(store, ATTEMPTS[0])
    report = stage_in(consumer(made_input()), store, sandbox)
    row = delta.rows.datastore_record[0]
    read = ReadInput(CALEXP_ID, ATTEMPTS[0], row.object_key, row.size_bytes, row.checksum)
    assert report.inputs == [read]
    assert found_in(sandbox) == factories.object_content(CALEXP_ID, ATTEMPTS[0])


def test_made_input_that_was_altered_is_not_delivered(store: ObjectStore, sandbox: Path) -> None:
    delta = put_success(store, ATTEMPTS[0])
    store.put(delta.rows.datastore_record[0].object_key, b"altered")
    with pytest.raises(ChecksumMismatchError):
        stage_in(consumer(made_input()), store, sandbox)
    assert not (sandbox / "repo" / made_input().path).exists()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_newest_successful_attempt_counts(
    store: ObjectStore, sandbox: Path, order: list[int]
) -> None:
    for number in order:
        put_success(store, ATTEMPTS[number])
    report = stage_in(consumer(made_input()), store, sandbox)
    assert report.inputs[0].attempt_id == ATTEMPTS[2]
    assert found_in(sandbox) == factories.object_content(CALEXP_ID, ATTEMPTS[2])


@pytest.mark.parametrize("status", [AttemptStatus.FAILED, AttemptStatus.ABORTED])
def test_newer_failure_displaces_no_success(
    store: ObjectStore, sandbox: Path, status: AttemptStatus
) -> None:
    put_success(store, ATTEMPTS[0])
    factories.put_delta(store, make_failed_delta(attempt_id=ATTEMPTS[1], status=status))
    report = stage_in(consumer(made_input()), store, sandbox)
    assert report.inputs[0].attempt_id == ATTEMPTS[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: content.replace(b"calibrate", b"calibrato"),
        lambda content: b"{}",
        lambda content: write_delta(make_delta(attempt_id=ATTEMPTS[2])),
        lambda content: write_delta(make_delta(run="u/other", attempt_id=ATTEMPTS[1])),
    ],
)
def test_delta_that_cannot_be_verified_counts_as_nothing(
    store: ObjectStore, sandbox: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    put_success(store, ATTEMPTS[0])
    delta = make_delta(attempt_id=ATTEMPTS[1])
    key = factories.put_delta(store, delta)
    store.put(key, damage(store.get(key)))  # type: ignore[operator]
    report = stage_in(consumer(made_input()), store, sandbox)
    assert report.inputs[0].attempt_id == ATTEMPTS[0]
    assert ATTEMPTS[1] in caplog.text


def test_junk_beside_the_deltas_is_passed_over(store: ObjectStore, sandbox: Path) -> None:
    put_success(store, ATTEMPTS[0])
    prefix = names.delta_prefix(RUN, QUANTUM_ID)
    store.put(f"{prefix}part", b"junk")
    store.put(f"{prefix}{ATTEMPTS[1]}.json.bak", b"junk")
    assert stage_in(consumer(made_input()), store, sandbox).inputs[0].attempt_id == ATTEMPTS[0]


@pytest.mark.parametrize("has_failed", [False, True])
def test_producer_without_success_is_told(
    store: ObjectStore, sandbox: Path, has_failed: bool
) -> None:
    if has_failed:
        factories.put_delta(store, make_failed_delta())
    with pytest.raises(InputNotReadyError) as caught:
        stage_in(consumer(made_input()), store, sandbox)
    assert str(caught.value) == (
        f"quantum {OTHER_QUANTUM_ID} (calibrate, exposure=0, detector=1): expected a successful "
        f"attempt of quantum {QUANTUM_ID}, which makes calexp (exposure=0, detector=1); found "
        f"none in {store.uri}/{RUN}"
    )


@pytest.mark.parametrize("optional", [False, True])
def test_input_that_its_producer_did_not_make_is_missing(
    store: ObjectStore, sandbox: Path, optional: bool
) -> None:
    factories.put_delta(store, make_delta(dataset=[], datastore_record=[], no_work=True))
    report = stage_in(consumer(made_input(optional=optional), make_input()), store, sandbox)
    assert report.missing == [CALEXP_ID]
    assert [read.dataset_id for read in report.inputs] == [RAW_ID]


def test_input_that_its_producer_did_not_keep_is_told(store: ObjectStore, sandbox: Path) -> None:
    """It is not missing: a quantum that finds an input missing may end as no work."""
    put_success(store, ATTEMPTS[0])
    newer = factories.without_record(make_delta(attempt_id=ATTEMPTS[1]))
    factories.put_delta(store, newer)
    with pytest.raises(InputNotReadyError, match="did not keep it") as caught:
        stage_in(consumer(made_input()), store, sandbox)
    assert f"quantum-exec rerun {RUN} --quantum {QUANTUM_ID} --replace" in str(caught.value)
    assert CALEXP_ID in str(caught.value)
    assert not sandbox.joinpath(names.STAGE_IN_FILE).exists()


def test_input_without_key_and_producer_is_told(store: ObjectStore, sandbox: Path) -> None:
    with pytest.raises(InputNotReadyError, match=r"raw \(exposure=0.*expected a key or a prod"):
        stage_in(make_job(inputs=[make_input(key=None)]), store, sandbox)


def test_key_that_leaves_the_datastore_is_refused(store: ObjectStore, sandbox: Path) -> None:
    (sandbox.parent / "secret").write_text("x")
    with pytest.raises(QuantumExecError, match="expected a key relative to the datastore"):
        stage_in(make_job(inputs=[make_input(key="../secret")]), store, sandbox)


def test_quantum_that_succeeded_already_fetches_nothing(store: ObjectStore, sandbox: Path) -> None:
    put_success(store, ATTEMPTS[0])
    put_success(store, ATTEMPTS[1])
    store.delete(RAW_KEY)
    report = stage_in(make_job(), store, sandbox)
    assert report.successful_attempt == ATTEMPTS[1]
    assert (report.inputs, report.missing) == ([], [])
    assert read_list(sandbox) == staging.StageOutList(RUN)


@pytest.mark.parametrize(
    ("replaces", "done_by"),
    [(ATTEMPTS[0], ATTEMPTS[1]), (ATTEMPTS[1], None), (ATTEMPTS[2], None), (None, ATTEMPTS[1])],
)
def test_only_a_success_newer_than_the_replaced_one_ends_an_attempt(
    store: ObjectStore, sandbox: Path, replaces: str | None, done_by: str | None
) -> None:
    put_success(store, ATTEMPTS[0])
    put_success(store, ATTEMPTS[1])
    report = stage_in(make_job(replaces=replaces), store, sandbox)
    assert report.successful_attempt == done_by
    assert [read.dataset_id for read in report.inputs] == ([] if done_by else [RAW_ID])


@pytest.mark.parametrize("has_older", [False, True])
def test_success_with_unpredicted_outputs_does_not_count(
    store: ObjectStore, sandbox: Path, has_older: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if has_older:
        put_success(store, ATTEMPTS[0])
    other = factories.make_delta(GRAPH, 1)
    rows = {name: getattr(other.rows, name) for name in ("dataset", "datastore_record")}
    factories.put_delta(store, make_delta(attempt_id=ATTEMPTS[1], **rows))
    report = stage_in(make_job(), store, sandbox)
    assert report.successful_attempt == (ATTEMPTS[0] if has_older else None)
    assert report.attempt_id > ATTEMPTS[1]
    assert f"{ATTEMPTS[1]}.json': expected only predicted outputs" in caplog.text


def test_producer_may_lie_in_another_run(store: ObjectStore, sandbox: Path) -> None:
    put_success(store, ATTEMPTS[0])
    job = replace(consumer(made_input()), run="u/tester/scratch")
    assert stage_in(job, store, sandbox).inputs[0].attempt_id == ATTEMPTS[0]
    here = replace(job, inputs=[made_input(run=job.run)])
    with pytest.raises(InputNotReadyError, match=f"none in {store.uri}/u/tester/scratch"):
        stage_in(here, store, sandbox)


def test_report_tells_the_datastore(store: ObjectStore, sandbox: Path) -> None:
    report = stage_in(make_job(), store, sandbox)
    assert (report.datastore, report.endpoint_url) == (store.uri, None)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_attempt_id_sorts_behind_all_earlier_ones(
    store: ObjectStore, sandbox: Path, is_damaged: bool
) -> None:
    # Made by a machine whose clock is a year ahead.
    ahead = attempt_milliseconds(stage_in(make_job(), store, sandbox).attempt_id) + 31_536_000_000
    attempt_id = factories.attempt(ahead - attempt_milliseconds(factories.attempt(0)))
    failed = make_failed_delta(attempt_id=attempt_id)
    factories.put_delta(store, failed, b"damaged" if is_damaged else None)
    assert key_of(failed) in [stored.key for stored in store.list_objects("")]
    assert stage_in(make_job(), store, sandbox).attempt_id > attempt_id


def test_many_inputs_of_many_producers(store: ObjectStore, sandbox: Path) -> None:
    graph = factories.make_graph(40)
    inputs = []
    for number, quantum in enumerate(graph.quanta):
        delta = factories.make_delta(graph, number)
        factories.put_objects(store, delta)
        factories.put_delta(store, delta)
        for row in delta.rows.dataset:
            extension = {t.name: t.extension for t in factories.TYPES}[row.dataset_type]
            path = names.dataset_path(RUN, row.dataset_type, row.data_id, extension)
            inputs.append(
                PredictedInput(
                    *(row.dataset_id, row.dataset_type, row.data_id, RUN, path),
                    producer=quantum.quantum_id,
                )
            )
    job = make_job(quantum_id=GRAPH.record.graph_id, inputs=inputs, dataset_types=factories.TYPES)
    report = stage_in(job, store, sandbox)
    assert [read.dataset_id for read in report.inputs] == [i.dataset_id for i in inputs]
    assert len([p for p in (sandbox / "repo").rglob("*") if p.is_file()]) == 80
