# SPDX-License-Identifier: BSD-3-Clause
"""Logs of tasks, fetched from the datastore by the keys that quantum and attempt give."""

import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from executor.graph.selection import Selection, SelectionError
from executor.submit.bucket_run import BucketRun
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import Delta, read_delta
from registry.errors import FormatError
from registry.graph_record import PredictedQuantum
from transfer_plugins.concurrency import CONCURRENT_TRANSFERS, map_concurrently
from transfer_plugins.object_store import ObjectNotFoundError

_GZIP = b"\x1f\x8b"
_LONGEST_LINE = 1 << 20
"""Characters; a longer one is given in pieces."""


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """What a task wrote during an attempt; ``missing`` says why there is no ``file`` of it.

    The file is as it lies in the datastore, and is there until the next log is asked for.
    ``status`` and ``error`` are those of the attempt's delta, None if it left none that can be
    read.
    """

    quantum: PredictedQuantum
    attempt_id: str
    key: str
    file: Path | None
    missing: str | None
    status: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class _Attempt:
    quantum: PredictedQuantum
    attempt_id: str


def select_attempts(
    bucket: BucketRun,
    selection: Selection,
    *,
    failed: bool = False,
    attempt_id: str | None = None,
    all_attempts: bool = False,
) -> list[_Attempt]:
    """The attempts meant: the newest of each quantum, all, or the one that is named.

    An attempt is known by its delta or its log: a wrapper that was killed may have left only one.

    Raises
    ------
    SelectionError
        If a quantum that is named is not in the RUN, or no attempt is meant.
    TransferError
    """
    unknown = selection.quantum_ids - bucket.quanta.keys()
    if unknown:
        raise SelectionError(f"RUN {bucket.run!r}: expected its quanta, found {sorted(unknown)}")
    attempts: dict[str, set[str]] = {q: set() for q in bucket.quanta}
    listed = bucket.store.list_objects(names.log_prefix(bucket.run))
    found = [names.parse_log_key(stored.key) for stored in listed]
    found += [names.parse_delta_key(k) for keys in bucket.delta_keys.values() for k in keys]
    for parsed in found:
        if parsed is not None and parsed[0] in attempts:
            attempts[parsed[0]].add(parsed[1])
    wanted = [
        _Attempt(quantum, one)
        for quantum_id, quantum in bucket.quanta.items()
        if selection.takes(quantum_id, quantum.task_label, quantum.data_id)
        for one in _of_quantum(attempts[quantum_id], attempt_id, all_attempts)
    ]
    if failed:
        newest = {q: max(ids) for q, ids in attempts.items() if ids}
        candidates = [a for a in wanted if a.quantum.quantum_id in newest]
        deltas = map_concurrently(
            lambda a: _delta_of(bucket, a.quantum.quantum_id, newest[a.quantum.quantum_id]),
            candidates,
        )
        wanted = [
            a
            for a, delta in zip(candidates, deltas, strict=True)
            if delta is None or delta.status is not AttemptStatus.SUCCESSFUL
        ]
    if not wanted and not failed:
        raise SelectionError(
            f"RUN {bucket.run!r}: expected quanta that were tried, found none that is meant"
        )
    return wanted


def _of_quantum(found: set[str], attempt_id: str | None, all_attempts: bool) -> Sequence[str]:
    if attempt_id is not None:
        return [attempt_id] if attempt_id in found else []
    return sorted(found) if all_attempts else sorted(found)[-1:]


def fetch_logs(
    bucket: BucketRun, attempts: Sequence[_Attempt], scratch: Path
) -> Iterator[AttemptLog]:
    """Fetch logs, 16 at once, into an empty directory; one that is not there is told, not raised.

    Only so many lie there, however many are asked for.
    """

    def fetch(place: int) -> AttemptLog:
        return _fetch(bucket, attempts[place], scratch / str(place))

    for start in range(0, len(attempts), CONCURRENT_TRANSFERS):
        places = range(start, min(start + CONCURRENT_TRANSFERS, len(attempts)))
        for log in map_concurrently(fetch, places):
            yield log
            if log.file:
                log.file.unlink()


def _fetch(bucket: BucketRun, attempt: _Attempt, path: Path) -> AttemptLog:
    quantum_id, attempt_id = attempt.quantum.quantum_id, attempt.attempt_id
    key = names.log_key(bucket.run, quantum_id, attempt_id)
    delta = _delta_of(bucket, quantum_id, attempt_id)
    file: Path | None = path
    missing: str | None = None
    if delta is not None and delta.log_key is not None:
        key = delta.log_key
    try:
        bucket.store.download(key, path)
    except ObjectNotFoundError:
        file, missing = None, "no log: the attempt was ended before it could be uploaded"
    status = str(delta.status) if delta else None
    return AttemptLog(
        attempt.quantum, attempt_id, key, file, missing, status, delta.error if delta else None
    )


def _delta_of(bucket: BucketRun, quantum_id: str, attempt_id: str) -> Delta | None:
    key = names.delta_key(bucket.run, quantum_id, attempt_id)
    if key not in bucket.delta_keys.get(quantum_id, ()):
        return None
    try:
        return read_delta(bucket.store.get(key), key)
    except FormatError:
        return None


def lines_of(log: AttemptLog, pattern: re.Pattern[str] | None, tail: int | None) -> Iterator[str]:
    """The lines that are wanted: those that match, and of these the last; none without a log.

    Raises
    ------
    FormatError
        Where the log is damaged, behind the lines before that.
    """
    found = (line for line in _lines(log) if pattern is None or pattern.search(line))
    if tail is None:
        yield from found
        return
    last: deque[str] = deque(maxlen=tail)
    try:
        last.extend(found)
    finally:
        yield from last


def _lines(log: AttemptLog) -> Iterator[str]:
    """Line by line: a few bytes in the datastore may be any number when they are unpacked."""
    if log.file is None:
        return
    try:
        with log.file.open("rb") as packed:
            # Logs of the first release were not compressed.
            is_gzip = packed.peek(len(_GZIP)).startswith(_GZIP)
            content: BinaryIO = packed
            if is_gzip:
                content = cast(BinaryIO, gzip.GzipFile(fileobj=packed))
            with io.TextIOWrapper(content, encoding="utf-8", errors="replace") as text:
                while line := text.readline(_LONGEST_LINE):
                    yield line.removesuffix("\n")
    except (EOFError, OSError, zlib.error) as error:
        raise FormatError(f"log {log.key!r}: expected gzip, found {error}") from error
