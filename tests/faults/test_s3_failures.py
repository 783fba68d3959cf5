# SPDX-License-Identifier: BSD-3-Clause
"""An S3 service that refuses, stumbles or cuts: what is tried again, and what is told."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.s3_proxy import Fault, Rule, S3Proxy
from transfer_plugins import s3_object_store
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import (
    BucketNotFoundError,
    ObjectStore,
    TransferError,
    TransferRefusedError,
    open_store,
)

CONTENT = b"pixels" * 1000
SECRET = "s3cr3t-Key/of+the=tests"

Action = Callable[[ObjectStore, Path], object]
ACTIONS: dict[str, Action] = {
    "get": lambda store, path: store.get("r/a"),
    "put": lambda store, path: store.put("r/a", b"x"),
    "list": lambda store, path: list(store.list_objects("r/a")),
    "delete": lambda store, path: store.delete("r/a"),
    "download": lambda store, path: store.download("r/a", path / "target"),
    "upload": lambda store, path: store.upload(path / "source", "r/a", "sha256:00"),
}
OF_ACTION = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
# Each of these waits for the pauses between tries of boto3, and the ways of asking differ in three.
OF_SOME = pytest.mark.parametrize(
    "action", [ACTIONS[name] for name in ("get", "list", "upload")], ids=("get", "list", "upload")
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a file to upload; the secret of this process is one that can be found."""
    (tmp_path / "source").write_bytes(CONTENT)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return tmp_path


def first(n_times: int, fault: Fault, method: str = "GET") -> Rule:
    """A rule by which the first requests of a method fail."""
    left = [fault] * n_times
    return lambda seen_method, key: left.pop() if left and seen_method == method else None


@OF_ACTION
def test_refusal_is_told_at_once(
    datastore: str, s3_endpoint: str, directory: Path, action: Action
) -> None:
    open_store(datastore).put("r/a", CONTENT)
    with S3Proxy(s3_endpoint, lambda method, key: Fault(403, "AccessDenied")) as proxy:
        with pytest.raises(TransferRefusedError) as caught:
            action(open_store(datastore, endpoint_url=proxy.endpoint), directory)
    text = str(caught.value)
    assert f"{datastore}/r/a: S3 said " in text
    # The answer to HEAD has no body, so there S3 says no more than the status.
    assert "AccessDenied: said no" in text or "403: Forbidden" in text
    assert SECRET not in text
    assert not caught.value.is_retryable
    assert len(proxy.seen) == 1


@OF_SOME
def test_stumble_is_tried_again(
    datastore: str, s3_endpoint: str, directory: Path, action: Action
) -> None:
    open_store(datastore).put("r/a", CONTENT)
    left = [Fault(503, "SlowDown"), Fault(500, "InternalError")]
    with S3Proxy(s3_endpoint, lambda method, key: left.pop() if left else None) as proxy:
        action(open_store(datastore, endpoint_url=proxy.endpoint), directory)
    assert [seen.status for seen in proxy.seen][:3] == [500, 503, proxy.seen[-1].status]
    assert proxy.seen[-1].status < 300


@OF_SOME
def test_service_that_stays_ill_is_told_as_retryable(
    datastore: str,
    s3_endpoint: str,
    directory: Path,
    action: Action,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_object_store, "_ATTEMPTS", 2)
    with S3Proxy(s3_endpoint, lambda method, key: Fault(503, "SlowDown")) as proxy:
        with pytest.raises(TransferError, match=r"S3 said (SlowDown|503).*, 2 tries\)") as caught:
            action(open_store(datastore, endpoint_url=proxy.endpoint), directory)
    assert caught.value.is_retryable
    assert f"{datastore}/r/a" in str(caught.value)


@OF_ACTION
def test_missing_bucket_is_told(
    s3_environment: dict[str, str], directory: Path, action: Action
) -> None:
    with pytest.raises(BucketNotFoundError, match=r"s3://no-such-bucket/r/a: no such bucket \("):
        action(open_store("s3://no-such-bucket"), directory)


@OF_ACTION
def test_service_that_is_not_there_is_told(
    s3_environment: dict[str, str],
    directory: Path,
    action: Action,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_object_store, "_ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(TransferError, match="s3://bucket/r/a: Could not connect") as caught:
        action(open_store("s3://bucket", endpoint_url=endpoint), directory)
    assert endpoint in str(caught.value)
    assert caught.value.is_retryable


@OF_ACTION
def test_missing_credentials_are_told(
    s3_environment: dict[str, str],
    directory: Path,
    action: Action,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(directory / "none"))
    with pytest.raises(TransferError, match="s3://bucket/r/a: Unable to locate credentials"):
        action(open_store("s3://bucket"), directory)


@pytest.mark.parametrize("cut_after", [0, len(CONTENT) - 1])
def test_body_that_breaks_off_is_asked_for_again(
    datastore: str, s3_endpoint: str, directory: Path, cut_after: int
) -> None:
    open_store(datastore).put("a", CONTENT)
    with S3Proxy(s3_endpoint, first(1, Fault(cut_after=cut_after))) as proxy:
        assert open_store(datastore, endpoint_url=proxy.endpoint).get("a") == CONTENT
        proxy.rule = first(1, Fault(cut_after=cut_after))
        store = open_store(datastore, endpoint_url=proxy.endpoint)
        store.download("a", directory / "target", checksum=checksum_of_bytes(CONTENT))
    assert (directory / "target").read_bytes() == CONTENT
    assert len(proxy.of("GET")) == 4


def test_body_that_always_breaks_off_is_told(
    datastore: str, s3_endpoint: str, directory: Path
) -> None:
    open_store(datastore).put("a", CONTENT)
    with S3Proxy(s3_endpoint, lambda method, key: Fault(cut_after=10)) as proxy:
        store = open_store(datastore, endpoint_url=proxy.endpoint)
        for action in (store.get, lambda key: store.download(key, directory / "d" / "target")):
            with pytest.raises(TransferError, match=f"^{datastore}/a: ") as caught:
                action("a")
            assert caught.value.is_retryable
    assert list((directory / "d").iterdir()) == []


def test_request_that_was_too_slow_may_be_repeated(
    datastore: str, s3_endpoint: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_object_store, "_ATTEMPTS", 1)
    # S3 says this with a status of the kind that means a refusal.
    with S3Proxy(s3_endpoint, lambda method, key: Fault(400, "RequestTimeout")) as proxy:
        with pytest.raises(TransferError, match="S3 said RequestTimeout") as caught:
            open_store(datastore, endpoint_url=proxy.endpoint).put("a", CONTENT)
    assert caught.value.is_retryable
