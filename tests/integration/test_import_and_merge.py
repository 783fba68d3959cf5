# SPDX-License-Identifier: BSD-3-Clause
"""Private registries imported beside merges of the same attempts: what came first is no matter."""

from pathlib import Path

import pytest

from merger.exit_codes import ExitCode
from merger.findings import FindingKind
from merger.forgetting import forget
from registry.attempt import AttemptStatus
from registry.delta import AddedRows, Delta
from registry.typed_json import canonical
from tests import factories
from tests.dumps import Dump, empty
from tests.fix_merge import MergeSite
from tests.integration.test_sqlite_import import run_import
from tests.sqlite_files import Rows, make

FAILED = AttemptStatus.FAILED


def private(site: MergeSite, path: Path, delta: Delta) -> Path:
    """Make the private registry that an attempt leaves, without what it was seeded with."""
    made = (delta.quantum_id, delta.attempt_id)
    rows: Rows = {
        "run": [(delta.run,)],
        "dataset_type": [
            (t.name, canonical(t.dimensions), t.storage_class)
            for t in site.graph.record.dataset_types
        ],
        "dataset": [
            (d.dataset_id, delta.run, d.dataset_type, canonical(d.data_id), *made)
            for d in delta.rows.dataset
        ],
        "datastore_record": [
            (r.dataset_id, r.object_key, r.size_bytes, r.checksum, r.storage_class)
            for r in delta.rows.datastore_record
        ],
    }
    path.unlink(missing_ok=True)
    return make(path, rows)


def outcome(site: MergeSite, path: Path, deltas: dict[str, Delta], acts: str) -> Dump:
    """Do some acts in an empty registry: ``m1`` merges attempt 1, ``i1`` imports it."""
    empty(site.address)
    for key in list(site.store.list_objects("")):
        if any(delta.attempt_id in key.key for delta in deltas.values()):
            site.store.delete(key.key)
    for act, name in map(tuple, acts.split()):
        factories.put_objects(site.store, deltas[name])
        if act == "m":
            site.put(deltas[name] if name != "F" else site.delta(0, 3, status=FAILED))
            assert site.merge().exit_code == ExitCode.OK
        else:
            done = run_import(site.address, private(site, path, deltas[name]))
            assert done.exit_code == ExitCode.OK
    assert site.differences() == []
    return site.dump()


@pytest.mark.parametrize(
    "expected, orders",
    [
        ("m1", ["i1 m1", "m1 i1", "i1 i1 m1 i1"]),
        ("m5", ["i1 m5", "m5 i1", "i5 i1 m5", "i1 i5 m5"]),
        ("m1 m5", ["i1 m1 m5", "m5 i1 m1", "m1 i5 m5", "i5 m1 m5", "m1 m5 i1 i5"]),
        ("m1", ["m1 i5", "i5 m1", "i1 i5 m1"]),
        ("i5", ["i1 i5", "i5 i1", "i5 i5"]),
        # Failed, and so nothing of it stays.
        ("mF m5", ["m5 iF mF", "mF iF m5", "iF m5 mF"]),
    ],
)
def test_outcome_does_not_depend_on_what_came_first(
    site: MergeSite, tmp_path: Path, expected: str, orders: list[str]
) -> None:
    deltas = {"1": site.delta(0, 1), "5": site.delta(0, 5), "F": site.delta(0, 3)}
    found = outcome(site, tmp_path / "r", deltas, expected)
    assert found["merge_conflict"] == []
    for acts in orders:
        assert outcome(site, tmp_path / "r", deltas, acts) == found, acts


def test_newer_attempt_with_fewer_datasets(site: MergeSite, tmp_path: Path) -> None:
    """What an older attempt made, too, goes when the newer one is merged."""
    older, newer = site.delta(0, 1), site.delta(0, 5)
    del newer.rows.dataset[1:], newer.rows.datastore_record[1:]
    found = outcome(site, tmp_path / "r", {"1": older, "5": newer}, "m5")
    assert len(found["dataset"]) == 1
    for acts in ("i1 m5", "m5 i1"):
        assert outcome(site, tmp_path / "r", {"1": older, "5": newer}, acts) == found


