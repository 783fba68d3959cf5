# SPDX-License-Identifier: BSD-3-Clause
"""A datastore on any S3 service, through boto3: its credential chain, retries and multipart."""

import hashlib
import io
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from registry.hidden_words import has_secret, without_secrets
from registry.names import check_key
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import (
    BucketNotFoundError,
    InvalidDatastoreError,
    NoCredentialsError,
    NotDeleted,
    ObjectHead,
    ObjectNotFoundError,
    ObjectStore,
    StoredObject,
    TransferError,
    TransferRefusedError,
    UnfinishedUpload,
    open_store,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

_KEPT_CONNECTIONS = 128
"""Idle connections that one client keeps: the local runner has several stagings under way."""

_ATTEMPTS = 8
_CHUNK_BYTES = 1024 * 1024
_LARGEST_PUT_BYTES = 64 * 1024 * 1024
"""Larger ones go in parts, which are tried again one by one; S3 takes at most 5 GiB at once."""

_DELETED_AT_ONCE = 1000
_PASSING = ("InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout")
# Of errors of TLS those that no retry cures; a file of authorities that is not there is no other.
_UNTRUSTED = (
    "CERTIFICATE_VERIFY_FAILED",
    "doesn't match",
    "[X509",
    "[Errno 2]",
    "[Errno 13]",
    "[Errno 21]",
)

Read = TypeVar("Read")


class S3ObjectStore(ObjectStore):
    """Objects of one bucket below one prefix."""

    def __init__(self, bucket: str, prefix: str, *, endpoint_url: str | None = None) -> None:
        if endpoint_url is not None and ("@" in endpoint_url or has_secret(endpoint_url)):
            # It would stand in submit files and arguments; no client takes keys from there.
            raise InvalidDatastoreError(
                "the address of the S3 service holds credentials: expected https://host[:port]; "
                "boto3 finds them in the environment, in ~/.aws or in a role of the machine"
            )
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self.endpoint_url = endpoint_url
        self._client: S3Client | None = None
        self._lock = threading.Lock()

    @property
    def client(self) -> "S3Client":
        """The client, made on first use; clients of boto3 may be shared between threads."""
        with self._lock:
            if self._client is None:
                self._client = _make_client(self.endpoint_url)
            return self._client

    @cached_property
    def ca_bundle(self) -> str | None:
        """The file of authorities that the site names; None for those that boto3 has."""
        import botocore.session

        found: str | None = botocore.session.Session().get_config_variable("ca_bundle")
        return found

    def reopen(self, uri: str) -> ObjectStore:
        """Open another root with the same client: a new one takes as long as several transfers."""
        other = open_store(uri, endpoint_url=self.endpoint_url)
        if isinstance(other, S3ObjectStore):
            other._client = self.client
        return other

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Give every object below, page by page."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix
        )
        with self._naming(prefix):
            for page in pages:
                for found in page.get("Contents", []):
                    key = found["Key"].removeprefix(self.prefix)
                    yield StoredObject(key, found["Size"], found["LastModified"].timestamp())

    def get(self, key: str) -> bytes:
        """Return an object whole; a body that breaks off is asked for again."""
        with self._naming(key):
            return self._once_more(lambda: self._open(self._key(key)).read())

    def _open(self, full_key: str) -> "StreamingBody":
        return self.client.get_object(Bucket=self.bucket, Key=full_key)["Body"]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return bytes of an object."""

        def read() -> bytes:
            wanted = f"bytes={start}-{start + length - 1}"
            return self.client.get_object(Bucket=self.bucket, Key=self._key(key), Range=wanted)[
                "Body"
            ].read()

        with self._naming(key):
            return self._once_more(read) if length else b""

    def _once_more(self, read: Callable[[], Read]) -> Read:
        _import_boto3()
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for last in (False, False, True):
            try:
                return read()
            except (HTTPClientError, IncompleteReadError):
                # botocore retries the request, but not a body that is cut while being read.
                if last:
                    raise
        raise AssertionError("the loop returns or raises")

    def head(self, key: str) -> ObjectHead:
        """Tell the size of an object, and the checksum that its upload gave it."""
        with self._naming(key):
            found = self.client.head_object(Bucket=self.bucket, Key=self._key(key))
        checksum = found["Metadata"].get("sha256")
        return ObjectHead(found["ContentLength"], f"sha256:{checksum}" if checksum else None)

    def measure(self, key: str) -> tuple[int, str]:
        """Read an object once; a body that breaks off is asked for again."""
        with self._naming(key):
            return self._once_more(lambda: self._measure(self._key(key)))

    def _measure(self, full_key: str) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        for chunk in self._open(full_key).iter_chunks(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        return size, f"sha256:{digest.hexdigest()}"

    def put(self, key: str, content: bytes) -> None:
        """Write an object, in parts if it is large, with its SHA-256 as metadata."""
        with self._naming(key):
            metadata = _metadata(checksum_of_bytes(content))
            bucket, full_key = self.bucket, self._key(key)
            if len(content) > _LARGEST_PUT_BYTES:
                arguments = {"Metadata": metadata}
                self.client.upload_fileobj(
                    io.BytesIO(content), bucket, full_key, ExtraArgs=arguments
                )
            else:
                self.client.put_object(Bucket=bucket, Key=full_key, Body=content, Metadata=metadata)

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._naming(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def delete_many(self, keys: Sequence[str]) -> list[NotDeleted]:
        """Remove objects, 1,000 with each request, or one by one where the service has no such."""
        failed: list[NotDeleted] = []
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            some = keys[start : start + _DELETED_AT_ONCE]
            try:
                failed += self._delete_at_once(some)
            except TransferRefusedError as error:
                if "AccessDenied" in str(error):
                    return failed + [NotDeleted(key, error) for key in keys[start:]]
                # GCS has no such request, and others want another checksum with it.
                failed += super().delete_many(some)
            except TransferError as error:
                return failed + [NotDeleted(key, error) for key in keys[start:]]
        return failed

    def _delete_at_once(self, keys: Sequence[str]) -> list[NotDeleted]:
        with self._naming(""):
            answer = self.client.delete_objects(
                Bucket=self.bucket,
                Delete={"Objects": [{"Key": self._key(key)} for key in keys], "Quiet": True},
            )
        failed = []
        for told in answer.get("Errors", []):
            key = told.get("Key", "").removeprefix(self.prefix)
            code, message = told.get("Code", "unknown"), told.get("Message", "")
            kind = TransferError if code in _PASSING else TransferRefusedError
            failed.append(NotDeleted(key, kind(f"{self.uri}/{key}: S3 said {code}: {message}")))
        return failed

    def now_s(self) -> float:
        """Ask the service: the answer to any request has a date."""
        with self._naming(""):
            found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
        date = found["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            return parsedate_to_datetime(date).timestamp()
        except ValueError as error:
            raise TransferError(
                f"{self.uri}: expected a Date header in the answer of S3, found {date!r}; without "
                "it the age of objects is not known"
            ) from error

    def list_unfinished(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """Give the multipart uploads that were neither completed nor aborted."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix
        )
        with self._naming(prefix):
            for page in pages:
                for found in page.get("Uploads", []):
                    key, upload_id = found["Key"], found["UploadId"]
                    began_s = found["Initiated"].timestamp()
                    # One that ended meanwhile is none any more.
                    with suppress(ObjectNotFoundError), self._naming(prefix):
                        size = self._size_of_parts(key, upload_id)
                        key = key.removeprefix(self.prefix)
                        yield UnfinishedUpload(key, upload_id, size, began_s)

    def _size_of_parts(self, full_key: str, upload_id: str) -> int:
        pages = self.client.get_paginator("list_parts").paginate(
            Bucket=self.bucket, Key=full_key, UploadId=upload_id
        )
        return sum(part["Size"] for page in pages for part in page.get("Parts", []))

    def abort(self, upload: UnfinishedUpload) -> None:
        """Abort a multipart upload."""
        with suppress(ObjectNotFoundError), self._naming(upload.key):
            self.client.abort_multipart_upload(
                Bucket=self.bucket, Key=self._key(upload.key), UploadId=upload.upload_id
            )

    def upload(self, path: Path, key: str, checksum: str) -> None:
        """Upload a file, in parts if it is large, with its SHA-256 as metadata."""
        with self._naming(key):
            self.client.upload_file(
                str(path),
                self.bucket,
                self._key(key),
                ExtraArgs={"Metadata": _metadata(checksum)},
            )

    def presigned_put(self, key: str, expires_s: int) -> str:
        """Return a URL that lets anybody write this one object until it expires: a secret.

        It ends with the credentials too, if these end first. Uploads in parts, and metadata such
        as checksums, cannot be made with it.
        """
        parameters = {"Bucket": self.bucket, "Key": self._key(key)}
        with self._naming(key):
            return self.client.generate_presigned_url(
                "put_object", Params=parameters, ExpiresIn=expires_s, HttpMethod="PUT"
            )

    def _fetch(self, key: str, path: Path) -> None:
        with self._naming(key):
            self.client.download_file(self.bucket, self._key(key), str(path))

    def _key(self, key: str) -> str:
        return self.prefix + check_key(key, f"datastore {self.uri}")

    @contextmanager
    def _naming(self, key: str) -> Iterator[None]:
        """Turn errors of boto3 into ours, with bucket, key and what S3 said."""
        _import_boto3()
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"{self.uri}/{key}"
        try:
            yield
        except ClientError as error:
            raise _told_by_s3(error, where) from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            # boto3 wraps the refusal of an upload into an error that has lost what S3 said.
            if isinstance(error.__context__, ClientError):
                raise _told_by_s3(error.__context__, where) from error
            if type(error).__name__ == "SSLError" and any(m in str(error) for m in _UNTRUSTED):
                raise _told_by_tls(error, where) from error
            missing = ("NoCredentialsError", "PartialCredentialsError")
            kind = NoCredentialsError if type(error).__name__ in missing else TransferError
            raise kind(f"{where}: {without_secrets(str(error))}") from error


