# SPDX-License-Identifier: BSD-3-Clause
"""Predicted quanta without a success in the central registry, and why."""

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np

from merger.central_registry import CentralRegistry
from merger.packed_ids import unpack_ids
from merger.predicted_ids import Places, PredictedIds
from merger.predictions import Predictions
from merger.quantum_states import Known, QuantumState, States
from merger.standings import LastAttempt, read_last_attempts
from registry.model import DataId

_read_data_id = msgspec.json.Decoder(dict[str, str | int]).decode


class UnfinishedReason(enum.StrEnum):
    """Why a quantum has no success in the central registry; the values are stable."""

    SUCCESSFUL_WITHOUT_DELTA = "successful_without_delta"
    """The DAG says that it was successful; its delta is lost."""
    FAILED = "failed"
    """It was tried, and no further attempt comes."""
    BLOCKED = "blocked"
    """Something that it depends on failed."""
    QUARANTINED = "quarantined"
    """There is nothing of it but bad deltas."""
    WAITING = "waiting"
    """Its delta is there and was left alone: newer format, refused by policy, forgotten."""
    NEVER_RUN = "never_run"
    """Nothing of it came, and the DAG has ended."""
    OPEN = "open"
    """A delta may still come."""


@dataclass(frozen=True, slots=True)
class UnfinishedQuantum:
    """A quantum without success; ``exit_code`` and ``signal`` are those of its last attempt."""

    quantum_id: str
    task_label: str
    data_id: DataId
    reason: UnfinishedReason
    n_attempts: int = 0
    exit_code: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """How many quanta there are, and the first of each reason by id."""

    n_predicted: int = 0
    n_merged: int = 0
    counts: Counter[UnfinishedReason] = field(default_factory=Counter)
    quanta: list[UnfinishedQuantum] = field(default_factory=list)


NAMED_OF_A_REASON = 10_000
"""As many are named; the counts have all."""

_ORDER = list(UnfinishedReason)
_NEVER_TRIED = LastAttempt(None, None, 0)
_REASONS = {
    QuantumState.OPEN: UnfinishedReason.OPEN,
    QuantumState.MERGED: UnfinishedReason.OPEN,
    QuantumState.FAILED: UnfinishedReason.FAILED,
    QuantumState.BLOCKED: UnfinishedReason.BLOCKED,
    QuantumState.MISSING: UnfinishedReason.SUCCESSFUL_WITHOUT_DELTA,
    QuantumState.QUARANTINED: UnfinishedReason.QUARANTINED,
    QuantumState.WAITING: UnfinishedReason.WAITING,
}


def describe_unfinished(
    registry: CentralRegistry,
    predictions: Predictions | None,
    predicted: PredictedIds,
    states: States,
    known: Known,
    *,
    has_ended: bool,
) -> Unfinished:
    """Name the quanta that are not merged.

    Parameters
    ----------
    has_ended
        Nothing is to come any more: what is open was never run, or failed.

    Raises
    ------
    registry.errors.QuantumExecError
        If registry or datastore cannot be read.
    """
    places = np.flatnonzero(states != QuantumState.MERGED)
    found = Unfinished(len(predicted), len(predicted) - len(places))
    if predictions is None or not len(places):
        return found
    reasons = np.array([_ORDER.index(_REASONS[state]) for state in QuantumState])[states[places]]
    if has_ended:
        was_tried = known.is_tried[places] | (known.n_bad[places] > 0)
        is_open = reasons == _ORDER.index(UnfinishedReason.OPEN)
        reasons[is_open & was_tried] = _ORDER.index(UnfinishedReason.FAILED)
        reasons[is_open & ~was_tried] = _ORDER.index(UnfinishedReason.NEVER_RUN)
    for number, reason in enumerate(_ORDER):
        of_reason = places[reasons == number]
        if not len(of_reason):
            continue
        found.counts[reason] = len(of_reason)
        named = of_reason[:NAMED_OF_A_REASON]
        found.quanta.extend(_describe(registry, predictions, predicted, known, named, reason))
    return found


def _describe(
    registry: CentralRegistry,
    predictions: Predictions,
    predicted: PredictedIds,
    known: Known,
    places: Places,
    reason: UnfinishedReason,
) -> Iterator[UnfinishedQuantum]:
    wanted = predicted.quanta[places]
    attempts = read_last_attempts(registry, wanted)
    labels = {}
    for graph in predictions.graphs.values():
        quanta = graph.quanta
        there = quanta.find(wanted)
        for number in np.flatnonzero(there >= 0):
            place = int(there[number])
            label = quanta.labels[quanta.label_places[place]]
            labels[int(number)] = label, _read_data_id(quanta.data_ids[place].as_py())
    for at, quantum_id in enumerate(unpack_ids(wanted)):
        last = attempts.get(quantum_id, _NEVER_TRIED)
        yield UnfinishedQuantum(
            *(quantum_id, *labels[at], reason),
            n_attempts=last.n_attempts + int(known.n_bad[places[at]]),
            exit_code=last.exit_code,
            signal=last.signal,
        )
