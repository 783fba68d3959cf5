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
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from registry import names
from registry.errors import FormatError, QuantumExecError
from transfer_plugins.classads import ClassAd
from transfer_plugins.plugin_protocol import (
    JOB_SCHEME,
    OBJECT_SCHEME,
    Request,
    Settings,
    capabilities,
    read_requests,
    read_settings,
    result_ad,
    s3_uri,
    split_url,
    write_results,
)

_USAGE = "usage: quantum_exec_plugin -classad | -infile FILE -outfile FILE [-upload]"


class InterruptedTransferError(QuantumExecError):
    """The plugin was told to stop, or reached its own deadline, or an earlier request failed."""

    error_type = "interrupted_transfer"
    is_retryable = True


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
                    results.append(result_ad(request, self.is_upload, time.time(), error=failure))
                write_results(self.outfile, results)
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


def _parse_arguments(arguments: list[str]) -> tuple[Path, Path, bool]:
    words = list(arguments)
    is_upload = "-upload" in words
    if is_upload:
        words.remove("-upload")
    options = dict(zip(words[::2], words[1::2], strict=True))
    if set(options) != {"-infile", "-outfile"}:
        raise ValueError
    return Path(options["-infile"]), Path(options["-outfile"]), is_upload


def _transfer_all(call: Call, settings: Settings) -> None:
    """Carry out requests up to the first that fails; the job is held or run again anyway."""
    for request in call.requests:
        is_first = request is call.requests[0]
        call.results.append(_transfer_one(request, call.is_upload, settings, is_first=is_first))
        if not call.results[-1]["TransferSuccess"]:
            return


def _transfer_one(
    request: Request, is_upload: bool, settings: Settings, *, is_first: bool
) -> ClassAd:
    started = time.time()
    try:
        moved = _action(request, is_upload)(request, settings)
        worker = (0, 0) if is_upload or not is_first else _bring_worker(request, settings)
    except Exception as error:
        return result_ad(request, is_upload, started, error=error)
    return result_ad(
        request, is_upload, started, n_files=moved[0] + worker[0], n_bytes=moved[1] + worker[1]
    )


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


def _bring_worker(request: Request, settings: Settings) -> tuple[int, int]:
    """Bring the programs, where a job has none on its machine; once in each call."""
    if settings.worker_uri is None:
        return 0, 0
    from transfer_plugins.worker_archive import WorkerArchive, cache_directory, place_archive

    archive = WorkerArchive(settings.worker_uri, settings.worker_checksum or "")
    fetched = place_archive(
        archive,
        request.path.parent,
        cache_directory(settings.worker_cache),
        endpoint_url=settings.endpoint_url,
    )
    return int(fetched > 0), fetched


def _stage_in_job(request: Request, settings: Settings) -> tuple[int, int]:
    from registry.job import DataMode
    from transfer_plugins.job_files import is_cluster_uri, open_job
    from transfer_plugins.stage_in import stage_in

    uri = s3_uri(request.url)
    if is_cluster_uri(uri):
        return _stage_in_cluster(uri, request, settings)
    job, store, n_bytes = open_job(uri, endpoint_url=settings.endpoint_url)
    lifetime_s = settings.link_lifetime_s
    report = stage_in(job, store, request.path.parent, link_lifetime_s=lifetime_s)
    moved = report.inputs if job.data_mode is DataMode.STAGED else []
    return 1 + len(moved), n_bytes + sum(found.size_bytes for found in moved)


def _stage_in_cluster(uri: str, request: Request, settings: Settings) -> tuple[int, int]:
    from transfer_plugins.job_files import open_cluster
    from transfer_plugins.stage_in_cluster import stage_in_cluster

    cluster, store, n_bytes = open_cluster(uri, endpoint_url=settings.endpoint_url)
    lifetime_s = settings.link_lifetime_s
    staged = stage_in_cluster(cluster, store, request.path.parent, link_lifetime_s=lifetime_s)
    return 1 + staged.n_objects, n_bytes + staged.n_bytes


def _stage_out_job(request: Request, settings: Settings) -> tuple[int, int]:
    from transfer_plugins.job_files import datastore_of_job, is_cluster_uri, quantum_of_job
    from transfer_plugins.object_store import open_store
    from transfer_plugins.stage_out import read_list, stage_out

    uri = s3_uri(request.url)
    sandbox = request.path.parent
    # Some of the time is kept for the requests under way when patience ends.
    patience_s = settings.deadline_s * 0.75
    if is_cluster_uri(uri):
        return _stage_out_cluster(uri, sandbox, settings, patience_s)
    stage_out_list = read_list(sandbox)
    run, quantum_id, delta = stage_out_list.run, quantum_of_job(uri), stage_out_list.delta
    if delta and not delta.key.startswith(names.delta_prefix(run, quantum_id)):
        raise FormatError(f"expected a delta of quantum {quantum_id}, found {delta.key!r}")
    root = datastore_of_job(uri, run, quantum_id)
    store = open_store(root, endpoint_url=settings.endpoint_url)
    moved = stage_out(stage_out_list, store, sandbox, patience_s=patience_s)
    return moved.n_files, moved.n_bytes


def _stage_out_cluster(
    uri: str, sandbox: Path, settings: Settings, patience_s: float
) -> tuple[int, int]:
    from transfer_plugins.job_files import open_cluster
    from transfer_plugins.stage_out_cluster import stage_out_cluster

    # From the datastore: the copy in the sandbox was within reach of the tasks.
    cluster, store, _ = open_cluster(uri, endpoint_url=settings.endpoint_url)
    moved = stage_out_cluster(cluster, store, sandbox, patience_s=patience_s)
    return moved.n_files, moved.n_bytes


if __name__ == "__main__":
    main()
