# SPDX-License-Identifier: BSD-3-Clause
"""The HTCondor file transfer plugin.

Two schemes. ``qs3://bucket/key`` is a plain object. ``qs3job://bucket/<key of a job file>`` is the
marker of which a job has one in each direction: on the way in it stands for all inputs of the job,
on the way out for all files of the stage-out list. HTCondor flattens URL inputs to their base names
and drops those that collide, so a tree of datasets could not be listed file by file. ``s3://``
itself never reaches a plugin: HTCondor presigns it on the access point.

Rules kept here (each was seen on a real pool, HTCondor 23.9): the exit code is the truth, so any
failure exits 1; every request gets one result ad, whatever happens, SIGTERM included, because an
upload without ads makes HTCondor run the job again and again; the result file is not truncated.
"""

import os
import signal
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from registry import names
from registry.errors import FormatError, QuantumExecError
from transfer_plugins.classads import ClassAd, Value, format_ad, parse_ads, parse_old_ad

OBJECT_SCHEME = "qs3"
JOB_SCHEME = "qs3job"
PLUGIN_VERSION = "0.1"

ENDPOINT_ATTRIBUTE = "QuantumExecS3Endpoint"
DEADLINE_ATTRIBUTE = "QuantumExecTransferDeadline"
# Far below STARTER_FILE_XFER_STALL_TIMEOUT (3600 s), which kills a silent starter before 25.2.
_DEFAULT_DEADLINE_S = 1800

_USAGE = "usage: quantum_exec_plugin -classad | -infile FILE -outfile FILE [-upload]"


class InterruptedTransferError(BaseException):
    """The plugin was told to stop, or reached its own deadline.

    No `Exception`, because it may be raised in the middle of a library that catches those.
    """


