# SPDX-License-Identifier: BSD-3-Clause
"""Reading in a process of its own gives what reading in this one gives, errors too."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from merger.archived_deltas import with_archives
from merger.delta_listing import list_deltas
from merger.predictions import Predictions, read_predictions
from merger.prepared import DeltaReader, PreparedBatch
from registry import names
from registry.attempt import AttemptStatus
from registry.errors import FormatError, QuantumExecError
from tests import factories
from tests.processes import has_ended, wait_until
from transfer_plugins.object_store import (
    DirectoryObjectStore,
    ObjectStore,
    TransferError,
    open_store,
)

GRAPH = factories.make_graph(6)
MANY = 10**6


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A datastore with good, failed, superseded, damaged and newer deltas."""
    is_s3 = request.param == "s3"
    uri = request.getfixturevalue("datastore") if is_s3 else f"file://{tmp_path}"
    store = open_store(uri)
    factories.publish(store, GRAPH)
    for number in range(6):
        factories.put_delta(store, factories.make_delta(GRAPH, number, number))
    failed = factories.make_delta(GRAPH, 1, 10, status=AttemptStatus.FAILED)
    for delta, content in (
        (factories.make_delta(GRAPH, 0, 9), None),
        (failed, None),
        (factories.make_delta(GRAPH, 2, 11), b"junk"),
        (factories.make_delta(GRAPH, 3, 12, host="é" * 3), None),
        (factories.make_delta(GRAPH, 4, 13), factories.framed(b'"format":99,"new":1}')),
    ):
        factories.put_delta(store, delta, content)
    return store


def read(
    store: ObjectStore, keys: list[list[str]], few: int, predictions: Predictions | None = None
) -> list[object]:
    with DeltaReader(store, predictions or read_predictions(store, GRAPH.run), few=few) as reader:
        return [shown(future.result()) for future in [reader.prepare(some) for some in keys]]


def shown(batch: PreparedBatch) -> object:
    header, buffers = batch.frame()
    return header, [bytes(buffer) for buffer in buffers]


def test_same_batches_here_and_there(store: ObjectStore) -> None:
    listing = list_deltas(with_archives(store, GRAPH.run), GRAPH.run)
    gone = names.delta_key(GRAPH.run, GRAPH.quanta[5].quantum_id, factories.attempt(99))
    keys = [listing.keys()[::-1], [*listing.keys(0, 4), gone], [], [gone]]
    here, there = read(store, keys, MANY), read(with_archives(store, GRAPH.run), keys, -1)
    assert here == there
    header: Any = there[0][0]  # type: ignore[index]
    assert (header["n_keys"], len(header["keys"])) == (11, 9)
    assert [reason for _, reason, _ in header["bad"]] == ["truncated"]
    assert len(header["newer"]) == 1
    assert header["attempt_ids"] == sorted(header["attempt_ids"])


def test_value_that_fits_no_column(store: ObjectStore) -> None:
    delta = factories.make_delta(GRAPH, 5, 20, exit_code=2**40)
    keys = [[factories.put_delta(store, delta), *list_deltas(store, GRAPH.run).keys(0, 2)]]
    here, there = read(store, keys, MANY), read(store, keys, -1)
    assert here == there
    assert here[0][0]["tables"] is None  # type: ignore[index]


def test_loads_good_deltas_again(store: ObjectStore) -> None:
    keys = list_deltas(store, GRAPH.run).keys()
    with DeltaReader(store, read_predictions(store, GRAPH.run)) as reader:
        loaded = reader.load(keys[::-1])
    assert [good.key for good in loaded] == read(store, [keys], MANY)[0][0]["keys"]  # type: ignore[index]


def raised(store: ObjectStore, few: int, predictions: Predictions, key: str) -> tuple[type, str]:
    with pytest.raises(QuantumExecError) as found:
        read(store, [[key]], few, predictions)
    return type(found.value), str(found.value)


def test_damaged_predictions(store: ObjectStore) -> None:
    predictions = read_predictions(store, GRAPH.run)
    store.put(names.predicted_quanta_key(GRAPH.run, GRAPH.record.graph_id), b"junk")
    (key,) = list_deltas(store, GRAPH.run).keys(0, 1)
    here, there = (raised(store, few, predictions, key) for few in (MANY, -1))
    assert here == there
    assert here[0] is FormatError
    assert "expected gzip" in here[1]


def test_delta_that_cannot_be_read(tmp_path: Path) -> None:
    store = DirectoryObjectStore(tmp_path)
    factories.publish(store, GRAPH)
    predictions = read_predictions(store, GRAPH.run)
    key = factories.put_delta(store, factories.make_delta(GRAPH))
    (tmp_path / key).unlink()
    (tmp_path / key).symlink_to(tmp_path / key)
    here, there = (raised(store, few, predictions, key) for few in (MANY, -1))
    assert here == there
    assert here[0] is TransferError
    assert key in here[1]


class OtherStore(DirectoryObjectStore):
    """A store that another process could not open."""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[DeltaReader]:
    store = OtherStore(tmp_path)
    factories.publish(store, GRAPH)
    with DeltaReader(store, read_predictions(store, GRAPH.run), few=-1) as reader:
        yield reader


def test_store_of_another_kind_is_read_here(reader: DeltaReader, tmp_path: Path) -> None:
    key = factories.put_delta(DirectoryObjectStore(tmp_path), factories.make_delta(GRAPH))
    assert reader.prepare([key]).result().keys == [key]
    assert reader.reading_pid is None


def test_process_ends_with_its_reader(store: ObjectStore) -> None:
    with DeltaReader(store, read_predictions(store, GRAPH.run), few=-1) as reader:
        reader.prepare([]).result()
        pid = reader.reading_pid
        assert pid is not None
        os.kill(pid, 0)
        waiting = [reader.prepare(list_deltas(store, GRAPH.run).keys()) for _ in range(3)]
    wait_until(lambda: has_ended(pid), "the reading process to end")
    assert all(future.done() for future in waiting)
