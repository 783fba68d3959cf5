# SPDX-License-Identifier: BSD-3-Clause
"""URIs of datastores, and errors of the file system as ours."""

import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from transfer_plugins.object_store import (
    DirectoryObjectStore,
    InvalidDatastoreError,
    TransferError,
    TransferRefusedError,
    open_store,
)
from transfer_plugins.s3_object_store import S3ObjectStore


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix", "shown"),
    [
        ("s3://bucket", "bucket", "", "s3://bucket"),
        ("s3://bucket/", "bucket", "", "s3://bucket"),
        ("s3://my.bucket/a/b/", "my.bucket", "a/b/", "s3://my.bucket/a/b"),
    ],
)
def test_s3(uri: str, bucket: str, prefix: str, shown: str) -> None:
    store = open_store(uri, endpoint_url="http://127.0.0.1:1")
    assert isinstance(store, S3ObjectStore)
    assert (store.bucket, store.prefix, store.uri) == (bucket, prefix, shown)


@pytest.mark.parametrize(
    ("uri", "root", "shown"),
    [
        ("file:///data/repo", "/data/repo", "file:///data/repo"),
        ("file:///data/repo//", "/data/repo", "file:///data/repo"),
        ("file:///a%20b%23c", "/a b#c", "file:///a%20b%23c"),
        ("file:///", "/", "file:///"),
    ],
)
def test_directory(uri: str, root: str, shown: str) -> None:
    store = open_store(uri)
    assert isinstance(store, DirectoryObjectStore)
    assert (str(store.root), store.uri) == (root, shown)


@pytest.mark.parametrize(
    "uri",
    [
        *("", "s3://", "s3:///key", "s3:bucket", "bucket/key", "/data/repo", "file://host/data"),
        *("file:data", "gs://bucket", "http://host/x", "s3://b/k?x=1", "s3://b/k#x"),
        *("file:///a#b", "file:///a?b", "S3x://b", "file:///a%00b", "s3://[b/x", "s3://b\nc"),
        *("s3://Bad_Bucket!", "s3://b/../x", "s3://b/x//y", "s3://b/./x"),
    ],
)
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(InvalidDatastoreError) as caught:
        open_store(uri)
    assert str(caught.value) == (
        f"expected s3://bucket/prefix or file:///directory as datastore, found {uri!r}"
    )


def test_secret_in_a_uri_is_not_shown() -> None:
    with pytest.raises(InvalidDatastoreError, match="found 's3://…@bucket/x'"):
        open_store("s3://key:secret@bucket/x")


def refuse(error: OSError) -> NoReturn:
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(13, "Permission denied"), TransferRefusedError),
        (OSError(28, "No space left on device"), TransferError),
    ],
)
def test_errors_of_the_file_system_tell_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[TransferError]
) -> None:
    monkeypatch.setattr(shutil, "copyfile", lambda *paths: refuse(error))
    store = open_store(tmp_path.as_uri())
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with pytest.raises(kind, match=f"^{tmp_path.as_uri()}/a/b: {error.strerror}$") as caught:
        store.upload(source, "a/b", "sha256:00")
    assert caught.value.is_retryable == (kind is TransferError)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["source"]


def test_file_that_differs_from_its_checksum_is_not_uploaded(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    store = open_store((tmp_path / "store").as_uri())
    with pytest.raises(TransferError, match=f"{source}: expected sha256:00, found sha256:2d"):
        store.upload(source, "a", "sha256:00")
    assert list(store.list_objects("")) == []


def test_objects_of_a_directory_are_for_the_whole_site(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    store.put("a", b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_file_under_a_temporary_name_is_no_object(tmp_path: Path) -> None:
    (tmp_path / ".part-abc").write_bytes(b"half")
    assert list(open_store(tmp_path.as_uri()).list_objects("")) == []
