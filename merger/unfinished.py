# SPDX-License-Identifier: BSD-3-Clause
"""Predicted quanta without a success in the central registry, and why."""

import enum
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from merger.central_registry import CentralRegistry
from merger.packed_ids import unpack_ids
from merger.predicted_ids import PredictedIds
from merger.predictions import Predictions
from merger.quantum_states import Known, QuantumState, States
from merger.standings import LastAttempt, read_last_attempts
from registry.model import DataId


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
    """All of them, by reason and then by id, and how many quanta there are."""

    n_predicted: int = 0
    n_merged: int = 0
    counts: Counter[UnfinishedReason] = field(default_factory=Counter)
    quanta: list[UnfinishedQuantum] = field(default_factory=list)


_REASONS = {
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
    wanted = predicted.quanta[places]
    attempts = read_last_attempts(registry, wanted)
    for place, quantum_id in zip(places, unpack_ids(wanted), strict=True):
        last = attempts.get(quantum_id)
        reason = _REASONS.get(QuantumState(states[place]), UnfinishedReason.OPEN)
        if reason is UnfinishedReason.OPEN and has_ended:
            reason = UnfinishedReason.FAILED if last else UnfinishedReason.NEVER_RUN
        found.counts[reason] += 1
        found.quanta.append(_describe(predictions, quantum_id, reason, last, known.n_bad[place]))
    order = list(UnfinishedReason)
    found.quanta.sort(key=lambda quantum: (order.index(quantum.reason), quantum.quantum_id))
    return found


def _describe(
    predictions: Predictions,
    quantum_id: str,
    reason: UnfinishedReason,
    last: LastAttempt | None,
    n_bad: int,
) -> UnfinishedQuantum:
    graph = next(g for g in predictions.graphs.values() if g.quanta.get(quantum_id))
    quantum = graph.quanta.get(quantum_id)
    assert quantum is not None, "the graph was chosen because it has the quantum"
    return UnfinishedQuantum(
        quantum_id,
        quantum.task_label,
        quantum.data_id,
        reason,
        (last.n_attempts if last else 0) + int(n_bad),
        last.exit_code if last else None,
        last.signal if last else None,
    )
