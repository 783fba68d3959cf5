# SPDX-License-Identifier: BSD-3-Clause
"""The rule of ending: which predicted quanta can still bring a delta, and what became of the rest.

A quantum is *open* while a delta of it may still come. The graph is done when none is open.

- *merged*: the central registry has a successful attempt. Nothing changes that.
- *waiting*: a delta is there that this merge leaves alone: of a newer format, refused by policy
  ``fail``, or forgotten and not about to be tried again. A person has to act; what is downstream
  goes on.
- With the status of a DAG, DAGMan decides: it alone knows how many retries are left. A node with
  ``STATUS_ERROR`` *failed*, one with ``STATUS_FUTILE`` is *blocked*. A node with ``STATUS_DONE``
  whose delta is neither merged nor in a listing made afterwards is *missing*: the delta was
  uploaded before the job ended, so it is lost. What is not in the DAG stays open until the DAG has
  ended.
- Without it, attempts are counted: more than N without success, and the quantum *failed*. A bad
  delta is an attempt without success, as it is for everybody else; an attempt that was told to stop
  is none, for whoever stopped it starts it again. What reads outputs of a failed
  or blocked quantum is *blocked*, whether the input is optional or not: neither DAGMan nor the
  local runner starts a quantum before all its parents were successful. An optional input is
  missing where its parent *was* successful and made less; such a parent blocks nothing. A person
  who reruns a blocked quantum alone brings a delta later, and a later merge takes it.

Everything is in arrays, 16 bytes and some for each quantum, however many there are.
"""

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from merger.dag_status import DagStatus, NodeStatus
from merger.predicted_ids import PredictedIds

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Counts = np.ndarray[Any, np.dtype[np.int32]]
States = np.ndarray[Any, np.dtype[np.uint8]]


class QuantumState(enum.IntEnum):
    """What became of a predicted quantum; see the rule above."""

    OPEN = 0
    MERGED = 1
    FAILED = 2
    BLOCKED = 3
    MISSING = 4
    QUARANTINED = 5
    """Failed, and there is nothing of it but bad deltas."""
    WAITING = 6


@dataclass(slots=True)
class Known:
    """What is known of predicted quanta, in their order."""

    is_merged: Flags
    n_failed: Counts
    """Merged attempts that failed, of quanta that are not merged."""
    n_bad: Counts
    """Deltas in quarantine that may be its own."""
    is_tried: Flags
    """An attempt is merged, whatever it ended as."""
    is_forgotten: Flags
    """Attempts were taken out, and no merge brings them back."""
    is_waiting: Flags
    """A delta is there that this merge leaves alone until a person acts."""
    is_pending: Flags = field(default_factory=lambda: np.zeros(0, bool))
    """A delta is listed that is not merged yet, because another merger is at it."""

    @classmethod
    def nothing(cls, n_quanta: int) -> "Known":
        """Nothing is known of so many quanta."""
        none, zero = np.zeros(n_quanta, bool), np.zeros(n_quanta, np.int32)
        return cls(none, zero, zero.copy(), *(none.copy() for _ in range(4)))


def settle(
    predicted: PredictedIds, known: Known, dag: DagStatus | None, n_retries: int = 0
) -> States:
    """Apply the rule.

    Parameters
    ----------
    dag
        Read before the deltas were listed; None if there is no DAG to ask, or it says nothing yet.
    n_retries
        Attempts without success that another one may follow; counts only without a DAG.
    """
    states = np.full(len(predicted), QuantumState.OPEN, np.uint8)
    if dag is None:
        states[known.n_failed + known.n_bad > n_retries] = QuantumState.FAILED
        states[known.is_forgotten & (states == QuantumState.OPEN)] = QuantumState.WAITING
    else:
        nodes = dag.of(predicted.quanta)
        states[nodes == NodeStatus.ERROR] = QuantumState.FAILED
        states[nodes == NodeStatus.FUTILE] = QuantumState.BLOCKED
        states[(nodes == NodeStatus.DONE) & ~known.is_pending] = QuantumState.MISSING
        is_over = (states == QuantumState.MISSING) | (nodes == NodeStatus.NOT_IN_DAG)
        states[known.is_forgotten & is_over] = QuantumState.WAITING
    is_final = (states == QuantumState.FAILED) | (states == QuantumState.MISSING)
    states[is_final & (known.n_bad > 0) & (known.n_failed == 0)] = QuantumState.QUARANTINED
    states[known.is_waiting] = QuantumState.WAITING
    states[known.is_merged] = QuantumState.MERGED
    if dag is None:
        _block(states, predicted)
    return states


def _block(states: States, predicted: PredictedIds) -> None:
    """Block what is open downstream of what failed, level by level."""
    is_stopped = np.isin(states, (QuantumState.FAILED, QuantumState.QUARANTINED))
    while is_stopped.any():
        reached = predicted.children[is_stopped[predicted.parents]]
        is_stopped = np.zeros(len(states), bool)
        is_stopped[reached] = True
        is_stopped &= states == QuantumState.OPEN
        states[is_stopped] = QuantumState.BLOCKED