def _metadata(checksum: str) -> dict[str, str]:
    return {"sha256": checksum.removeprefix("sha256:")}


def _told_by_tls(error: Exception, where: str) -> TransferRefusedError:
    """Our error for a certificate that is not trusted, or authorities that cannot be read."""
    found = os.environ.get("AWS_CA_BUNDLE")
    return TransferRefusedError(
        f"{where}: {without_secrets(str(error))}; expected AWS_CA_BUNDLE, or ca_bundle in "
        "~/.aws/config, to name a file with the authority that signed the certificate of this "
        f"service, found AWS_CA_BUNDLE {found!r}"
    )


def _told_by_s3(error: "ClientError", where: str) -> TransferError:
    """Our error for an answer of S3, with its code, its words and the number of tries."""
    said = error.response.get("Error", {})
    code = said.get("Code", "unknown")
    if code == "NoSuchBucket":
        return BucketNotFoundError(f"{where}: no such bucket (NoSuchBucket)")
    if code in ("NoSuchKey", "404", "NoSuchUpload"):
        return ObjectNotFoundError(f"{where}: not found ({code})")
    meta = error.response.get("ResponseMetadata", {})
    status = meta.get("HTTPStatusCode", 500)
    # RequestTimeout comes with status 400, and means a connection that was too slow; 501 says that
    # the service has no such request, and never will.
    is_passing = (status >= 500 and status != 501) or status in (408, 429)
    is_passing |= code == "RequestTimeout"
    return (TransferError if is_passing else TransferRefusedError)(
        f"{where}: S3 said {code}: {said.get('Message', '')} (request "
        f"{meta.get('RequestId', 'unknown')}, {meta.get('RetryAttempts', 0) + 1} tries)"
    )


