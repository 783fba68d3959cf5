# SPDX-License-Identifier: BSD-3-Clause
"""What people are told at the end of a local run."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from executor.submit.local_attempt import AttemptEnd
from executor.submit.local_runner import LocalRun
from executor.submit.plan import Plan, plan_of_graph
from executor.submit.progress import (
    failure_lines,
    format_bytes,
    progress_bar,
    summarize,
    task_table,
)
from registry.delta import ResourceUse
from tests.samples import make_delta, make_failed_delta
from tests.unit.executor.graph_documents import make_document, read
from transfer_plugins.object_store import DirectoryObjectStore


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two counts and a summary of both."""
    return plan_of_graph(read(tmp_path, make_document()), DirectoryObjectStore(tmp_path))


@pytest.fixture
def ended(plan: Plan) -> LocalRun:
    """One count succeeded earlier, one failed now, and the summary is blocked."""
    summary, first, second = plan.quanta
    success = make_delta(quantum_id=first, resources=ResourceUse(2.0, 1.0, 0.5, 2**20))
    failure = make_failed_delta(quantum_id=second, error="no stars")
    end = AttemptEnd(failure, 3, "no stars")
    return LocalRun({first: success}, {second: end}, {summary})


def test_quanta_are_counted_by_task(plan: Plan, ended: LocalRun) -> None:
    counts = {
        s.task_label: (s.n_quanta, s.n_successful, s.n_failed, s.n_blocked)
        for s in summarize(plan, ended)
    }
    assert counts == {"count": (2, 1, 1, 0), "summarize": (1, 0, 0, 1)}


def test_times_and_sizes_are_those_of_the_deltas(plan: Plan, ended: LocalRun) -> None:
    count, summary = (s.as_dict() for s in summarize(plan, ended))
    assert (count["min_s"], count["max_s"]) == (2.0, 60.25)
    assert count["mean_s"] == pytest.approx(31.125)
    assert count["output_bytes"] == make_delta().rows.datastore_record[0].size_bytes
    assert (summary["min_s"], summary["mean_s"], summary["max_s"]) == (None, None, None)


def test_table_can_be_shown(plan: Plan, ended: LocalRun) -> None:
    text = io.StringIO()
    Console(file=text, width=120).print(task_table(summarize(plan, ended)))
    assert ["count", "2", "1", "1", "0"] in [
        line.split()[:5] for line in text.getvalue().splitlines()
    ]


def test_failure_is_told_with_log_and_quantum(plan: Plan, ended: LocalRun) -> None:
    (line,) = failure_lines(plan, ended)
    quantum_id = list(plan.quanta)[2]
    delta = ended.ended[quantum_id].delta
    assert delta is not None
    told = f"count (exposure=2), quantum {quantum_id}: no stars\n  log: {delta.log_key}"
    assert line == told


def test_failure_without_a_word_is_told_by_its_exit_code(plan: Plan) -> None:
    quantum_id = next(iter(plan.quanta))
    run = LocalRun({}, {quantum_id: AttemptEnd(None, 9, None)})
    assert list(failure_lines(plan, run)) == [f"summarize (), quantum {quantum_id}: exit code 9"]


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        *((0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**20, "1.0 MiB")),
        *((2**30, "1.0 GiB"), (2**40, "1.0 TiB"), (2**50, "1024.0 TiB")),
    ],
)
def test_bytes_as_people_read_them(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text


def test_no_bar_where_nobody_looks() -> None:
    text = io.StringIO()
    with progress_bar(Console(file=text), "job files", 3) as bar:
        bar.advance(bar.task_ids[0])
    assert text.getvalue().strip() == ""