@dataclass(frozen=True, slots=True)
class Request:
    """One input ad: a URL and a path on this machine."""

    url: str
    path: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the job ad says; never a secret, since every user of a pool reads job ads."""

    endpoint_url: str | None
    deadline_s: int


def main() -> None:
    """Entry point of the console script ``quantum_exec_plugin``."""
    code = run_plugin(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # After an interruption, threads may hang in a transfer; HTCondor would kill us without ads.
    os._exit(code)


def run_plugin(arguments: list[str]) -> int:
    """Do what HTCondor asks; returns the exit code: 0 all well, 1 a transfer failed, 2 usage."""
    if arguments == ["-classad"]:
        print(capabilities())
        return 0
    try:
        infile, outfile, is_upload = _parse_arguments(arguments)
    except ValueError:
        print(_USAGE, file=sys.stderr)
        return 2
    requests = [_request_of(ad) for ad in parse_ads(infile.read_text()) if "Url" in ad]
    results = _transfer_all(requests, is_upload)
    _write_results(outfile, results)
    return 0 if all(result["TransferSuccess"] is True for result in results) else 1


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


def _parse_arguments(arguments: list[str]) -> tuple[Path, Path, bool]:
    words = list(arguments)
    is_upload = "-upload" in words
    if is_upload:
        words.remove("-upload")
    options = dict(zip(words[::2], words[1::2], strict=True))
    if set(options) != {"-infile", "-outfile"}:
        raise ValueError
    return Path(options["-infile"]), Path(options["-outfile"]), is_upload


def _request_of(ad: ClassAd) -> Request:
    url, path = ad["Url"], ad.get("LocalFileName")
    if not isinstance(url, str) or not isinstance(path, str):
        raise FormatError(f"input ad: expected Url and LocalFileName as strings, found {ad!r}")
    return Request(url, Path(path))


def _transfer_all(requests: list[Request], is_upload: bool) -> list[ClassAd]:
    """One result for each request; after the first failure the rest fail without being tried."""
    results: list[ClassAd] = []
    with suppress(InterruptedTransferError):
        settings = read_settings(os.environ)
        _raise_when_stopped(settings.deadline_s)
        for request in requests:
            results.append(_transfer_one(request, is_upload, settings))
            if not results[-1]["TransferSuccess"]:
                break
    signal.alarm(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for request in requests[len(results) :]:
        error = InterruptedTransferError("not tried after the first that failed")
        results.append(_result(request, is_upload, time.time(), error=error))
    return results


def _transfer_one(request: Request, is_upload: bool, settings: Settings) -> ClassAd:
    started = time.time()
    try:
        moved = _action(request, is_upload)(request, settings)
    except (Exception, InterruptedTransferError) as error:
        # Whatever it is, HTCondor must get an ad with the reason; a traceback alone is lost.
        return _result(request, is_upload, started, error=error)
    return _result(request, is_upload, started, n_files=moved[0], n_bytes=moved[1])


def _action(request: Request, is_upload: bool) -> Callable[[Request, Settings], tuple[int, int]]:
    actions = {
        (OBJECT_SCHEME, False): _download_object,
        (OBJECT_SCHEME, True): _upload_object,
        (JOB_SCHEME, False): _stage_in_job,
        (JOB_SCHEME, True): _stage_out_job,
    }
    scheme = request.url.partition("://")[0].lower()
    if (scheme, is_upload) not in actions:
        raise FormatError(
            f"expected a URL of {OBJECT_SCHEME}:// or {JOB_SCHEME}://, found {request.url!r}"
        )
    return actions[scheme, is_upload]


def _download_object(request: Request, settings: Settings) -> tuple[int, int]:
    from transfer_plugins.object_store import open_store

    bucket, key = split_url(request.url)
    store = open_store(f"s3://{bucket}", endpoint_url=settings.endpoint_url)
    size, _ = store.download(key, request.path)
    return 1, size


def _upload_object(request: Request, settings: Settings) -> tuple[int, int]:
    from transfer_plugins.checksums import checksum_of_file
    from transfer_plugins.object_store import open_store

    bucket, key = split_url(request.url)
    store = open_store(f"s3://{bucket}", endpoint_url=settings.endpoint_url)
    store.upload(request.path, key, checksum_of_file(request.path))
    return 1, request.path.stat().st_size


def _stage_in_job(request: Request, settings: Settings) -> tuple[int, int]:
    from transfer_plugins.job_files import open_job
    from transfer_plugins.stage_in import stage_in

    uri = s3_uri(request.url)
    job, store, n_bytes = open_job(uri, endpoint_url=settings.endpoint_url)
    report = stage_in(job, store, request.path.parent)
    return 1 + len(report.inputs), n_bytes + sum(found.size_bytes for found in report.inputs)


def _stage_out_job(request: Request, settings: Settings) -> tuple[int, int]:
    from transfer_plugins.job_files import datastore_of_job, quantum_of_job
    from transfer_plugins.object_store import open_store
    from transfer_plugins.stage_out import read_list, stage_out

    uri = s3_uri(request.url)
    sandbox = request.path.parent
    stage_out_list = read_list(sandbox)
    run, quantum_id, delta = stage_out_list.run, quantum_of_job(uri), stage_out_list.delta
    if delta and not delta.key.startswith(names.delta_prefix(run, quantum_id)):
        raise FormatError(f"expected a delta of quantum {quantum_id}, found {delta.key!r}")
    root = datastore_of_job(uri, run, quantum_id)
    store = open_store(root, endpoint_url=settings.endpoint_url)
    # Some of the time is kept for the requests under way when patience ends.
    moved = stage_out(stage_out_list, store, sandbox, patience_s=settings.deadline_s * 0.75)
    return moved.n_files, moved.n_bytes


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
    if not parts.netloc or not key:
        raise FormatError(f"expected {parts.scheme}://bucket/key, found {url!r}")
    return parts.netloc, key


def read_settings(environment: "os._Environ[str] | dict[str, str]") -> Settings:
    """Read the settings of the job from the job ad that ``_CONDOR_JOB_AD`` names.

    The job's own environment does not reach a plugin before HTCondor 24.3.
    """
    path = environment.get("_CONDOR_JOB_AD")
    ad: ClassAd = {}
    if path:
        with suppress(OSError):
            ad = parse_old_ad(Path(path).read_text(errors="replace"))
    endpoint = ad.get(ENDPOINT_ATTRIBUTE.lower())
    deadline = ad.get(DEADLINE_ATTRIBUTE.lower())
    return Settings(
        endpoint if isinstance(endpoint, str) and endpoint else None,
        deadline if isinstance(deadline, int) and deadline > 0 else _DEFAULT_DEADLINE_S,
    )


def _raise_when_stopped(deadline_s: int) -> None:
    def stop(signal_number: int, frame: FrameType | None) -> NoReturn:
        name = signal.Signals(signal_number).name
        raise InterruptedTransferError(
            f"out of time after {deadline_s} s" if name == "SIGALRM" else f"stopped by {name}"
        )

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(deadline_s)


def _result(
    request: Request,
    is_upload: bool,
    started: float,
    *,
    n_files: int = 0,
    n_bytes: int = 0,
    error: BaseException | None = None,
) -> ClassAd:
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


def describe(error: BaseException) -> str:
    """One line for the hold reason: ours as they are, others with their class."""
    is_ours = isinstance(error, QuantumExecError | InterruptedTransferError)
    text = str(error) if is_ours else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:1000]


def _error_data(error: BaseException) -> dict[str, Value]:
    return {
        "ErrorType": "Transfer",
        "ErrorString": describe(error),
        "Retryable": bool(getattr(error, "is_retryable", False)),
        "PluginVersion": PLUGIN_VERSION,
        "LocalMachineName": socket.gethostname(),
    }


def _write_results(outfile: Path, results: list[ClassAd]) -> None:
    """Write over the spaces that HTCondor filled the file with, so that a full disk is no loss."""
    text = "".join(format_ad(result) + "\n" for result in results).encode()
    handle = os.open(outfile, os.O_WRONLY | os.O_CREAT, 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(text)


if __name__ == "__main__":
    main()