_importing = threading.Lock()


def _import_boto3() -> None:
    """Import boto3 in one thread only: its modules import each other.

    Where two threads begin with different ones, Python lets one of them see a module half made
    ("cannot import name 'Session' from partially initialized module").
    """
    with _importing:
        import boto3.exceptions
        import boto3.session  # noqa: F401


def _make_client(endpoint_url: str | None) -> "S3Client":
    _import_boto3()
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    from transfer_plugins.packed_boto3 import new_session

    # At DEBUG it logs whole requests, and with them the token of a session.
    log = logging.getLogger("botocore")
    log.setLevel(max(logging.INFO, log.getEffectiveLevel()))
    # A site may want more or fewer tries, and says so as to every program that uses AWS's library.
    is_told = "AWS_MAX_ATTEMPTS" in os.environ
    config = Config(
        retries={"mode": "standard"}
        if is_told
        else {"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_KEPT_CONNECTIONS,
        # Presigned URLs are of version 2 in some regions otherwise, where secrets look otherwise.
        signature_version="s3v4",
        connect_timeout=10,
        read_timeout=60,
        # Ceph and older MinIO refuse the newer default checksums (boto3 issue 4435); ours are
        # end to end anyway.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return new_session().client("s3", endpoint_url=endpoint_url, config=config)
    except ValueError as error:
        raise InvalidDatastoreError(
            "expected the address of an S3 service such as https://s3.example.org, found "
            f"{without_secrets(str(error))}"
        ) from error
    except BotoCoreError as error:
        told = without_secrets(str(error))
        raise TransferRefusedError(f"the settings of AWS cannot be used: {told}") from error
