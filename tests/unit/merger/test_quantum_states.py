# SPDX-License-Identifier: BSD-3-Clause
"""The rule of ending, on small graphs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.dag_status import DagStatus, NodeStatus
from merger.packed_ids import pack_ids
from merger.predicted_ids import PredictedIds
from merger.quantum_states import Known, QuantumState, States, settle


def quantum(number: int) -> str:
    return f"{number:08x}-0000-5000-8000-000000000000"


def make_ids(n_quanta: int, *edges: tuple[int, int]) -> PredictedIds:
    """Quanta by number; edges from parent to child."""
    ids = pack_ids([quantum(n) for n in range(n_quanta)])
    parents, children = (pack_ids([quantum(edge[end]) for edge in edges]) for end in (0, 1))
    return PredictedIds.link(ids, parents, children)


def make_known(n_quanta: int, **places: list[int]) -> Known:
    """Flags are set, and counts are one, at these places."""
    known = Known.nothing(n_quanta)
    for name, numbers in places.items():
        getattr(known, name)[numbers] = 1
    return known


def make_dag(*statuses: NodeStatus, is_ended: bool = False) -> DagStatus:
    ids = pack_ids([quantum(n) for n in range(len(statuses))])
    return DagStatus(is_ended, ids, np.array(statuses, np.int8))


def states(found: States) -> str:
    """One letter for each quantum: O, M, F, B, D (missing), Q, W."""
    letters = {state: state.name[0] for state in QuantumState} | {QuantumState.MISSING: "D"}
    return "".join(letters[QuantumState(number)] for number in found)


# 0 ─► 1 ─► 2 ─► 4,  3 ─► 4
CHAIN = make_ids(5, (0, 1), (1, 2), (2, 4), (3, 4))


@pytest.mark.parametrize(
    "expected, places",
    [
        ("OOOOO", {}),
        ("MMMMM", {"is_merged": [0, 1, 2, 3, 4]}),
        ("FBBOB", {"n_failed": [0]}),
        ("MFBMB", {"is_merged": [0, 3], "n_failed": [1]}),
        ("QBBOB", {"n_bad": [0]}),
        ("FBBOB", {"n_bad": [0], "n_failed": [0]}),
        # A person reran it alone, or its parent was successful before it was damaged.
        ("FBMOO", {"n_failed": [0], "is_merged": [2]}),
        # What is left alone may yet be good: nothing downstream is blocked.
        ("WOOOO", {"is_waiting": [0]}),
        ("MOOOO", {"is_merged": [0], "is_waiting": [0]}),
        # A merged success counts, whatever became of other attempts.
        ("MOOOO", {"is_merged": [0], "n_bad": [0]}),
    ],
)
def test_without_a_dag(expected: str, places: dict[str, list[int]]) -> None:
    assert states(settle(CHAIN, make_known(5, **places), None)) == expected


def test_attempts_are_counted_without_a_dag() -> None:
    known = make_known(5, n_failed=[0], n_bad=[0])
    assert states(settle(CHAIN, known, None, 2)) == "OOOOO"
    assert states(settle(CHAIN, known, None, 1)) == "FBBOB"


def test_dag_decides() -> None:
    """Failed attempts of a node that is ready again mean nothing, nor does a parent's failure."""
    dag = make_dag(NodeStatus.READY, NodeStatus.ERROR, NodeStatus.FUTILE, NodeStatus.SUBMITTED)
    assert states(settle(CHAIN, make_known(5, n_failed=[0, 3]), dag)) == "OFBOO"


def test_done_without_delta_is_missing() -> None:
    dag = make_dag(*[NodeStatus.DONE] * 5)
    known = make_known(5, is_merged=[0], is_waiting=[1], n_bad=[2], is_pending=[3])
    assert states(settle(CHAIN, known, dag)) == "MWQOD"


def test_success_of_a_node_that_failed_counts() -> None:
    dag = make_dag(NodeStatus.ERROR, NodeStatus.FUTILE)
    assert states(settle(CHAIN, make_known(5, is_merged=[0, 1]), dag)) == "MMOOO"


def test_quanta_of_two_graphs_and_parents_from_outside() -> None:
    ids = pack_ids([quantum(1), quantum(0), quantum(1)])
    predicted = PredictedIds.link(
        ids, pack_ids([quantum(9), quantum(0)]), pack_ids([quantum(0), quantum(1)])
    )
    assert len(predicted) == 2
    assert states(settle(predicted, make_known(2, n_failed=[0]), None)) == "FB"


def test_no_quanta() -> None:
    assert len(settle(make_ids(0), Known.nothing(0), make_dag(NodeStatus.DONE))) == 0


@given(st.data())
def test_blocked_is_what_has_a_failed_ancestor(drawn: st.DataObject) -> None:
    """Compared with the plain definition, on random graphs."""
    n = drawn.draw(st.integers(1, 12))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1])
    edges = drawn.draw(st.lists(pairs, max_size=30)) if n > 1 else []
    numbers = st.lists(st.integers(0, n - 1), unique=True)
    merged, failed = drawn.draw(numbers), drawn.draw(numbers)
    known = make_known(n, is_merged=merged, n_failed=failed)
    found = settle(make_ids(n, *edges), known, None)
    for number in range(n):
        above = {parent for parent, child in edges if child == number}
        is_stopped = any(found[p] in (QuantumState.FAILED, QuantumState.BLOCKED) for p in above)
        expected = QuantumState.BLOCKED if is_stopped else QuantumState.OPEN
        expected = QuantumState.FAILED if number in failed else expected
        assert found[number] == (QuantumState.MERGED if number in merged else expected)
