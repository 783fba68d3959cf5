# SPDX-License-Identifier: BSD-3-Clause
"""Which deltas are good, and the reasons why others are not."""

import enum
from dataclasses import dataclass, field

import msgspec

from merger.predictions import Predictions
from registry import names
from registry.delta import (
    Delta,
    DeltaError,
    check_consistent,
    check_format,
    delta_body,
    verify_checksum,
)
from registry.prediction import (
    UnknownGraphError,
    UnpredictedDeltaError,
    UnpredictedQuantumError,
    check_predicted,
)
from registry.structs import delta_decoders

_decoders = delta_decoders()


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
    """Its rows contradict each other, name keys outside of the RUN, or are more than allowed."""
    QUANTUM_OF_OTHER_RUN = "quantum_of_other_run"
    """The central registry has its quantum in another RUN."""
    ATTEMPT_OF_OTHER_RUN = "attempt_of_other_run"
    """The ledger has its attempt id in another RUN."""
    REFUSED_BY_DATABASE = "refused_by_database"
    """PostgreSQL does not take its rows: NUL in text, a number or an index entry too large."""
    REFUSED_BY_DATASTORE = "refused_by_datastore"
    """The datastore does not let this object be read, though others."""
    BAD_ARCHIVE = "bad_archive"
    """Of a file of archived deltas: it is damaged, and may have had deltas that are lost."""


class BadDeltaError(Exception):
    """A delta that must not be merged; caught where it is read, never shown as it is."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BadDelta:
    """A delta for the quarantine; its reason may be one that a newer release knows."""

    key: str
    reason: Reason | str
    message: str


@dataclass(frozen=True, slots=True)
class GoodDelta:
    """A delta that was verified; ``checksum`` is the one that it states of itself."""

    key: str
    checksum: str
    delta: Delta


@dataclass(frozen=True, slots=True)
class ReadDeltas:
    """What became of the keys of one batch."""

    good: list[GoodDelta] = field(default_factory=list)
    bad: list[BadDelta] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    """Keys of deltas that a newer release wrote."""

    def add(self, other: "ReadDeltas") -> None:
        """Add what became of other keys."""
        self.good.extend(other.good)
        self.bad.extend(other.bad)
        self.newer.extend(other.newer)

    @property
    def n_keys(self) -> int:
        """Number of deltas that were there to be read."""
        return len(self.good) + len(self.bad) + len(self.newer)


def check_delta(content: bytes, key: str, predictions: Predictions) -> GoodDelta:
    """Verify, decode and check a delta against itself and the predictions of its RUN.

    Raises
    ------
    BadDeltaError
    registry.errors.NewerFormatError
        If a newer release wrote it; it waits.
    """
    checksum, delta_format = _verify(content, key)
    delta = _decode(content, delta_format, key)
    try:
        check_consistent(delta, key)
    except DeltaError as error:
        reason = Reason.BAD_ROWS if _is_key_right(delta, key) else Reason.WRONG_KEY
        raise BadDeltaError(reason, str(error)) from error
    try:
        _check_predicted(delta, key, predictions)
    except UnpredictedDeltaError as error:
        raise BadDeltaError(Reason(error.error_type), str(error)) from error
    return GoodDelta(key, checksum, delta)


def _verify(content: bytes, key: str) -> tuple[str, int]:
    try:
        return verify_checksum(content, key), check_format(content, key)
    except DeltaError as error:
        whole = content.endswith(b"}")
        raise BadDeltaError(Reason.CHECKSUM if whole else Reason.TRUNCATED, str(error)) from error


def _decode(content: bytes, delta_format: int, key: str) -> Delta:
    try:
        delta = _decoders[delta_format].decode(delta_body(content))
    except msgspec.ValidationError as error:
        raise BadDeltaError(Reason.BAD_FIELDS, f"delta {key!r}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDeltaError(Reason.NOT_JSON, f"delta {key!r}: {error}") from error
    if delta.format != delta_format:
        raise BadDeltaError(
            Reason.BAD_FIELDS, f"delta {key!r}: expected one format, found {delta.format}, too"
        )
    return delta


def _is_key_right(delta: Delta, key: str) -> bool:
    return key == names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)


def _check_predicted(delta: Delta, key: str, predictions: Predictions) -> None:
    graph = predictions.graphs.get(delta.graph_id)
    if graph is None:
        raise UnknownGraphError(
            f"delta {key!r}: expected a graph of RUN {predictions.run!r}, "
            f"{sorted(predictions.graphs)}, found {delta.graph_id!r}"
        )
    quantum = graph.quanta.get(delta.quantum_id)
    if quantum is None:
        raise UnpredictedQuantumError(
            f"delta {key!r}: graph {delta.graph_id!r} has no quantum {delta.quantum_id!r}"
        )
    check_predicted(
        delta,
        key,
        task_label=quantum.task_label,
        data_id=quantum.data_id,
        outputs=quantum.outputs,
        dataset_types=graph.dataset_types,
    )
