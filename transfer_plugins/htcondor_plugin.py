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

SIGTERM and the deadline are taken by a thread that answers and ends the process. An exception in
the main thread would not do: boto3 waits for its own threads, which wait for the service.
"""

import os
import signal
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
_LONGEST_DEADLINE_S = 30 * 86_400

_USAGE = "usage: quantum_exec_plugin -classad | -infile FILE -outfile FILE [-upload]"


class InterruptedTransferError(QuantumExecError):
    """The plugin was told to stop, or reached its own deadline, or an earlier request failed."""

    error_type = "interrupted_transfer"
    is_retryable = True


@dataclass(frozen=True, slots=True)
class Request:
    """One input ad: a URL and a path on this machine; ``flaw`` tells if it is not usable."""

    url: str
    path: Path
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the job ad says; never a secret, since every user of a pool reads job ads."""

    endpoint_url: str | None
    deadline_s: int


class Call:
    """One call of the plugin; its answer is written once, by whichever thread comes first."""

    def __init__(self, outfile: Path, is_upload: bool) -> None:
        self.outfile = outfile
        self.is_upload = is_upload
        self.requests: list[Request] = []
        self.results: list[ClassAd] = []
        self._lock = threading.Lock()
        self._exit_code: int | None = None

    def answer(self, error: Exception | None = None) -> int:
        """Write one result for each request, ``error`` for those without; returns the exit code."""
        with self._lock:
            if self._exit_code is None:
                results = list(self.results)
                failure = error or InterruptedTransferError("not tried after the first that failed")
                missing = self.requests[len(results) :]
                if error is not None and not self.requests:
                    missing = [Request("", Path())]
                for request in missing:
                    results.append(_result(request, self.is_upload, time.time(), error=failure))
                _write_results(self.outfile, results)
                is_success = all(result["TransferSuccess"] is True for result in results)
                self._exit_code = 0 if is_success else 1
            return self._exit_code


def main() -> NoReturn:
    """Entry point of the console script ``quantum_exec_plugin``."""
    # Before there are threads: all inherit it, so that only `_answer_when_stopped` takes it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    code = run_plugin(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads may hang in a transfer; HTCondor would kill us without ads.
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
    call = Call(outfile, is_upload)
    settings = read_settings(os.environ)
    watch = threading.Thread(
        target=_answer_when_stopped, args=(call, settings.deadline_s), daemon=True
    )
    watch.start()
    try:
        call.requests += read_requests(infile)
        _transfer_all(call, settings)
    except Exception as error:
        # Whatever it is, HTCondor must get ads with the reason; a traceback alone is lost.
        return call.answer(error)
    return call.answer()


def _answer_when_stopped(call: Call, deadline_s: int) -> None:
    code = 1
    try:
        found = signal.sigtimedwait({signal.SIGTERM}, deadline_s)
        reason = "stopped by SIGTERM" if found else f"out of time after {deadline_s} s"
        code = call.answer(InterruptedTransferError(reason))
    finally:
        os._exit(code)


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


def _transfer_all(call: Call, settings: Settings) -> None:
    """Carry out requests up to the first that fails; the job is held or run again anyway."""
    for request in call.requests:
        call.results.append(_transfer_one(request, call.is_upload, settings))
        if not call.results[-1]["TransferSuccess"]:
            return


def _transfer_one(request: Request, is_upload: bool, settings: Settings) -> ClassAd:
    started = time.time()
    try:
        moved = _action(request, is_upload)(request, settings)
    except Exception as error:
        return _result(request, is_upload, started, error=error)
    return _result(request, is_upload, started, n_files=moved[0], n_bytes=moved[1])


def _action(request: Request, is_upload: bool) -> Callable[[Request, Settings], tuple[int, int]]:
    actions = {
        (OBJECT_SCHEME, False): _download_object,
        (OBJECT_SCHEME, True): _upload_object,
        (JOB_SCHEME, False): _stage_in_job,
        (JOB_SCHEME, True): _stage_out_job,
    }
    if request.flaw is not None:
        raise FormatError(request.flaw)
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
    if request.path.is_dir():
        # HTCondor before 23.10.1 asks for the directory itself beside each file in it.
        return 0, 0
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
    # A key with ? or # has them as %3F and %23; cut off, they would name another object.
    if not parts.netloc or not key or "?" in url or "#" in url:
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
        min(deadline, _LONGEST_DEADLINE_S)
        if isinstance(deadline, int) and deadline > 0
        else _DEFAULT_DEADLINE_S,
    )


def _result(
    request: Request,
    is_upload: bool,
    started: float,
    *,
    n_files: int = 0,
    n_bytes: int = 0,
    error: Exception | None = None,
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


def _write_results(outfile: Path, results: list[ClassAd]) -> None:
    """Write over the spaces that HTCondor filled the file with, so that a full disk is no loss."""
    text = "".join(format_ad(result) + "\n" for result in results)
    handle = os.open(outfile, os.O_WRONLY | os.O_CREAT, 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
