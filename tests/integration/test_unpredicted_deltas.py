# SPDX-License-Identifier: BSD-3-Clause
"""A delta that was not predicted counts for nobody: merger, stage-in and runner have one rule."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.graph.yaml_graph import read_graph_file
from merger.central_registry import CentralRegistry
from merger.delta_checks import Reason
from merger.merge import MergeReport, merge_run
from merger.verification import verify_run
from registry import names
from registry.attempt import AttemptStatus, new_attempt_id, short_attempt
from registry.delta import Delta
from registry.job import Job
from registry.model import derived_id
from registry.staging import StageInReport
from tests import factories
from tests.dumps import Dump, dump
from tests.local_graphs import RUN, GraphRun, make_survey
from transfer_plugins.stage_in import stage_in


def with_unpredicted_output(delta: Delta) -> Delta:
    (row,), (record,) = delta.rows.dataset, delta.rows.datastore_record
    other = derived_id("another")
    rows = dataclasses.replace(
        delta.rows,
        dataset=[row, dataclasses.replace(row, dataset_id=other, data_id={"exposure": 7})],
        datastore_record=[record, dataclasses.replace(record, dataset_id=other)],
    )
    return dataclasses.replace(delta, rows=rows)


Forge = Callable[[Delta], Delta]
FORGERIES: dict[Reason, Forge] = {
    Reason.UNPREDICTED_OUTPUT: with_unpredicted_output,
    Reason.UNKNOWN_GRAPH: lambda d: dataclasses.replace(d, graph_id=derived_id("no graph")),
    Reason.UNPREDICTED_QUANTUM: lambda d: dataclasses.replace(d, task_label="other"),
}
OTHER_QUANTUM: Forge = lambda d: dataclasses.replace(d, data_id={"exposure": 7})  # noqa: E731
CASES = [*FORGERIES.items(), (Reason.UNPREDICTED_QUANTUM, OTHER_QUANTUM)]


@pytest.fixture
def local(tmp_path: Path) -> GraphRun:
    """One exposure: corrected, fitted, coadded."""
    return GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(1))


def fit_of(graph_run: GraphRun) -> Delta:
    """The delta of the quantum in the middle that counts."""
    (found,) = [d for d in graph_run.counting().values() if d.task_label == "fit"]
    return found


def as_newer_attempt(graph_run: GraphRun, delta: Delta) -> Delta:
    """The delta of one more attempt, with objects of its own."""
    newer = new_attempt_id(after=delta.attempt_id)
    old_form, new_form = short_attempt(delta.attempt_id), short_attempt(newer)
    records = [
        dataclasses.replace(r, object_key=r.object_key.replace(old_form, new_form))
        for r in delta.rows.datastore_record
    ]
    for old, new in zip(delta.rows.datastore_record, records, strict=True):
        graph_run.store.put(new.object_key, graph_run.store.get(old.object_key))
    rows = dataclasses.replace(delta.rows, datastore_record=records)
    return dataclasses.replace(delta, attempt_id=newer, rows=rows)


def job_of(graph_run: GraphRun, label: str) -> Job:
    graph = read_graph_file(graph_run.graph_file)
    return graph.job_of(next(q for q in graph.quanta if q.task_label == label))


def staged_in(graph_run: GraphRun, job: Job) -> StageInReport:
    """Stage the inputs of a quantum in."""
    sandbox = graph_run.directory / f"sandbox-{job.quantum_id}"
    sandbox.mkdir()
    return stage_in(job, graph_run.store, sandbox)


def merge(graph_run: GraphRun, address: str) -> MergeReport:
    with CentralRegistry(address) as registry:
        return merge_run(registry, graph_run.store, RUN)


def without_quarantine(address: str) -> Dump:
    return {table: rows for table, rows in dump(address).items() if table != "quarantine"}


@pytest.mark.parametrize(("reason", "forge"), CASES)
def test_older_good_attempt_counts_for_everybody(
    local: GraphRun, database: str, reason: Reason, forge: Forge
) -> None:
    assert local.run().code == 0
    merge(local, database)
    good, before = fit_of(local), without_quarantine(database)
    key = factories.put_delta(local.store, forge(as_newer_attempt(local, good)))
    report = merge(local, database)
    assert [(bad.key, bad.reason) for bad in report.quarantined] == [(key, reason)]
    assert staged_in(local, job_of(local, "fit")).successful_attempt == good.attempt_id
    reader = dataclasses.replace(job_of(local, "coadd"), quantum_id=derived_id("reader"))
    assert [i.attempt_id for i in staged_in(local, reader).inputs] == [good.attempt_id]
    keys = local.keys()
    assert local.run().counts == {"isr": (1, 1, 0, 0), "fit": (1, 1, 0, 0), "coadd": (1, 1, 0, 0)}
    assert local.keys() == keys
    assert without_quarantine(database) == before


def delta_key_of(graph_run: GraphRun, label: str) -> str:
    (delta,) = [d for d in graph_run.deltas() if d.task_label == label]
    return names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)


@pytest.mark.parametrize(("reason", "forge"), CASES)
def test_quantum_without_a_good_attempt_is_run_again(
    local: GraphRun, database: str, reason: Reason, forge: Forge
) -> None:
    assert local.run().code == 0
    forged = forge(as_newer_attempt(local, fit_of(local)))
    for label in ("fit", "coadd"):
        local.store.delete(delta_key_of(local, label))
    key = factories.put_delta(local.store, forged)
    report = local.run()
    assert (report.code, report.counts["coadd"]) == (0, (1, 1, 0, 0)), report.stderr
    again = [d for d in local.deltas() if d.quantum_id == forged.quantum_id][-1]
    assert again.attempt_id > forged.attempt_id
    assert again.status is AttemptStatus.SUCCESSFUL
    bad = merge(local, database).quarantined
    assert [(one.key, one.reason) for one in bad] == [(key, reason)]
    with CentralRegistry(database) as registry:
        findings = verify_run(registry, local.store, RUN).findings
    assert [(f.kind, f.key) for f in findings if f.is_difference] == [("delta_bad", key)]
