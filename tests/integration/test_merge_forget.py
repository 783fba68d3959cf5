# SPDX-License-Identifier: BSD-3-Clause
"""Forget: what a RUN or a quantum put in goes, all of it, and nothing brings it back unasked."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from merger.central_registry import CentralRegistry
from merger.cli import app
from merger.conflict_policy import DEFER_ALL, parse
from merger.exit_codes import ExitCode
from merger.findings import FindingKind
from merger.forgetting import ForgetReport, NothingToForgetError, forget, let_back
from merger.graph_rows import GraphRows
from merger.insertion import Insertion
from merger.merge import merge_run
from merger.predictions import read_predictions
from merger.prepared import DeltaReader
from merger.quarantine import list_quarantine, set_dropped
from registry.attempt import AttemptStatus
from registry.delta import Delta, ReadInput
from registry.model import DimensionRecord
from registry.names import delta_prefix
from tests import factories
from tests.dumps import Dump, dump
from tests.factories import attempt
from tests.faults.test_merge_killed import hold, wait_for_no_other_session, wait_until
from tests.fix_merge import MergeSite


def airmass(exposure: int, value: object) -> DimensionRecord:
    return DimensionRecord("exposure", {"exposure": exposure}, {"airmass": value})


@pytest.fixture
def filled(site: MergeSite) -> MergeSite:
    """Superseded, failed and bad attempts, conflicts of datasets and of dimension records."""
    records = factories.make_graph(1, name="records", dimension_records=[airmass(9, 1)])
    second = factories.make_graph(2, name="second")
    for graph in (records, second):
        factories.publish(site.store, graph)
    shared = [airmass(7, 1.25), airmass(9, 1)]
    site.put(site.delta(0, 1, dimension_record=shared), site.delta(0, 4, dimension_record=shared))
    site.put(site.delta(1, 2, dimension_record=[airmass(7, 1.5), airmass(8, 1.0)]))
    site.put(site.delta(2, 3, status=AttemptStatus.FAILED), site.delta(2, 6))
    site.put(factories.make_delta(second, 1, 5, dimension_record=[airmass(8, 1), airmass(5, 5)]))
    factories.put_delta(site.store, site.delta(2, 7), b"junk")
    site.merge()
    return site


def run_of(site: MergeSite, *quanta: int) -> list[str]:
    return [site.graph.quanta[number].quantum_id for number in quanta]


def without_ledger(found: Dump) -> Dump:
    """A dump but for what forgetting leaves on purpose."""
    return {name: rows for name, rows in found.items() if name != "merged_attempt"}


def merged_without(site: MergeSite, address: str, quanta: list[str]) -> Dump:
    """The dump of a merge that never saw the deltas of some quanta."""
    kept = {}
    for stored in list(site.store.list_objects(f"{site.graph.run}/quantum-exec/deltas/")):
        if stored.key.rpartition("/")[2].split(".")[0] in quanta:
            kept[stored.key] = site.store.get(stored.key)
            site.store.delete(stored.key)
    with CentralRegistry(address) as registry:
        merge_run(registry, site.store, site.graph.run)
    for key, content in kept.items():
        site.store.put(key, content)
    return dump(address)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_forgotten_quantum_is_as_if_never_merged(
    filled: MergeSite, other_database: str, number: int
) -> None:
    before = filled.dump()
    quanta = run_of(filled, number)
    report = forget(filled.registry, filled.graph.run, quanta)
    assert report.n_quanta == 1
    expected = merged_without(filled, other_database, quanta)
    found = filled.dump()
    # A bad delta stays in quarantine, whatever is forgotten.
    assert without_ledger(found) | {"quarantine": []} == (
        without_ledger(expected) | {"quarantine": []}
    )
    assert filled.merge().counts.n_deltas == 0
    assert without_ledger(filled.dump()) == without_ledger(found)
    assert let_back(filled.registry, filled.graph.run, quanta) == report.n_attempts
    filled.merge()
    assert filled.dump() == before


def test_what_was_given_up_stays_so(site: MergeSite) -> None:
    key = factories.put_delta(site.store, site.delta(0, 1), b"junk")
    site.merge()
    set_dropped(site.registry, site.graph.run, [key], dropped=True)
    assert forget(site.registry, site.graph.run).n_quarantined == 0
    site.put(site.delta(0, 1))
    assert (site.merge().counts.n_deltas, list_quarantine(site.registry)[0].dropped) == (0, True)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("policy", ["keep", "replace", "image=keep", "defer"])
def test_remerged_under_the_same_policies_it_is_as_before(
    site: MergeSite, policy: str, which: int
) -> None:
    """Of either side of a conflict, and of a record on which attempts do not agree."""
    site.put(*_in_conflict(site))
    policies = parse([policy])
    site.merge(policies=policies)
    before = site.dump()
    quanta = [site.rows("SELECT quantum_id::text FROM attempt ORDER BY attempt_id")[which][0]]
    forget(site.registry, site.graph.run, quanta)
    let_back(site.registry, site.graph.run, quanta)
    site.merge(policies=policies)
    assert site.dump() == before
    forget(site.registry, site.graph.run)
    let_back(site.registry, site.graph.run)
    site.merge(policies=policies)
    assert site.dump() == before


def _in_conflict(site: MergeSite) -> list[Delta]:
    """Two attempts that claim the same data IDs, and know other facts about one exposure."""
    other = factories.make_graph(name="other")
    factories.publish(site.store, other)
    records = [DimensionRecord("exposure", {"exposure": 1}, {"t": t}) for t in (1, 2)]
    return [
        site.delta(0, 1, dimension_record=[records[0]]),
        factories.make_delta(other, 0, 2, dimension_record=[records[1]]),
    ]


def test_forgotten_run_leaves_nothing_but_the_ledger(filled: MergeSite) -> None:
    before = filled.dump()
    with psycopg.connect(filled.address) as connection:
        connection.execute("INSERT INTO collection_chain VALUES ('c', 1, %s)", [filled.graph.run])
    report = forget(filled.registry, filled.graph.run)
    assert report == ForgetReport(
        *(filled.graph.run, 6, 4, 6, 3), n_quarantined=1, is_run_gone=True, n_chains=1
    )
    left = {name: rows for name, rows in filled.dump().items() if rows}
    # What the graph brought stays, and dataset types are nobody's.
    assert left.keys() == {"merged_attempt", "dataset_type", "dimension_record", "dimension_source"}
    assert len(left["dimension_record"]) == 1
    assert filled.rows("SELECT count(*) FROM merged_attempt WHERE NOT forgotten") == [(0,)]
    again = forget(filled.registry, filled.graph.run)
    assert again == ForgetReport(filled.graph.run)
    filled.merge()
    assert filled.rows("SELECT count(*) FROM attempt") == [(0,)]
    let_back(filled.registry, filled.graph.run)
    filled.merge()
    assert filled.dump() == before


def test_displaced_side_comes_back(filled: MergeSite) -> None:
    assert filled.rows("SELECT count(*) FROM merge_conflict WHERE table_name = 'dataset'") != [(0,)]
    (second,) = filled.rows(
        "SELECT quantum_id::text FROM merged_attempt WHERE attempt_id = %s", attempt(5)
    )
    forget(filled.registry, filled.graph.run, [*second])
    assert filled.rows("SELECT count(*) FROM merge_conflict WHERE table_name = 'dataset'") == [(0,)]
    found = filled.rows("SELECT attempt_id::text FROM dataset WHERE data_id->'exposure' = '1'")
    assert found == [(attempt(2),)] * 2


def test_dry_run_changes_nothing(filled: MergeSite) -> None:
    before = filled.dump()
    report = forget(filled.registry, filled.graph.run, is_dry=True)
    assert (report.n_quanta, report.n_attempts, report.is_run_gone) == (4, 6, True)
    assert filled.dump() == before


def test_datasets_from_outside_stay(filled: MergeSite) -> None:
    with psycopg.connect(filled.address) as connection:
        connection.execute(
            "INSERT INTO dataset VALUES (gen_random_uuid(), %s, 'image', '{\"exposure\": 99}')",
            [filled.graph.run],
        )
    report = forget(filled.registry, filled.graph.run)
    assert (report.n_from_outside, report.is_run_gone) == (1, False)
    assert filled.rows("SELECT data_id FROM dataset") == [({"exposure": 99},)]
    assert filled.rows("SELECT run FROM run") == [(filled.graph.run,)]


def test_what_is_not_there_cannot_be_forgotten(filled: MergeSite) -> None:
    with pytest.raises(NothingToForgetError) as error:
        forget(filled.registry, "u/nobody")
    assert str(error.value) == (
        "RUN 'u/nobody': expected a RUN of the central registry, found none of this name; "
        "check the name"
    )
    unknown = "00000000-0000-0000-0000-000000000001"
    with pytest.raises(NothingToForgetError) as error:
        forget(filled.registry, filled.graph.run, [*run_of(filled, 0), unknown])
    assert str(error.value) == (
        f"quantum '{unknown}': expected a merged attempt of it in RUN 'u/tester/night1', found "
        "none; nothing was taken out"
    )


def registry_merge(site: MergeSite, *arguments: str) -> "subprocess.Popen[str]":
    """Start a real ``registry-merge`` that nobody answers."""
    command = [sys.executable, "-m", "merger.cli", *arguments, "--database", site.address]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The report of a command that went well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.OK, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def long(site: MergeSite) -> MergeSite:
    """Twelve quanta, none merged yet."""
    site.graph = factories.make_graph(12, name="long")
    factories.publish(site.store, site.graph)
    site.put(*(site.delta(number, number + 1) for number in range(12)))
    return site


def n_waiting(site: MergeSite) -> int:
    """Sessions that wait until they may be alone, or until somebody else no longer is."""
    (found,) = site.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
    )
    return int(found[0])


def check_halves(site: MergeSite, n_forgotten: int) -> None:
    """Whole attempts are there or forgotten, nothing between."""
    n_left = 12 - n_forgotten
    assert site.rows("SELECT forgotten, count(*) FROM merged_attempt GROUP BY 1 ORDER BY 1") == [
        (is_forgotten, n) for is_forgotten, n in ((False, n_left), (True, n_forgotten)) if n
    ]
    for table, n_rows in (("attempt", n_left), ("quantum", n_left), ("dataset", 2 * n_left)):
        assert site.rows(f"SELECT count(*) FROM {table}") == [(n_rows,)]


def test_forget_waits_for_the_batch_of_a_merger(long: MergeSite) -> None:
    """What a merger has begun is merged, and goes; what it has only read may come afterwards."""
    merge = ("merge", long.uri, long.graph.run, "--json", "--batch-size", "12")
    with hold(long, "LOCK TABLE datastore_record IN ACCESS EXCLUSIVE MODE") as is_blocked:
        merging = registry_merge(long, *merge)
        wait_until(is_blocked, merging)
        forgetting = registry_merge(long, "forget", long.graph.run, "--yes", "--json")
        wait_until(lambda: n_waiting(long) == 1, forgetting)
    forgotten = ended(forgetting)["n_attempts"]
    assert ended(merging)["n_deltas_merged"] == 12
    assert 0 < forgotten <= 12
    check_halves(long, forgotten)


def test_merger_waits_for_forget_and_brings_nothing_back(long: MergeSite) -> None:
    long.merge()
    # Listed and not in the ledger, so that this merge has something to do.
    with psycopg.connect(long.address) as connection:
        connection.execute("DELETE FROM merged_attempt WHERE attempt_id = %s", [attempt(12)])
        connection.execute("DELETE FROM dataset WHERE attempt_id = %s", [attempt(12)])
        connection.execute("DELETE FROM quantum_input WHERE attempt_id = %s", [attempt(12)])
        connection.execute("DELETE FROM metric WHERE attempt_id = %s", [attempt(12)])
        connection.execute("DELETE FROM attempt WHERE attempt_id = %s", [attempt(12)])
        connection.execute("DELETE FROM quantum WHERE attempt_id = %s", [attempt(12)])
    with hold(long, "LOCK TABLE metric IN ACCESS EXCLUSIVE MODE") as is_blocked:
        forgetting = registry_merge(long, "forget", long.graph.run, "--yes", "--json")
        wait_until(is_blocked, forgetting)
        merging = registry_merge(long, "merge", long.uri, long.graph.run, "--json")
        wait_until(lambda: n_waiting(long) == 1, merging)
    assert ended(forgetting)["n_attempts"] == 11
    assert ended(merging)["n_deltas_merged"] == 1
    check_halves(long, 11)


def test_merger_that_has_read_before_cannot_bring_back(long: MergeSite) -> None:
    """It knew nothing of the other merge, nor of forget: the ledger refuses its batch."""
    keys = [stored.key for stored in long.store.list_objects(delta_prefix(long.graph.run))]
    predictions = read_predictions(long.store, long.graph.run)
    with CentralRegistry(long.address) as other, DeltaReader(long.store, predictions) as reader:
        batch = reader.prepare(keys).result()
        long.merge()
        forget(long.registry, long.graph.run)
        rows = GraphRows(predictions, DEFER_ALL)
        inserted = Insertion(other, reader, predictions, rows).insert(batch)
    assert (inserted.counts.n_deltas, inserted.bad) == (0, [])
    check_halves(long, 12)


def test_forget_that_is_killed_did_nothing(long: MergeSite) -> None:
    long.merge()
    long.registry.close()
    before = long.dump()
    with hold(long, "LOCK TABLE metric IN ACCESS EXCLUSIVE MODE") as is_blocked:
        forgetting = registry_merge(long, "forget", long.graph.run, "--yes")
        wait_until(is_blocked, forgetting)
        forgetting.kill()
        forgetting.communicate()
    wait_for_no_other_session(long)
    assert long.dump() == before
    assert ended(registry_merge(long, "forget", long.graph.run, "--yes", "--json"))
    check_halves(long, 12)


def test_command_asks_before_it_forgets(long: MergeSite) -> None:
    long.merge()
    before = long.dump()
    asking = registry_merge(long, "forget", long.graph.run)
    _, err = asking.communicate(timeout=60)
    assert asking.returncode == ExitCode.USAGE
    assert "expected y or n, or --yes where nobody can answer" in err
    assert "Forget 12 quanta with 12 attempts and 24 datasets of RUN u/tester/night1? [y/N]:" in err
    found = ended(registry_merge(long, "forget", long.graph.run, "--dry-run", "--json"))
    assert (found["n_datasets"], found["dry_run"], found["is_run_gone"]) == (24, True, True)
    assert long.dump() == before


def test_run_that_is_not_there_is_a_mistake(site: MergeSite) -> None:
    words = ["forget", "u/nobody", "--yes", "--database", site.address]
    assert CliRunner().invoke(app, words).exit_code == ExitCode.USAGE


def test_command_refuses_what_is_no_quantum(long: MergeSite) -> None:
    refused = registry_merge(long, "forget", long.graph.run, "--quantum", "7")
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == ExitCode.USAGE
    assert err == "registry-merge: --quantum: expected the id of a quantum, found '7'\n"


def kinds(site: MergeSite) -> dict[FindingKind, int]:
    """What verify finds, but for quanta that never ran."""
    found = Counter(finding.kind for finding in site.verify().findings)
    del found[FindingKind.NOT_RUN]
    return dict(found)


def test_verify_notes_what_was_forgotten(site: MergeSite) -> None:
    """No difference, and its objects are neither orphans nor superseded."""
    made = site.delta(0, 1).rows.datastore_record[0]
    read = ReadInput(made.dataset_id, attempt(1), made.object_key, made.size_bytes, made.checksum)
    site.put(site.delta(0, 1), site.delta(1, 2, inputs=[read]), site.delta(2, 3))
    site.merge()
    forget(site.registry, site.graph.run, run_of(site, 0))
    assert kinds(site) == {FindingKind.FORGOTTEN: 1, FindingKind.INPUT_FORGOTTEN: 1}
    report = site.verify()
    assert (report.exit_code, report.orphaned, report.superseded) == (ExitCode.OK, [], [])
    (note,) = [one for one in report.findings if one.kind is FindingKind.INPUT_FORGOTTEN]
    assert (note.id, note.key, note.found) == (
        *(made.dataset_id, made.object_key),
        "read by 1 attempt",
    )
    site.store.delete(factories.put_delta(site.store, site.delta(0, 1)))
    assert FindingKind.DELTA_MISSING not in kinds(site)
    site.put(site.delta(0, 1))
    site.merge(remerge=True)
    assert kinds(site) == {}


def test_verify_notes_what_was_given_up(site: MergeSite) -> None:
    site.put(site.delta(0, 1))
    key = factories.put_delta(site.store, site.delta(1, 2), b"junk")
    gone = factories.put_delta(site.store, site.delta(2, 3), b"junk")
    site.merge()
    site.store.delete(gone)
    assert kinds(site) == {FindingKind.DELTA_BAD: 1, FindingKind.QUARANTINED: 1}
    with psycopg.connect(site.address) as connection:
        connection.execute("UPDATE quarantine SET dropped = true")
    assert kinds(site) == {FindingKind.DROPPED: 2}
    assert {one.key for one in site.verify().findings if one.key} == {key, gone}


def test_new_attempt_of_a_forgotten_quantum_is_merged(filled: MergeSite) -> None:
    """What was forgotten is forgotten, not what is run afterwards."""
    forget(filled.registry, filled.graph.run, run_of(filled, 0))
    filled.put(filled.delta(0, 20))
    filled.merge()
    assert filled.rows(
        "SELECT attempt_id::text FROM attempt WHERE quantum_id = %s", *run_of(filled, 0)
    ) == [(attempt(20),)]
    assert {finding.kind for finding in filled.verify().findings if finding.id == attempt(4)} == {
        FindingKind.FORGOTTEN
    }
