# SPDX-License-Identifier: BSD-3-Clause
"""The contract of object stores, kept by directories and by S3 alike."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import InvalidNameError
from transfer_plugins import s3_object_store
from transfer_plugins.checksums import checksum_of_bytes, checksum_of_file
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import (
    ChecksumMismatchError,
    DirectoryObjectStore,
    ObjectHead,
    ObjectNotFoundError,
    ObjectStore,
    StoredObject,
    TransferError,
    open_store,
)
from transfer_plugins.s3_object_store import S3ObjectStore

# Larger than the 8 MiB from which boto3 uploads in parts.
LARGE = bytes(range(256)) * 4 * 1024 * 10
AWKWARD_KEYS = [
    *("a b/c+d=e@f,g.txt", "r/%2Fx%7E.fits", "é/ü.txt", "q?x=1#y&z.txt", "a'b\"c(d)[e]{f}.txt"),
    *(".hidden", "-dash", "a..b/c", "x" * 250, "1:2|3*4<5>.txt"),
]


@pytest.fixture(autouse=True)
def _one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a client takes longer than a whole test, and there is one service only."""
    monkeypatch.setattr(s3_object_store, "_make_client", _make_client_once)


_make_client_once = functools.cache(s3_object_store._make_client)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "directory":
        return open_store((tmp_path / "a datastore").as_uri())
    return open_store(request.getfixturevalue("datastore"))


def left_in(directory: Path) -> list[str]:
    """Files below a directory."""
    return sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())


@pytest.mark.parametrize("content", [b"", b"x", b"\0\xff\r\n", b"z" * 100_000])
def test_put_get(store: ObjectStore, content: bytes) -> None:
    store.put("a/b.bin", content)
    assert store.get("a/b.bin") == content


def test_put_replaces(store: ObjectStore) -> None:
    store.put("a", b"older and longer")
    store.put("a", b"newer")
    assert store.get("a") == b"newer"
    assert list(store.list_objects("")) == [StoredObject("a", 5)]


