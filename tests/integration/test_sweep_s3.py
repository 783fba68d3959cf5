# SPDX-License-Identifier: BSD-3-Clause
"""Sweep on S3: ages by its clock, deletion in bulk, what is refused, unfinished uploads."""

import http.client
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from merger.central_registry import CentralRegistry
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from merger.sweep import Sweep, SweepReport
from tests import factories
from tests.s3_proxy import Fault, S3Proxy
from transfer_plugins import s3_object_store
from transfer_plugins.object_store import open_store
from transfer_plugins.s3_object_store import S3ObjectStore

GRAPH = factories.make_graph(2)
RUN = GRAPH.run
DAY_S = 86_400.0


class OtherClock(S3Proxy):
    """An S3 server with another idea of the time in its Date header."""

    ahead = timedelta()
    of_uploads: Fault | None = None
    """What is answered to whoever lists unfinished uploads."""

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask the server behind, and change the date."""
        response, content = super().forward(method, path, headers, body)
        date = parsedate_to_datetime(response.headers["Date"]) + self.ahead
        del response.headers["Date"]
        response.headers["Date"] = format_datetime(date, usegmt=True)
        if self.of_uploads is not None and "uploads" in path.partition("?")[2]:
            response.status = self.of_uploads.status
            content = f"<Error><Code>{self.of_uploads.code}</Code></Error>".encode()
            del response.headers["Content-Length"]
        return response, content


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[OtherClock]:
    with OtherClock(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: OtherClock, datastore: str) -> S3ObjectStore:
    """A datastore behind the proxy, with a graph and what a dead attempt left."""
    store = open_store(datastore, endpoint_url=proxy.endpoint)
    assert isinstance(store, S3ObjectStore)
    factories.publish(store, GRAPH)
    factories.put_objects(store, factories.make_delta(GRAPH))
    return store


@pytest.fixture
def registry(database: str, store: S3ObjectStore) -> Iterator[CentralRegistry]:
    """A central registry that merged an attempt at the other quantum."""
    good = factories.make_delta(GRAPH, 1, 2)
    factories.put_objects(store, good)
    factories.put_delta(store, good)
    with CentralRegistry(database) as registry:
        merge_run(registry, store, RUN)
        yield registry


def swept(
    registry: CentralRegistry, store: S3ObjectStore, age_s: float = 0.0, *, delete: bool = False
) -> SweepReport:
    with Sweep(registry, store, RUN, older_than_s=age_s, delete=delete) as sweep:
        return sweep.run()


@pytest.mark.parametrize(("hours", "n_left"), [(0, 0), (25, 2), (-25, 0), (23, 0)])
def test_age_is_by_the_clock_of_s3(
    registry: CentralRegistry, store: S3ObjectStore, proxy: OtherClock, hours: int, n_left: int
) -> None:
    """This machine's clock, which differs from that of the proxy, has no say."""
    proxy.ahead = timedelta(hours=hours)
    report = swept(registry, store, DAY_S, delete=True)
    assert (report.n_left, report.n_young, report.n_deleted) == (n_left, 2 - n_left, n_left)


def test_objects_are_deleted_in_bulk(
    registry: CentralRegistry, store: S3ObjectStore, proxy: OtherClock
) -> None:
    before = len(proxy.of("POST"))
    report = swept(registry, store, delete=True)
    assert (report.n_deleted, report.exit_code) == (2, ExitCode.OK)
    assert len(proxy.of("POST")) == before + 1
    assert proxy.of("DELETE") == []
    assert swept(registry, store).n_left == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(status=403, code="AccessDenied"), ExitCode.NOT_PERMITTED),
        (Fault(status=503, code="SlowDown"), ExitCode.UNAVAILABLE),
    ],
)
def test_what_cannot_be_deleted_is_told(
    registry: CentralRegistry,
    store: S3ObjectStore,
    proxy: OtherClock,
    fault: Fault,
    code: ExitCode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_object_store, "_ATTEMPTS", 1)
    again = open_store(store.uri, endpoint_url=proxy.endpoint)
    assert isinstance(again, S3ObjectStore)
    proxy.rule = lambda method, key: fault if method == "POST" else None
    report = swept(registry, again, delete=True)
    assert (report.n_deleted, report.n_not_deleted, report.exit_code) == (0, 2, code)
    assert fault.code in str(report.not_deleted[0].error)
    proxy.rule = lambda method, key: None
    assert swept(registry, again, delete=True).n_deleted == 2


def test_service_without_bulk_deletion(
    registry: CentralRegistry, store: S3ObjectStore, proxy: OtherClock
) -> None:
    fault = Fault(status=400, code="MissingContentMD5")
    proxy.rule = lambda method, key: fault if method == "POST" else None
    assert swept(registry, store, delete=True).n_deleted == 2
    assert len(proxy.of("DELETE")) == 2


def test_delta_that_may_not_be_read_protects_its_attempt(
    registry: CentralRegistry, store: S3ObjectStore, proxy: OtherClock
) -> None:
    key = factories.put_delta(store, factories.make_delta(GRAPH))
    fault = Fault(status=403, code="AccessDenied")
    proxy.rule = lambda method, asked: fault if method == "GET" and asked.endswith(key) else None
    report = swept(registry, store, delete=True)
    assert (report.n_left, report.n_unreadable) == (0, 1)


def test_unfinished_uploads_are_aborted(registry: CentralRegistry, store: S3ObjectStore) -> None:
    for key in (f"{RUN}/image/large.fits", "u/other/large"):
        store.client.create_multipart_upload(Bucket=store.bucket, Key=store.prefix + key)
    report = swept(registry, store)
    assert [upload.key for upload in report.unfinished] == [f"{RUN}/image/large.fits"]
    swept(registry, store, delete=True)
    assert [upload.key for upload in store.list_unfinished("")] == ["u/other/large"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=403, code="AccessDenied"),
        Fault(status=405, code="MethodNotAllowed"),
        Fault(status=501, code="NotImplemented"),
        Fault(status=404, code="NoSuchKey"),
    ],
)
def test_service_that_does_not_list_unfinished_uploads(
    registry: CentralRegistry, store: S3ObjectStore, proxy: OtherClock, fault: Fault
) -> None:
    """A listing of them is a right of its own, and some services know none."""
    proxy.of_uploads = fault
    report = swept(registry, store, delete=True)
    assert report.not_listed is not None
    assert fault.code in report.not_listed
    assert (report.n_deleted, report.exit_code) == (2, ExitCode.OK)


def test_upload_that_ends_while_they_are_listed(
    registry: CentralRegistry, store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ends", "stays"):
        key = f"{store.prefix}{RUN}/image/{name}"
        store.client.create_multipart_upload(Bucket=store.bucket, Key=key)
    size_of_parts = store._size_of_parts

    def end_first(key: str, upload_id: str) -> int:
        if key.endswith("ends"):
            store.client.abort_multipart_upload(Bucket=store.bucket, Key=key, UploadId=upload_id)
        return size_of_parts(key, upload_id)

    monkeypatch.setattr(store, "_size_of_parts", end_first)
    assert [upload.key for upload in swept(registry, store).unfinished] == [f"{RUN}/image/stays"]
