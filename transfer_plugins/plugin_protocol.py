# SPDX-License-Identifier: BSD-3-Clause
"""What HTCondor and the plugin say to each other: requests and settings in, result ads out.

Facts are those of HTCondor's manual ("File transfer plugins") and of a live pool (23.9): every
request gets one result, also a failed one with its name and URL; the result file is not truncated.
"""

import os
import socket
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from registry.errors import FormatError, QuantumExecError
from transfer_plugins.classads import ClassAd, Value, format_ad, parse_ads, parse_old_ad

OBJECT_SCHEME = "qs3"
JOB_SCHEME = "qs3job"
PLUGIN_VERSION = "0.1"

ENDPOINT_ATTRIBUTE = "QuantumExecS3Endpoint"
DEADLINE_ATTRIBUTE = "QuantumExecTransferDeadline"
LINK_LIFETIME_ATTRIBUTE = "QuantumExecCommitLinkLifetime"
WORKER_ATTRIBUTE = "QuantumExecWorkerArchive"
WORKER_CHECKSUM_ATTRIBUTE = "QuantumExecWorkerChecksum"
WORKER_CACHE_ATTRIBUTE = "QuantumExecWorkerCache"
# Far below STARTER_FILE_XFER_STALL_TIMEOUT (3600 s), which kills a silent starter before 25.2.
_DEFAULT_DEADLINE_S = 1800
_LONGEST_DEADLINE_S = 30 * 86_400
_DEFAULT_LINK_LIFETIME_S = 86_400
# Signatures of version 4 end after a week at the latest.
_LONGEST_LINK_LIFETIME_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Request:
    """One input ad: a URL and a path on this machine; ``flaw`` tells if it is not usable."""

    url: str
    path: Path
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the job ad says; never a secret, since every user of a pool reads job ads.

    ``link_lifetime_s`` is how long the wrapper may upload by itself when the job is stopped; 0 for
    not at all. ``worker_…`` tell of a job that brings the programs (`worker_archive`).
    """

    endpoint_url: str | None
    deadline_s: int
    link_lifetime_s: int = _DEFAULT_LINK_LIFETIME_S
    worker_uri: str | None = None
    worker_checksum: str | None = None
    worker_cache: str | None = None


def capabilities() -> str:
    """The old-format ad that tells HTCondor what this plugin can do."""
    return "\n".join(
        [
            "MultipleFileSupport = true",
            'PluginType = "FileTransfer"',
            "ProtocolVersion = 2",
            f'PluginVersion = "{PLUGIN_VERSION}"',
            f'SupportedMethods = "{OBJECT_SCHEME},{JOB_SCHEME}"',
        ]
    )


def read_requests(infile: Path) -> list[Request]:
    """Read the input ads; those without a URL and a file name are settings (protocol 4).

    Raises
    ------
    FormatError, OSError
    """
    text = infile.read_bytes().decode("utf-8", "surrogateescape")
    ads = parse_ads(text)
    return [_request_of(ad) for ad in ads if "Url" in ad or "LocalFileName" in ad]


def _request_of(ad: ClassAd) -> Request:
    url, path = ad.get("Url"), ad.get("LocalFileName")
    if isinstance(url, str) and isinstance(path, str):
        return Request(url, Path(path))
    return Request(
        url if isinstance(url, str) else "",
        Path(path) if isinstance(path, str) else Path(),
        f"input ad: expected Url and LocalFileName as strings, found {ad!r}",
    )


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings of the job from the job ad that ``_CONDOR_JOB_AD`` names.

    The job's own environment does not reach a plugin before HTCondor 24.3.
    """
    path = environment.get("_CONDOR_JOB_AD")
    ad: ClassAd = {}
    if path:
        with suppress(OSError):
            ad = parse_old_ad(Path(path).read_text(errors="replace"))
    deadline = ad.get(DEADLINE_ATTRIBUTE.lower())
    lifetime = ad.get(LINK_LIFETIME_ATTRIBUTE.lower())
    return Settings(
        _text(ad, ENDPOINT_ATTRIBUTE),
        min(deadline, _LONGEST_DEADLINE_S)
        if isinstance(deadline, int) and deadline > 0
        else _DEFAULT_DEADLINE_S,
        min(lifetime, _LONGEST_LINK_LIFETIME_S)
        if type(lifetime) is int and lifetime >= 0
        else _DEFAULT_LINK_LIFETIME_S,
        _text(ad, WORKER_ATTRIBUTE),
        _text(ad, WORKER_CHECKSUM_ATTRIBUTE),
        _text(ad, WORKER_CACHE_ATTRIBUTE),
    )


def _text(ad: ClassAd, attribute: str) -> str | None:
    found = ad.get(attribute.lower())
    return found if isinstance(found, str) and found else None


def s3_uri(url: str) -> str:
    """Return one of our URLs as that of the same object in S3."""
    bucket, key = split_url(url)
    return f"s3://{bucket}/{key}"


def split_url(url: str) -> tuple[str, str]:
    """Return bucket and key of one of our URLs.

    Raises
    ------
    FormatError
        If one of them is missing.
    """
    parts = urllib.parse.urlsplit(url)
    key = urllib.parse.unquote(parts.path.lstrip("/"))
    # A key with ? or # has them as %3F and %23; cut off, they would name another object.
    if not parts.netloc or not key or "?" in url or "#" in url:
        raise FormatError(f"expected {parts.scheme}://bucket/key, found {url!r}")
    return parts.netloc, key


def result_ad(
    request: Request,
    is_upload: bool,
    started: float,
    *,
    n_files: int = 0,
    n_bytes: int = 0,
    error: Exception | None = None,
) -> ClassAd:
    """Return the result of one request; times in seconds since 1970, sizes in bytes."""
    ended = time.time()
    result: ClassAd = {
        "TransferFileName": str(request.path),
        "TransferUrl": request.url,
        "TransferProtocol": request.url.partition("://")[0].lower(),
        "TransferType": "upload" if is_upload else "download",
        "TransferSuccess": error is None,
        "TransferStartTime": int(started),
        "TransferEndTime": int(ended),
        "ConnectionTimeSeconds": round(ended - started, 3),
        "TransferFileBytes": n_bytes,
        "TransferTotalBytes": n_bytes,
        "DeveloperData": {"FilesCount": n_files, "PluginVersion": PLUGIN_VERSION},
    }
    if error is not None:
        result["TransferError"] = describe(error)
        result["TransferErrorData"] = [_error_data(error)]
    return result


def describe(error: Exception) -> str:
    """One line for the hold reason: ours as they are, others with their class."""
    is_ours = isinstance(error, QuantumExecError)
    text = str(error) if is_ours else f"{type(error).__name__}: {error}"
    return " ".join(text.encode("utf-8", "replace").decode().split())[:1000]


def _error_data(error: Exception) -> dict[str, Value]:
    return {
        "ErrorType": "Transfer",
        "ErrorString": describe(error),
        "Retryable": bool(getattr(error, "is_retryable", False)),
        "PluginVersion": PLUGIN_VERSION,
        "LocalMachineName": socket.gethostname(),
    }


def write_results(outfile: Path, results: list[ClassAd]) -> None:
    """Write over the spaces that HTCondor filled the file with, so that a full disk is no loss."""
    text = "".join(format_ad(result) + "\n" for result in results)
    handle = os.open(outfile, os.O_WRONLY | os.O_CREAT, 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
