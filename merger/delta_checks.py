# SPDX-License-Identifier: BSD-3-Clause
"""Which deltas are good, and the reasons why others are not."""

import datetime
import enum
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import msgspec

from merger.predictions import Predictions
from merger.structs import Decoder
from registry import names
from registry.delta import (
    Delta,
    DeltaError,
    check_consistent,
    check_format,
    delta_body,
    verify_checksum,
)
from registry.typed_json import canonical

_decoder = Decoder(Delta)


class Reason(enum.StrEnum):
    """Why a delta is in the quarantine; the values are stable and machine-readable."""

    TRUNCATED = "truncated"
    """The object ends before the JSON object does."""
    CHECKSUM = "checksum"
    """It does not begin with its checksum, or the bytes behind it have another one."""
    NOT_JSON = "not_json"
    """The checksum is right, but the text is not JSON."""
    BAD_FIELDS = "bad_fields"
    """A field is missing, unknown, or of another type."""
    WRONG_KEY = "wrong_key"
    """Its key names another quantum, attempt or RUN than it holds, or is not a delta's."""
    UNKNOWN_GRAPH = "unknown_graph"
    """No graph record of the RUN has its graph id."""
    UNPREDICTED_QUANTUM = "unpredicted_quantum"
    """Its graph has no such quantum, or one with another task or data ID."""
    UNPREDICTED_OUTPUT = "unpredicted_output"
    """It names a dataset, or a dataset type, that was not predicted for its quantum."""
    BAD_ROWS = "bad_rows"
    """Its rows contradict each other or name keys outside of the RUN."""
    QUANTUM_OF_OTHER_RUN = "quantum_of_other_run"
    """The central registry has its quantum in another RUN."""
    REFUSED_BY_DATABASE = "refused_by_database"
    """PostgreSQL does not take its rows: NUL in text, a number or an index entry too large."""


class BadDeltaError(Exception):
    """A delta that must not be merged; caught where it is read, never shown as it is."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BadDelta:
    """A delta for the quarantine."""

    key: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class GoodDelta:
    """A delta that was verified; ``checksum`` is the one that it states of itself."""

    key: str
    checksum: str
    delta: Delta


def check_delta(content: bytes, key: str, predictions: Predictions) -> GoodDelta:
    """Verify, decode and check a delta against itself and the predictions of its RUN.

    Raises
    ------
    BadDeltaError
    registry.errors.NewerFormatError
        If a newer release wrote it; it waits.
    """
    checksum = _verify(content, key)
    delta = _decode(content, key)
    try:
        check_consistent(delta, key)
    except DeltaError as error:
        reason = Reason.BAD_ROWS if _is_key_right(delta, key) else Reason.WRONG_KEY
        raise BadDeltaError(reason, str(error)) from error
    _check_predicted(delta, key, predictions)
    _check_rows(delta, key)
    return GoodDelta(key, checksum, delta)


def _verify(content: bytes, key: str) -> str:
    try:
        checksum = verify_checksum(content, key)
        check_format(content, key)
    except DeltaError as error:
        whole = content.endswith(b"}")
        raise BadDeltaError(Reason.CHECKSUM if whole else Reason.TRUNCATED, str(error)) from error
    return checksum


def _decode(content: bytes, key: str) -> Delta:
    try:
        return _decoder.decode(delta_body(content))
    except msgspec.ValidationError as error:
        raise BadDeltaError(Reason.BAD_FIELDS, f"delta {key!r}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDeltaError(Reason.NOT_JSON, f"delta {key!r}: {error}") from error


def _is_key_right(delta: Delta, key: str) -> bool:
    return key == names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)


def _check_predicted(delta: Delta, key: str, predictions: Predictions) -> None:
    graph = predictions.graphs.get(delta.graph_id)
    if graph is None:
        raise BadDeltaError(
            Reason.UNKNOWN_GRAPH,
            f"delta {key!r}: expected a graph of RUN {predictions.run!r}, "
            f"{sorted(predictions.graphs)}, found {delta.graph_id!r}",
        )
    quantum = graph.quanta.get(delta.quantum_id)
    if quantum is None:
        raise BadDeltaError(
            Reason.UNPREDICTED_QUANTUM,
            f"delta {key!r}: graph {delta.graph_id!r} has no quantum {delta.quantum_id!r}",
        )
    if (quantum.task_label, quantum.data_id) != (delta.task_label, delta.data_id):
        raise BadDeltaError(
            Reason.UNPREDICTED_QUANTUM,
            f"delta {key!r}: expected task {quantum.task_label!r} for {quantum.data_id}, "
            f"found {delta.task_label!r} for {delta.data_id}",
        )
    for row in delta.rows.dataset:
        if row.dataset_id not in quantum.outputs:
            raise BadDeltaError(
                Reason.UNPREDICTED_OUTPUT,
                f"delta {key!r}: expected only predicted outputs of quantum "
                f"{delta.quantum_id!r}, found {row.dataset_type!r} {row.dataset_id!r}",
            )
        if row.dataset_type not in graph.dataset_types:
            raise BadDeltaError(
                Reason.UNPREDICTED_OUTPUT,
                f"delta {key!r}: graph {delta.graph_id!r} has no dataset type {row.dataset_type!r}",
            )


def _check_rows(delta: Delta, key: str) -> None:
    """Look for what a primary key would refuse, and for times that are none."""
    rows = delta.rows
    # The first look is cheap, and mostly the last.
    if len({row.dataset_type for row in rows.dataset}) != len(rows.dataset):
        claims = ((r.dataset_type, canonical(r.data_id)) for r in rows.dataset)
        _check_unique(claims, "dataset type and data ID", key)
    if len(rows.dimension_record) > 1:
        claims = ((r.dimension, canonical(r.data_id)) for r in rows.dimension_record)
        _check_unique(claims, "dimension and data ID", key)
    if len(rows.metric) > 1:
        _check_unique((r.name for r in rows.metric), "metric", key)
    if len({read.dataset_id for read in delta.inputs}) != len(delta.inputs):
        _check_unique((read.dataset_id for read in delta.inputs), "input", key)
    for text in (delta.started, delta.finished):
        parse_time(text, key)


def _check_unique(claims: Iterable[Hashable], what: str, key: str) -> None:
    found = list(claims)
    if len(set(found)) != len(found):
        twice = [claim for claim, number in Counter(found).items() if number > 1]
        raise BadDeltaError(
            Reason.BAD_ROWS, f"delta {key!r}: expected each {what} once, found {twice} again"
        )


def parse_time(text: str, key: str) -> datetime.datetime:
    """Read a time of a delta; raises `BadDeltaError` if it is none, or has no offset from UTC."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise BadDeltaError(
            Reason.BAD_ROWS, f"delta {key!r}: expected a time in ISO 8601 with UTC, found {text!r}"
        )
    return time