@pytest.mark.parametrize("content", [b"", b"pixels", LARGE])
def test_upload_download(store: ObjectStore, tmp_path: Path, content: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "er" / "target"
    source.write_bytes(content)
    checksum = checksum_of_file(source)
    store.upload(source, "x/y.fits", checksum)
    found = store.download("x/y.fits", target, checksum=checksum)
    assert found == (len(content), checksum_of_bytes(content))
    assert target.read_bytes() == content
    assert left_in(target.parent) == ["target"]


def test_download_replaces_what_is_there(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a", b"new")
    target = tmp_path / "target"
    target.write_bytes(b"older and longer")
    store.download("a", target)
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("content", [b"", b"pixels", LARGE])
def test_objects_are_measured(store: ObjectStore, tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(content)
    checksum = checksum_of_bytes(content)
    store.put("a", content)
    store.upload(source, "b", checksum)
    for key in ("a", "b"):
        assert store.measure(key) == (len(content), checksum)
        # A directory keeps no checksums.
        known = None if store.uri.startswith("file:") else checksum
        assert store.head(key) == ObjectHead(len(content), known)


def test_checksum_of_what_others_wrote_is_not_known(datastore: str) -> None:
    store = open_store(datastore)
    assert isinstance(store, S3ObjectStore)
    store.put("a", b"ours")
    store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}a", Body=b"by others")
    assert store.head("a") == ObjectHead(9)
    assert store.measure("a") == (9, checksum_of_bytes(b"by others"))


def test_large_put_goes_in_parts(datastore: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(datastore)
    monkeypatch.setattr(s3_object_store, "_LARGEST_PUT_BYTES", len(LARGE) - 1)
    store.put("a", LARGE)
    assert store.head("a") == ObjectHead(len(LARGE), checksum_of_bytes(LARGE))
    assert store.get("a") == LARGE


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_keys_are_kept_as_they_are(store: ObjectStore, tmp_path: Path, key: str) -> None:
    store.put(key, b"1")
    assert store.get(key) == b"1"
    assert [stored.key for stored in store.list_objects("")] == [key]
    store.download(key, tmp_path / "x")
    store.delete(key)
    assert list(store.list_objects("")) == []


@pytest.mark.parametrize("key", ["", "/", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\n"])
def test_unsafe_keys_are_refused(store: ObjectStore, tmp_path: Path, key: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    actions: list[Callable[[], object]] = [
        lambda: store.put(key, b""),
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.measure(key),
        lambda: store.delete(key),
        lambda: store.upload(source, key, checksum_of_file(source)),
        lambda: store.download(key, tmp_path / "target"),
    ]
    for action in actions:
        with pytest.raises(InvalidNameError, match="expected a key relative to the datastore"):
            action()
    assert not (tmp_path / "target").exists()


def test_missing_object_is_told_with_its_place(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a/b", b"x")
    asking: list[Callable[[str], object]] = [store.get, store.head, store.measure]
    asking.append(lambda key: store.download(key, tmp_path / "d" / "x"))
    for key in ("b", "a/c", "a/b/c", "a"):
        for action in asking:
            with pytest.raises(ObjectNotFoundError) as caught:
                action(key)
            assert f"{store.uri}/{key}: not found" in str(caught.value)
            assert not caught.value.is_retryable
    assert left_in(tmp_path / "d") == []


def test_other_bytes_are_not_delivered(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a", b"damaged")
    expected, found = checksum_of_bytes(b"intact"), checksum_of_bytes(b"damaged")
    with pytest.raises(ChecksumMismatchError) as caught:
        store.download("a", tmp_path / "d" / "x", checksum=expected)
    text = f"{store.uri}/a: expected {expected}, found {found} (7 bytes)"
    assert str(caught.value) == text
    assert left_in(tmp_path / "d") == []


def test_delete(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/there")
    assert list(store.list_objects("")) == []


def test_file_that_is_not_there_is_told_by_its_path(store: ObjectStore, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(TransferError, match=str(missing)):
        store.upload(missing, "a", "sha256:00")
    assert list(store.list_objects("")) == []


def test_list_is_by_prefix_and_in_order(store: ObjectStore) -> None:
    keys = ["r/a/1", "r/a/10", "r/a/2", "r/a-b", "r/a.x", "r/ab/1", "r/é", "s"]
    for key in reversed(keys):
        store.put(key, key.encode())
    prefixes = ["", "r", "r/", "r/a", "r/a/", "r/a/1", "r/é", "s", "t", "s/", "r/a/1/"]
    for prefix in prefixes:
        expected = sorted(key for key in keys if key.startswith(prefix))
        found = list(store.list_objects(prefix))
        assert [stored.key for stored in found] == expected, prefix
        assert all(stored.size_bytes == len(stored.key.encode()) for stored in found)


def test_empty_store_lists_nothing(store: ObjectStore) -> None:
    assert list(store.list_objects("")) == []
    assert list(store.list_objects("a/b/")) == []


def test_list_has_many_pages(store: ObjectStore) -> None:
    # One more than S3 gives at once.
    keys = [f"deltas/{number:04}" for number in range(1001)]
    map_concurrently(lambda key: store.put(key, b"x"), keys)
    assert [stored.key for stored in store.list_objects("deltas/")] == keys


def test_stores_do_not_see_what_is_beside_them(store: ObjectStore) -> None:
    beside = open_store(f"{store.uri}0")
    below = open_store(f"{store.uri}/below")
    beside.put("a", b"beside")
    below.put("b", b"below")
    assert [stored.key for stored in store.list_objects("")] == ["below/b"]
    assert [stored.key for stored in below.list_objects("")] == ["b"]
    assert open_store(store.uri).get("below/b") == b"below"


def test_many_threads_may_use_a_store(store: ObjectStore, tmp_path: Path) -> None:
    keys = [f"k/{number}" for number in range(60)]
    map_concurrently(lambda key: store.put(key, key.encode()), keys)
    found = map_concurrently(lambda key: store.download(key, tmp_path / key), keys)
    assert [size for size, _ in found] == [len(key) for key in keys]
    assert map_concurrently(store.get, keys) == [key.encode() for key in keys]


def test_ranges_of_an_object(store: ObjectStore) -> None:
    store.put("a", b"0123456789")
    assert store.get_range("a", 0, 4) == b"0123"
    assert store.get_range("a", 7, 100) == b"789"
    assert store.get_range("a", 3, 0) == b""
    with pytest.raises(ObjectNotFoundError, match=f"{store.uri}/b: not found"):
        store.get_range("b", 0, 1)


def test_objects_are_dated_by_the_clock_of_the_store(store: ObjectStore) -> None:
    if isinstance(store, DirectoryObjectStore):
        store.root.mkdir()
    before = store.now_s()
    store.put("a", b"x")
    (stored,) = store.list_objects("")
    assert stored.modified_s is not None
    # S3 tells whole seconds.
    assert before - 1 <= stored.modified_s <= store.now_s() + 1
    assert [stored.key for stored in store.list_objects("")] == ["a"]


def test_many_objects_are_removed_at_once(store: ObjectStore) -> None:
    keys = [f"k/{number}" for number in range(1001)]
    map_concurrently(lambda key: store.put(key, b"x"), [*keys, "k/kept"])
    assert store.delete_many([*keys, "never/there"]) == []
    assert [stored.key for stored in store.list_objects("")] == ["k/kept"]
    assert store.delete_many([]) == []


def test_unfinished_uploads_are_found_and_removed(store: ObjectStore) -> None:
    if isinstance(store, S3ObjectStore):
        key = f"{store.prefix}r/large"
        started = store.client.create_multipart_upload(Bucket=store.bucket, Key=key)
        arguments = {"Bucket": store.bucket, "Key": key, "UploadId": started["UploadId"]}
        store.client.upload_part(**arguments, PartNumber=1, Body=b"half")  # type: ignore[arg-type]
    elif isinstance(store, DirectoryObjectStore):
        store.put("r/.part-abc", b"half")
    store.put("r/whole", b"x")
    assert [stored.key for stored in store.list_objects("")] == ["r/whole"]
    (found,) = store.list_unfinished("r/")
    assert found.key in ("r/large", "r/.part-abc")
    assert (found.size_bytes, list(store.list_unfinished("s/"))) == (4, [])
    store.abort(found)
    store.abort(found)
    assert list(store.list_unfinished("")) == []
    assert store.get("r/whole") == b"x"


def test_directory_that_cannot_be_listed_is_no_empty_one(tmp_path: Path) -> None:
    """A user may list everything as root, so what is in the way is a name that is too long."""
    store = open_store(tmp_path.as_uri())
    with pytest.raises(TransferError, match="File name too long"):
        list(store.list_objects(f"{'x' * 300}/"))