@pytest.mark.parametrize("status", AttemptStatus)
def test_verify_names_what_a_merge_did_not_meet(
    site: MergeSite, tmp_path: Path, status: AttemptStatus
) -> None:
    """A delta without datasets does not take those away that were imported before."""
    delta = site.delta(0, 1)
    factories.put_objects(site.store, delta)
    run_import(site.address, private(site, tmp_path / "r", delta))
    is_successful = status is AttemptStatus.SUCCESSFUL
    empty_delta = site.delta(0, 1, status=status, no_work=is_successful, rows=AddedRows())
    site.put(empty_delta)
    site.merge()
    found = {finding.kind for finding in site.differences()}
    assert found == {FindingKind.DATASET_UNEXPECTED}


def test_forgotten_attempt_does_not_come_back(site: MergeSite, tmp_path: Path) -> None:
    delta = site.delta(0, 1)
    site.put(delta)
    site.merge()
    forget(site.registry, site.graph.run)
    before = site.dump()
    done = run_import(site.address, private(site, tmp_path / "r", delta))
    assert (done.entries.n_inserted, done.entries.n_skipped) == (0, 2)
    assert (done.entries.n_of_attempts, done.exit_code) == (2, ExitCode.OK)
    assert site.dump() == before
    assert done.notes[0] == (
        "2 datasets skipped: their attempts are merged, were forgotten, or a newer one counts"
    )


def test_conflict_with_another_quantum(site: MergeSite, tmp_path: Path) -> None:
    """Two quanta that made one dataset conflict, whether imported or merged."""
    other = factories.make_graph(name="other")
    run_import(site.address, private(site, tmp_path / "a", site.delta(0, 1)))
    path = private(site, tmp_path / "b", factories.make_delta(other, 0, 2))
    assert run_import(site.address, path, is_dry=True).exit_code == ExitCode.CONFLICTS
    done = run_import(site.address, path)
    assert (done.exit_code, done.entries.n_open) == (ExitCode.CONFLICTS, 2)
    again = run_import(site.address, path)
    assert (again.exit_code, again.tables["dataset"].is_equal) == (ExitCode.OK, True)


@pytest.mark.parametrize("is_imported_first", [True, False])
def test_side_of_a_conflict_that_a_newer_attempt_displaces(
    site: MergeSite, tmp_path: Path, is_imported_first: bool
) -> None:
    other = factories.make_graph(name="other")
    factories.publish(site.store, other)
    site.put(factories.make_delta(other, 0, 9))
    site.merge()
    path = private(site, tmp_path / "r", site.delta(0, 1))
    if is_imported_first:
        assert run_import(site.address, path).exit_code == ExitCode.CONFLICTS
    site.put(newer := site.delta(0, 5))
    site.merge()
    assert run_import(site.address, path).entries.n_of_attempts == 2
    sides = site.rows("SELECT DISTINCT attempt_id::text, kept FROM merge_conflict ORDER BY 2")
    assert sides == [(newer.attempt_id, False), (factories.attempt(9), True)]


def test_dry_run_changes_nothing(site: MergeSite, tmp_path: Path) -> None:
    older, newer = site.delta(0, 1), site.delta(0, 5)
    run_import(site.address, private(site, tmp_path / "r", older))
    before = site.dump()
    path = private(site, tmp_path / "r", newer)
    assert run_import(site.address, path, is_dry=True).entries.n_inserted == 2
    assert site.dump() == before


@pytest.mark.parametrize("orders", ["i1 m1", "m1 i1", "i1 m1 i1", "m1 i1 i5", "i5 m1", "i1 m1 i5"])
@pytest.mark.parametrize("which", [slice(1), slice(2)], ids=["one", "both"])
def test_what_was_not_kept_has_a_record_in_its_private_registry(
    site: MergeSite, tmp_path: Path, orders: str, which: slice
) -> None:
    """A job of several quanta decides at its end, when the private registries are written."""
    delta = site.delta(0, 1)
    gone = [row.dataset_id for row in delta.rows.dataset[which]]
    unkept = {"1": factories.without_record(delta, *gone)}
    wanted = outcome(site, tmp_path / "r", unkept, "m1")
    empty(site.address)
    for act, name in map(tuple, orders.split()):
        if act == "m":
            assert site.merge().exit_code == ExitCode.OK
        else:
            path = private(site, tmp_path / "p", site.delta(0, int(name)))
            assert run_import(site.address, path).exit_code == ExitCode.OK
    assert site.differences() == []
    assert site.dump() == wanted
