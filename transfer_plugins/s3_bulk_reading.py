# SPDX-License-Identifier: BSD-3-Clause
"""Tens of thousands of small objects from S3: requests that cost a tenth of boto3's.

The client of obstore (Rust) signs, sends and receives without Python. boto3 says where the
service is and finds the credentials, and does every request over again that did not succeed: so
retries, errors and their messages are the same as everywhere.
"""

import datetime
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from registry.errors import InvalidNameError
from registry.names import check_key
from transfer_plugins.object_store import ObjectStore
from transfer_plugins.s3_object_store import S3ObjectStore

if TYPE_CHECKING:
    from obstore.store import S3Store

_log = logging.getLogger(__name__)

_MOST_FAILURES = 20
"""After as many requests that boto3 had to do over, it does all."""

_PROBE = "probe"

_PAGE = 5000

_PLAIN = re.compile(r"[A-Za-z0-9_.+@=,/-]*\Z")
"""Keys that every client spells alike."""

# Credentials may be asked for again after this time; botocore renews its own in time.
_CREDENTIALS_S = 300


def for_bulk_reading(store: ObjectStore) -> ObjectStore:
    """Return a store with the same objects whose `get` is faster, if there is one."""
    return BulkS3ObjectStore(store) if type(store) is S3ObjectStore else store


class BulkS3ObjectStore(S3ObjectStore):
    """A datastore on S3 from which many small objects are read."""

    def __init__(self, store: S3ObjectStore) -> None:
        super().__init__(store.bucket, store.prefix.rstrip("/"), endpoint_url=store.endpoint_url)
        self._client = store._client
        self.n_failures = 0
        """Requests that boto3 had to do over; an object that is not there is none."""
        self._bulk: S3Store | None = None
        self._is_tried = False

    def get(self, key: str) -> bytes:
        """Return an object whole."""
        bulk = self._bulk_store()
        if bulk is not None and self.n_failures < _MOST_FAILURES:
            try:
                return self._get(bulk, check_key(key, f"datastore {self.uri}"))
            except Exception as error:
                # Its errors are many and say less than boto3's, which now gets or tells.
                self.n_failures += not isinstance(error, FileNotFoundError | InvalidNameError)
                _log.debug("%s/%s: %s; boto3 does it over", self.uri, key, error)
        return super().get(key)

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Give the keys alone; boto3 takes ten times as long to read the answers."""
        bulk = self._bulk_store()
        if bulk is not None:
            try:
                yield from self._list(bulk, prefix)
                return
            except Exception as error:
                _log.debug("%s/%s: %s; boto3 lists it again", self.uri, prefix, error)
        # From the beginning: directory buckets list in no order.
        yield from super().list_keys(prefix)

    def _list(self, bulk: "S3Store", prefix: str) -> Iterator[str]:
        import obstore

        if not prefix.endswith("/") or not _PLAIN.match(self.prefix + prefix):
            raise ValueError("obstore takes prefixes that end a directory")
        for page in obstore.list(bulk, self.prefix + prefix, chunk_size=_PAGE):
            keys = [str(each["path"]) for each in page]
            if not all(map(_PLAIN.match, keys)):
                # obstore may show them in another form than S3 has them.
                raise ValueError("a key has unusual characters")
            yield from (key.removeprefix(self.prefix) for key in keys)

    def _get(self, bulk: "S3Store", key: str) -> bytes:
        import obstore

        return obstore.get(bulk, self.prefix + key).bytes().to_bytes()

    def _bulk_store(self) -> "S3Store | None":
        if not self._is_tried:
            client = self.client
            with self._lock:
                if not self._is_tried:
                    self._bulk = _open_bulk(client, self.bucket)
                    self._is_tried = True
        return self._bulk


def _open_bulk(client: Any, bucket: str) -> "S3Store | None":
    """Open the bucket where boto3 finds it; None if boto3 has to be asked each time."""
    try:
        from obstore.store import S3Store

        signer = client._request_signer
        # A signed URL shows what boto3 makes of endpoint, region and style of address.
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": _PROBE})
        address = urlsplit(url)
        in_path = address.path == f"/{bucket}/{_PROBE}"
        if (not in_path and address.path != f"/{_PROBE}") or client.meta.config.proxies:
            return None
        return S3Store(
            bucket,
            endpoint=f"{address.scheme}://{address.netloc}",
            region=client.meta.region_name or "us-east-1",
            virtual_hosted_style_request=not in_path,
            client_options={"allow_http": address.scheme == "http", "timeout": "60s"},
            retry_config={"max_retries": 0},
            credential_provider=lambda: _credentials(signer),
        )
    except Exception as error:
        _log.debug("bucket %s: read by boto3, not by obstore: %s", bucket, error)
        return None


def _credentials(signer: Any) -> Any:
    """Return the credentials that boto3 has now."""
    found = signer._credentials.get_frozen_credentials()
    return {
        "access_key_id": found.access_key,
        "secret_access_key": found.secret_key,
        "token": found.token,
        "expires_at": datetime.datetime.now(datetime.UTC)
        + datetime.timedelta(seconds=_CREDENTIALS_S),
    }
