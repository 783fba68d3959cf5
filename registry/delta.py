# SPDX-License-Identifier: BSD-3-Clause
"""Delta: the commit record of one quantum attempt (specification: ``docs/delta-format.md``).

A delta is one line of JSON whose first member is the SHA-256 of everything behind it::

    {"checksum":"sha256:<64 hex digits>","format":1,…}

so that it is verified over the bytes as they lie in S3, before anything is decoded.
"""

import datetime
import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import cast

from registry import names, typed_json
from registry.attempt import AttemptStatus
from registry.errors import FormatError, InvalidNameError, NewerFormatError
from registry.job import ResourceRequest
from registry.model import DataId, DimensionRecord

DELTA_FORMAT = 3
"""Format 2 added what was asked for, I/O, scratch space, versions and the wrapper's log; format 3
the datasets that were not kept."""

MAX_LOG_ENTRIES = 200
"""Entries of the wrapper's log in one delta."""

MAX_VERSIONS = 200
"""Versions in one delta."""

MAX_TEXT_LENGTH = 200
"""Characters of a version and its name, and of events and texts in the wrapper's log."""

_HEAD = b'{"checksum":"sha256:'
_HEX_DIGITS = 64
_BODY_START = len(_HEAD) + _HEX_DIGITS + len(b'",')


class DeltaError(FormatError):
    """A delta is damaged or contradicts itself; it must not be merged nor trusted."""

    error_type = "bad_delta"


@dataclass(frozen=True, slots=True)
class ReadInput:
    """An input as the attempt read it; ``attempt_id`` is the attempt that made it, if known."""

    dataset_id: str
    attempt_id: str | None
    key: str
    size_bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """What the task and all its descendants used; None where it was not measured.

    ``max_rss_bytes`` is the peak of the sum over the process tree, sampled, and never less than
    that of its largest process. ``read_bytes`` and ``write_bytes`` went through system calls (rchar
    and wchar of proc(5)). ``scratch_bytes`` is the most that lay in the sandbox.
    """

    wall_s: float
    cpu_user_s: float
    cpu_system_s: float
    max_rss_bytes: int
    read_bytes: int | None = None
    write_bytes: int | None = None
    scratch_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A step of the wrapper: seconds since stage-in began, what was done, and facts about it."""

    elapsed_s: float
    event: str
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A row of table ``dataset``; RUN, quantum and attempt are those of the delta."""

    dataset_id: str
    dataset_type: str
    data_id: DataId


