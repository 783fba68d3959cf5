# SPDX-License-Identifier: BSD-3-Clause
"""DAGMan's node status file: real ones, and whatever a reader may find in their place."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.dag_status import (
    DagStatus,
    DagStatusError,
    DagStatusFile,
    NodeStatus,
    parse_dag_status,
)
from merger.packed_ids import pack_ids

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = {path.stem.removeprefix("node-status-"): path for path in GOLDEN.glob("node-status-*.txt")}
DONE_OR_TRIED = "11111111-1111-5111-8111-111111111111"
RETRIED = "22222222-2222-5222-8222-222222222222"
CHILD = "33333333-3333-5333-8333-333333333333"
PREDONE = "44444444-4444-5444-8444-444444444444"
OUTSIDE = "99999999-9999-5999-8999-999999999999"


def read(name: str) -> DagStatus:
    found = parse_dag_status(FILES[name].read_bytes())
    assert found is not None
    return found


def statuses(found: DagStatus, *quanta: str) -> list[NodeStatus]:
    return [NodeStatus(number) for number in found.of(pack_ids(list(quanta)))]


def test_node_with_a_retry_left_has_not_failed() -> None:
    """As HTCondor 23.9.6 wrote it: the first attempt had ended with exit code 3."""
    found = read("23.9-retrying")
    assert statuses(found, DONE_OR_TRIED, RETRIED, CHILD, PREDONE, OUTSIDE) == [
        NodeStatus.DONE,
        NodeStatus.READY,
        NodeStatus.NOT_READY,
        NodeStatus.DONE,
        NodeStatus.NOT_IN_DAG,
    ]
    assert not found.is_ended


def test_dag_whose_final_node_runs_has_not_ended() -> None:
    found = read("23.9-final-node-runs")
    assert statuses(found, RETRIED, CHILD) == [NodeStatus.ERROR, NodeStatus.FUTILE]
    assert not found.is_ended
    assert len(found.quanta) == 4


def test_dag_that_has_ended() -> None:
    """Successful for DAGMan, because the FINAL node was; its nodes say what happened."""
    found = read("23.9-ended")
    assert statuses(found, RETRIED, CHILD) == [NodeStatus.ERROR, NodeStatus.FUTILE]
    assert found.is_ended


def test_dag_that_was_removed() -> None:
    found = read("25.x-removed")
    assert statuses(found, DONE_OR_TRIED, CHILD) == [NodeStatus.ERROR, NodeStatus.NOT_READY]
    assert found.is_ended


@pytest.mark.parametrize("name", FILES)
def test_cut_file_is_not_believed(name: str) -> None:
    content = FILES[name].read_bytes().rstrip()
    assert parse_dag_status(content) is not None
    for end in range(len(content)):
        assert parse_dag_status(content[:end]) is None


@given(st.sampled_from(sorted(FILES)), st.data())
def test_damage_is_no_error(name: str, drawn: st.DataObject) -> None:
    content = FILES[name].read_bytes()
    start = drawn.draw(st.integers(0, len(content)))
    stop = drawn.draw(st.integers(start, len(content)))
    found = parse_dag_status(content[:start] + drawn.draw(st.binary()) + content[stop:])
    assert found is None or len(found.quanta) == len(found.statuses) <= 4


@given(st.binary())
def test_any_bytes_are_no_error(content: bytes) -> None:
    assert parse_dag_status(content) is None


def test_other_layout_of_the_same_ads() -> None:
    text = (
        '[MyType="DagStatus";DagStatus=3;]'
        f'[NodeStatus=6;Node="a_{RETRIED}";MyType="NodeStatus";]'
        f'[Type="NodeStatus";Node="a_{CHILD}";NodeStatus=17]'
        '[MyType = "StatusEnd"; EndTime = 1 ]'
    )
    found = parse_dag_status(text.encode())
    assert found is not None
    assert statuses(found, RETRIED, CHILD) == [NodeStatus.ERROR, NodeStatus.NOT_IN_DAG]


def test_empty_dag() -> None:
    found = parse_dag_status(b'[Type="DagStatus";DagStatus=5][Type="StatusEnd"]')
    assert found is not None and found.is_ended
    assert statuses(found, RETRIED) == [NodeStatus.NOT_IN_DAG]


def write(path: Path, content: bytes) -> None:
    part = path.with_suffix(".tmp")
    part.write_bytes(content)
    part.rename(path)


def test_file_that_appears_changes_and_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "node-status.txt"
    file = DagStatusFile(path)
    assert file.read() is None
    write(path, FILES["23.9-retrying"].read_bytes())
    first = file.read()
    assert first is not None and not first.is_ended
    assert file.read() is first, "it was read again without need"
    write(path, FILES["23.9-ended"].read_bytes()[:300])
    assert file.read() is first
    write(path, FILES["23.9-ended"].read_bytes())
    last = file.read()
    assert last is not None and last.is_ended
    path.unlink()
    assert file.read() is None


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DagStatusError, match=r"node status file .*: Is a directory; --dag"):
        DagStatusFile(tmp_path).read()


def test_large_dag() -> None:
    """30,000 nodes are looked up at once, whatever their order in the file."""
    ids = [str(number).rjust(8, "0") + OUTSIDE[8:] for number in range(30_000)]
    ads = "".join(
        f'[ Type = "NodeStatus"; Node = "isr_{quantum}"; NodeStatus = {number % 8}; ]\n'
        for number, quantum in reversed(list(enumerate(ids)))
    )
    found = parse_dag_status(
        f'[ Type = "DagStatus"; DagStatus = 3; ]\n{ads}[ Type = "StatusEnd"; ]'.encode()
    )
    assert found is not None
    assert np.array_equal(found.of(pack_ids(ids)), np.arange(30_000) % 8)
