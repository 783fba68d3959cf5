# SPDX-License-Identifier: BSD-3-Clause
"""What a graph expects of a quantum, and which deltas say otherwise."""

from dataclasses import replace

import pytest

from registry.delta import DatasetRow, Delta
from registry.prediction import (
    UnpredictedOutputError,
    UnpredictedQuantumError,
    check_datasets,
    check_expected,
    check_predicted,
)
from tests import factories
from tests.samples import (
    ATTEMPTS,
    CALEXP_ID,
    DATA_ID,
    OTHER_QUANTUM,
    QUANTUM,
    key_of,
    make_delta,
    make_job,
    make_output,
)

JOB = make_job()


def check(delta: Delta) -> None:
    """As the merger does, which knows the ids of the outputs only."""
    check_predicted(
        delta,
        key_of(delta),
        task_label=QUANTUM.task_label,
        data_id=QUANTUM.data_id,
        outputs=QUANTUM.outputs,
        dataset_types={"calexp"},
    )


def with_dataset(delta: Delta, **changes: object) -> Delta:
    (row,) = delta.rows.dataset
    changed = replace(row, **changes)  # type: ignore[arg-type]
    return replace(delta, rows=replace(delta.rows, dataset=[changed]))


def with_key(delta: Delta, key: str) -> Delta:
    (record,) = delta.rows.datastore_record
    records = [replace(record, object_key=key)]
    return replace(delta, rows=replace(delta.rows, datastore_record=records))


@pytest.mark.parametrize("delta", [make_delta(), make_delta(dataset=[], datastore_record=[])])
def test_predicted_delta(delta: Delta) -> None:
    check(delta)
    check_expected(delta, key_of(delta), JOB)


@pytest.mark.parametrize("changes", [{"task_label": "other"}, {"data_id": {"exposure": 9}}])
def test_other_quantum(changes: dict[str, object]) -> None:
    delta = make_delta(**changes)
    for look in (check, lambda d: check_expected(d, key_of(d), JOB)):
        with pytest.raises(UnpredictedQuantumError, match=r"expected task 'calibrate' for \{"):
            look(delta)


@pytest.mark.parametrize(
    "changes", [{"dataset_id": OTHER_QUANTUM.outputs[0]}, {"dataset_type": "raw_image"}]
)
def test_other_output(changes: dict[str, object]) -> None:
    delta = with_dataset(make_delta(), **changes)
    for look in (check, lambda d: check_expected(d, key_of(d), JOB)):
        with pytest.raises(UnpredictedOutputError, match=f"delta '{key_of(delta)}'"):
            look(delta)


def test_output_of_another_data_id_is_seen_by_who_knows_the_job() -> None:
    delta = with_dataset(make_delta(), data_id={"exposure": 9, "detector": 1})
    with pytest.raises(UnpredictedOutputError, match="'exposure': 9"):
        check_expected(delta, key_of(delta), JOB)


def test_key_is_the_path_with_the_attempt() -> None:
    delta, older = make_delta(attempt_id=ATTEMPTS[1]), make_delta(attempt_id=ATTEMPTS[0])
    of_other_attempt = older.rows.datastore_record[0].object_key
    for key in (of_other_attempt, make_output().path, f"{delta.run}/calexp/x.img"):
        with pytest.raises(UnpredictedOutputError, match=f"found key '{key}'"):
            check_expected(with_key(delta, key), key_of(delta), JOB)
    check_expected(delta, key_of(delta), JOB)


def test_output_that_was_not_kept_has_no_key() -> None:
    delta = factories.without_record(make_delta())
    check_expected(delta, key_of(delta), JOB)
    other = with_dataset(delta, data_id={"exposure": 9, "detector": 1})
    with pytest.raises(UnpredictedOutputError, match="'exposure': 9"):
        check_expected(other, key_of(other), JOB)


def test_other_datasets_are_not_looked_at() -> None:
    """A consumer knows what it reads, and nothing else of the quantum that made it."""
    delta = make_delta()
    check_datasets(delta, key_of(delta), [])
    check_datasets(delta, key_of(delta), [make_output(dataset_id=OTHER_QUANTUM.outputs[0])])
    with pytest.raises(UnpredictedOutputError, match="dataset_type='raw'"):
        check_datasets(delta, key_of(delta), [make_output(dataset_type="raw")])
    assert delta.rows.dataset == [DatasetRow(CALEXP_ID, "calexp", DATA_ID)]