@dataclass(frozen=True, slots=True)
class DatastoreRow:
    """A row of table ``datastore_record``: where the bytes of a dataset are."""

    dataset_id: str
    object_key: str
    size_bytes: int
    checksum: str
    storage_class: str


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A row of table ``metric``: a number that the task reports."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class AddedRows:
    """The rows that the attempt added to its private registry, by table."""

    dataset: list[DatasetRow] = field(default_factory=list)
    datastore_record: list[DatastoreRow] = field(default_factory=list)
    dimension_record: list[DimensionRecord] = field(default_factory=list)
    metric: list[MetricRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delta:
    """What one quantum attempt read, did, and added to its private registry.

    Times are UTC in ISO 8601 with microseconds. ``no_work`` marks a success that had nothing to
    do. A delta that is not successful names no outputs. ``versions`` are those of what ran, by
    name; ``requested`` is None in deltas of format 1. ``not_kept`` are ids of datasets that were
    made and deliberately left in the sandbox: they have a dataset row, and no datastore record.
    """

    format: int
    graph_id: str
    run: str
    quantum_id: str
    task_label: str
    data_id: DataId
    attempt_id: str
    status: AttemptStatus
    no_work: bool
    started: str
    finished: str
    host: str
    resources: ResourceUse
    exit_code: int | None
    signal: int | None
    error: str | None
    log_key: str | None
    inputs: list[ReadInput]
    rows: AddedRows
    requested: ResourceRequest | None = None
    versions: dict[str, str] = field(default_factory=dict)
    wrapper_log: list[LogEntry] = field(default_factory=list)
    not_kept: list[str] = field(default_factory=list)


ADDED_LATER: dict[type, dict[str, int]] = {
    Delta: {"requested": 2, "versions": 2, "wrapper_log": 2, "not_kept": 3},
    ResourceUse: {"read_bytes": 2, "write_bytes": 2, "scratch_bytes": 2},
}
"""Members that came after format 1, and with which: a delta of that format or a newer one has all
of them, an older one none."""


def write_delta(delta: Delta) -> bytes:
    """Return the bytes of a delta, checksum first."""
    body = typed_json.encode(delta).encode()[1:]
    return _HEAD + hashlib.sha256(body).hexdigest().encode() + b'",' + body


def read_delta(content: bytes, key: str) -> Delta:
    """Verify and read a delta found under a key.

    Raises
    ------
    NewerFormatError
        If a newer release wrote it; it is whole, and can be read after an upgrade.
    DeltaError
        If it is truncated, altered, of another form, or not the delta that its key names.
    """
    verify_checksum(content, key)
    delta_format = check_format(content, key)
    try:
        delta = decode_body(delta_body(content), delta_format, f"delta {key!r}")
    except FormatError as error:
        raise DeltaError(str(error)) from error
    check_consistent(delta, key)
    return delta


def decode_body(body: bytes, delta_format: int, what: str) -> Delta:
    """Read the JSON object of a delta of a known format.

    Raises
    ------
    FormatError
        If it is no JSON, or a member is missing, unknown, or of another type. What a format
        does not have yet is unknown to it.
    """
    value = typed_json.load(body, what)
    if isinstance(value, dict):
        _check_members(value, Delta, delta_format, what)
        if isinstance(value.get("resources"), dict):
            _check_members(value["resources"], ResourceUse, delta_format, f"{what}.resources")
        # A member may stand twice, and the last one counts.
        if value.get("format") != delta_format:
            raise FormatError(f"{what}: expected one format, found {value.get('format')!r}, too")
    return cast(Delta, typed_json.structure(Delta, value, what))


def _check_members(value: dict[str, object], cls: type, delta_format: int, place: str) -> None:
    for name, since in ADDED_LATER[cls].items():
        if delta_format < since and name in value:
            raise FormatError(f"{place}: unknown field {name!r} in format {delta_format}")
        if delta_format >= since and name not in value:
            raise FormatError(f"{place}: field {name!r} is missing")


def verify_checksum(content: bytes, key: str) -> str:
    """Return the checksum of a delta after comparing it with the bytes.

    Raises
    ------
    DeltaError
        If the frame is not there or the bytes behind it have another SHA-256.
    """
    if not content.startswith(_HEAD) or content[_BODY_START - 2 : _BODY_START] != b'",':
        raise DeltaError(
            f"delta {key!r}: expected it to begin with its checksum, found {content[:40]!r}"
        )
    stated = content[len(_HEAD) : _BODY_START - 2].decode(errors="replace")
    found = hashlib.sha256(content[_BODY_START:]).hexdigest()
    if found != stated:
        raise DeltaError(
            f"delta {key!r}: expected SHA-256 {stated} over {len(content) - _BODY_START} bytes, "
            f"found {found}; it is truncated or altered"
        )
    return f"sha256:{found}"


def delta_body(content: bytes) -> bytes:
    """The JSON object of a verified delta without its checksum."""
    return b"{" + content[_BODY_START:]


def check_format(content: bytes, key: str) -> int:
    """Return the format of a verified delta before anything else in it is believed.

    Raises
    ------
    NewerFormatError, DeltaError
    """
    head = content[_BODY_START : _BODY_START + 40]
    name, _, rest = head.partition(b":")
    digits = rest.split(b",")[0]
    if name != b'"format"' or not digits.isdigit():
        raise DeltaError(f"delta {key!r}: expected its format behind the checksum, found {head!r}")
    if int(digits) > DELTA_FORMAT:
        raise NewerFormatError(
            f"delta {key!r}: expected format {DELTA_FORMAT} or older, found {int(digits)}; "
            "upgrade registry-merge"
        )
    if int(digits) < 1:
        raise DeltaError(f"delta {key!r}: expected format {DELTA_FORMAT} or older, found 0")
    return int(digits)


def check_consistent(delta: Delta, key: str) -> None:
    """Check what a delta says of itself: its key, that only a success names outputs, its bounds.

    Raises
    ------
    DeltaError
    """
    named = names.parse_delta_key(key)
    if named != (delta.quantum_id, delta.attempt_id):
        raise DeltaError(
            f"delta {key!r}: holds quantum {delta.quantum_id!r}, attempt {delta.attempt_id!r}"
        )
    if key != names.delta_key(delta.run, delta.quantum_id, delta.attempt_id):
        raise DeltaError(f"delta {key!r}: says that it belongs to RUN {delta.run!r}")
    rows = delta.rows
    if delta.status is not AttemptStatus.SUCCESSFUL and (rows.dataset or rows.datastore_record):
        raise DeltaError(f"delta {key!r}: is {delta.status} but names outputs")
    _check_datasets(delta, key)
    below, not_below = f"{delta.run}/", names.control_prefix(delta.run)
    for record in rows.datastore_record:
        _check_record(record, below, not_below, key)
    _check_each_once(delta, key)
    _check_texts(delta, key)
    for time in (delta.started, delta.finished):
        _check_time(time, key)


def _check_datasets(delta: Delta, key: str) -> None:
    """Every dataset has one datastore record, or is said to be not kept."""
    rows, not_kept = delta.rows, set(delta.not_kept)
    dataset_ids = {row.dataset_id for row in rows.dataset}
    if not_kept - dataset_ids:
        raise DeltaError(
            f"delta {key!r}: expected only datasets of its own as not kept, "
            f"found {sorted(not_kept - dataset_ids)}"
        )
    kept = dataset_ids - not_kept
    if kept != {record.dataset_id for record in rows.datastore_record}:
        raise DeltaError(f"delta {key!r}: datasets and datastore records do not match")
    n_named = (len(rows.dataset), len(rows.datastore_record), len(delta.not_kept))
    if n_named != (len(dataset_ids), len(kept), len(not_kept)):
        raise DeltaError(f"delta {key!r}: names a dataset twice")


def _check_each_once(delta: Delta, key: str) -> None:
    """Look for what a primary key would refuse."""
    rows = delta.rows
    # The first look is cheap, and mostly the last: the merger does this 27,000 times.
    if len({row.dataset_type for row in rows.dataset}) != len(rows.dataset):
        claims = ((r.dataset_type, typed_json.canonical(r.data_id)) for r in rows.dataset)
        _check_unique(claims, "dataset type and data ID", key)
    if len(rows.dimension_record) > 1:
        claims = ((r.dimension, typed_json.canonical(r.data_id)) for r in rows.dimension_record)
        _check_unique(claims, "dimension and data ID", key)
    if len(rows.metric) > 1:
        _check_unique((r.name for r in rows.metric), "metric", key)
    if len({read.dataset_id for read in delta.inputs}) != len(delta.inputs):
        _check_unique((read.dataset_id for read in delta.inputs), "input", key)


def _check_unique(claims: Iterable[Hashable], what: str, key: str) -> None:
    found = list(claims)
    if len(set(found)) != len(found):
        twice = [claim for claim, number in Counter(found).items() if number > 1]
        raise DeltaError(f"delta {key!r}: expected each {what} once, found {twice} again")


def _check_texts(delta: Delta, key: str) -> None:
    """Versions and the wrapper's log are bounded: what runs inside a task may add to them."""
    for what, number, most in (
        ("versions", len(delta.versions), MAX_VERSIONS),
        ("entries in the wrapper's log", len(delta.wrapper_log), MAX_LOG_ENTRIES),
    ):
        if number > most:
            raise DeltaError(f"delta {key!r}: expected at most {most} {what}, found {number}")
    texts: list[object] = [*delta.versions, *delta.versions.values()]
    for entry in delta.wrapper_log:
        texts.append(entry.event)
        texts.extend(entry.facts)
        texts.extend(entry.facts.values())
    for text in texts:
        if type(text) is str and len(text) > MAX_TEXT_LENGTH:
            raise DeltaError(
                f"delta {key!r}: expected at most {MAX_TEXT_LENGTH} characters in a version or an "
                f"entry of the wrapper's log, found {len(text)}: {text[:40]!r}…"
            )


def _check_time(text: str, key: str) -> None:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise DeltaError(f"delta {key!r}: expected a time in ISO 8601 with UTC, found {text!r}")


def _check_record(record: DatastoreRow, below: str, not_below: str, key: str) -> None:
    found = record.object_key
    try:
        names.check_key(found, f"delta {key!r}")
    except InvalidNameError as error:
        raise DeltaError(str(error)) from error
    if not found.startswith(below) or found.startswith(not_below) or record.size_bytes < 0:
        raise DeltaError(
            f"delta {key!r}: expected keys below {below!r}, not below {not_below!r}, and sizes of "
            f"0 or more; found key {found!r} of {record.size_bytes} bytes"
        )
