# SPDX-License-Identifier: BSD-3-Clause
"""Reading many objects fast: the same bytes and the same errors as one by one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from merger.delta_listing import list_deltas
from registry.errors import InvalidNameError
from tests import factories
from transfer_plugins.object_store import (
    DirectoryObjectStore,
    ObjectNotFoundError,
    ObjectStore,
    TransferError,
    open_store,
)
from transfer_plugins.s3_bulk_reading import BulkS3ObjectStore, for_bulk_reading

KEYS = ["a/b.json", "with space+plus@at", "percent%20", "é/ü", "a/.b"]


@pytest.fixture
def store(datastore: str) -> ObjectStore:
    store = open_store(datastore)
    for number, key in enumerate(KEYS):
        store.put(key, b"%d" % number * number)
    return store


def test_same_bytes(store: ObjectStore) -> None:
    bulk = for_bulk_reading(store)
    assert isinstance(bulk, BulkS3ObjectStore)
    assert bulk.uri == store.uri
    assert [bulk.get(key) for key in KEYS] == [store.get(key) for key in KEYS]
    assert [one.key for one in bulk.list_objects("")] == sorted(KEYS)
    for prefix in {"", "a/", *(key.rpartition("/")[0] + "/" for key in KEYS if "/" in key)}:
        assert list(bulk.list_keys(prefix)) == list(store.list_keys(prefix))
    assert bulk.n_failures <= 2


def test_listing_that_breaks_off_loses_and_repeats_no_delta(
    datastore: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order is in which the service lists: directory buckets have none."""
    graph = factories.make_graph(6)
    store = open_store(datastore)
    keys = [
        factories.put_delta(store, factories.make_delta(graph, number, number))
        for number in range(6)
    ]
    bulk = for_bulk_reading(store)
    assert isinstance(bulk, BulkS3ObjectStore)

    def break_off(client: object, prefix: str) -> Iterator[str]:
        yield from [max(keys), keys[3]]
        raise OSError("the connection broke")

    monkeypatch.setattr(bulk, "_list", break_off)
    assert list_deltas(bulk, graph.run).keys() == keys


def message(store: ObjectStore, key: str) -> str:
    with pytest.raises((TransferError, InvalidNameError)) as found:
        store.get(key)
    return f"{type(found.value).__name__}: {found.value}"


@pytest.mark.parametrize("key", ["missing", "../a", "a//b"])
def test_same_errors(store: ObjectStore, key: str) -> None:
    bulk = for_bulk_reading(store)
    assert message(bulk, key) == message(store, key)
    assert isinstance(bulk, BulkS3ObjectStore)
    assert bulk.n_failures == 0
    if key == "missing":
        with pytest.raises(ObjectNotFoundError):
            bulk.get(key)


def test_service_that_is_not_there(
    s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer_plugins.s3_object_store._ATTEMPTS", 1)
    store = open_store("s3://bucket/prefix", endpoint_url="http://127.0.0.1:9")
    bulk = for_bulk_reading(store)
    assert "could not connect" in message(bulk, "key").lower()
    assert message(bulk, "key") == message(store, "key")


def test_no_credentials(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_") and "ENDPOINT" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    again = open_store(store.uri, endpoint_url=store.endpoint_url)
    assert message(for_bulk_reading(again), "a/b.json") == message(again, "a/b.json")


def test_credentials_of_a_session(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    bulk = for_bulk_reading(open_store(store.uri, endpoint_url=store.endpoint_url))
    assert bulk.get(KEYS[0]) == store.get(KEYS[0])
    assert isinstance(bulk, BulkS3ObjectStore)
    assert bulk.n_failures == 0


def test_directory_needs_none(tmp_path: Path) -> None:
    store = DirectoryObjectStore(tmp_path)
    assert for_bulk_reading(store) is store
