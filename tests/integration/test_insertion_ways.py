# SPDX-License-Identifier: BSD-3-Clause
"""Which way a batch goes, what that costs, and what is counted on it."""

import psycopg
import pytest

from merger.central_registry import CentralRegistry
from merger.delta_checks import Reason
from merger.exit_codes import ExitCode
from merger.forgetting import let_back
from merger.merge import RunMerge
from registry.attempt import AttemptStatus
from registry.model import DimensionRecord
from tests import factories
from tests.factories import attempt
from tests.fix_merge import MergeSite

N_QUANTA = 64


@pytest.fixture
def wide(site: MergeSite) -> MergeSite:
    """A RUN of many quanta, without deltas."""
    site.graph = factories.make_graph(N_QUANTA, name="wide")
    factories.publish(site.store, site.graph)
    return site


def count_transactions(site: MergeSite, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note each transaction of a merge: whether it was alone."""
    noted: list[bool] = []
    original = CentralRegistry.transact

    def transact(self, work, *, alone=False):  # type: ignore[no-untyped-def]
        noted.append(alone)
        return original(self, work, alone=alone)

    monkeypatch.setattr(CentralRegistry, "transact", transact)
    return noted


def test_counts_of_a_clean_merge(wide: MergeSite) -> None:
    record = DimensionRecord("exposure", {"exposure": 1}, {"airmass": 1.25})
    wide.put(*(wide.delta(n, n + 1, dimension_record=[record]) for n in range(10)))
    wide.put(wide.delta(0, 50), wide.delta(1, 51, status=AttemptStatus.FAILED))
    counts = wide.merge().counts
    assert (counts.n_deltas, counts.n_superseded, counts.n_datasets) == (12, 1, 20)
    assert +counts.rows == {
        **{"run": 1, "dataset_type": 2, "dimension_record": 1},
        **{"merged_attempt": 12, "quantum": 10, "attempt": 12, "quantum_input": 12, "metric": 11},
        **{"dimension_source": 10, "dataset": 20, "datastore_record": 20},
    }
    assert {"list", "ledger", "read", "insert"} <= counts.seconds.keys()


def test_superseded_later_is_counted(wide: MergeSite) -> None:
    wide.put(*(wide.delta(n, n + 1) for n in range(10)))
    wide.merge()
    wide.put(wide.delta(0, 50), wide.delta(1, 51), wide.delta(11, 52))
    report = wide.merge()
    assert (report.counts.n_deltas, report.counts.n_superseded) == (3, 2)
    assert report.exit_code == ExitCode.OK
    assert wide.differences() == []


def test_one_conflict_does_not_send_the_rest_alone(
    wide: MergeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = factories.make_graph(1, name="second")
    factories.publish(wide.store, second)
    wide.put(factories.make_delta(second, 0, 100))
    wide.merge()
    wide.put(*(wide.delta(n, n + 101) for n in range(N_QUANTA)))
    noted = count_transactions(wide, monkeypatch)
    counts = wide.merge(batch_size=16).counts
    assert (counts.n_deltas, counts.n_conflicts) == (N_QUANTA, 2)
    assert noted.count(True) == 1
    # The attempt in conflict alone was on the careful way.
    assert "careful" in counts.seconds
    assert wide.rows("SELECT count(*) FROM attempt") == [(N_QUANTA + 1,)]


@pytest.mark.parametrize("bad", [0, 37, N_QUANTA - 1])
def test_one_delta_that_the_database_refuses(
    wide: MergeSite, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    wide.put(*(wide.delta(n, n + 1, host="a\0" if n == bad else "a") for n in range(N_QUANTA)))
    noted = count_transactions(wide, monkeypatch)
    report = wide.merge(batch_size=10 * N_QUANTA)
    assert report.counts.n_deltas == N_QUANTA - 1
    assert [found.reason for found in report.quarantined] == ["refused_by_database"]
    # Halves down to eight, then one by one.
    assert len(noted) < 36


def test_all_deltas_are_refused(wide: MergeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    wide.put(*(wide.delta(n, n + 1, host="a\0") for n in range(N_QUANTA)))
    noted = count_transactions(wide, monkeypatch)
    assert len(wide.merge(batch_size=10 * N_QUANTA).quarantined) == N_QUANTA
    assert len(noted) < 2 * N_QUANTA


def test_quanta_of_another_run_are_told_without_halving(
    wide: MergeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide.put(*(wide.delta(n, n + 1) for n in range(N_QUANTA)))
    with psycopg.connect(wide.address) as connection:
        connection.execute("INSERT INTO run VALUES ('u/other')")
        connection.execute(
            "INSERT INTO quantum SELECT unnest(%s::uuid[]), 'u/other', %s, 'x', '{}', 'failed', %s",
            ([wide.delta(n).quantum_id for n in range(40)], attempt(900), attempt(901)),
        )
    noted = count_transactions(wide, monkeypatch)
    report = wide.merge(batch_size=10 * N_QUANTA)
    assert {found.reason for found in report.quarantined} == {"quantum_of_other_run"}
    assert (len(report.quarantined), report.counts.n_deltas) == (40, N_QUANTA - 40)
    assert len(noted) < 12


def test_run_that_is_forgotten_while_it_is_merged(wide: MergeSite) -> None:
    """The rows that deltas refer to come back with the next delta, and only then."""
    wide.put(wide.delta(0, 1))
    with RunMerge(wide.registry, wide.store, wide.graph.run) as merge:
        merge.merge_pass()
        with psycopg.connect(wide.address) as connection:
            connection.execute("UPDATE merged_attempt SET forgotten = true")
            tables = "datastore_record dataset metric quantum_input attempt quantum run"
            for table in tables.split():
                connection.execute(f"DELETE FROM {table}".encode())
        assert merge.merge_pass().counts.n_deltas == 0
        assert wide.rows("SELECT * FROM run") == []
        wide.put(wide.delta(1, 2))
        assert merge.merge_pass().counts.n_deltas == 1
        assert let_back(wide.registry, wide.graph.run) == 1
        assert merge.merge_pass().counts.n_deltas == 1
    assert wide.rows("SELECT count(*) FROM attempt") == [(2,)]


def test_attempt_that_another_run_has(site: MergeSite) -> None:
    site.put(site.delta(0, 1))
    site.merge()
    site.graph = factories.make_graph(3, run="u/copy")
    factories.publish(site.store, site.graph)
    (key, _) = site.put(site.delta(0, 1), site.delta(1, 6))
    for n_merged in (1, 0):
        report = site.merge()
        (bad,) = report.quarantined
        assert (report.counts.n_deltas, bad.key, bad.reason) == (
            *(n_merged, key),
            Reason.ATTEMPT_OF_OTHER_RUN,
        )
    assert bad.message == (
        f"delta {key!r}: expected an attempt of RUN 'u/copy', found {factories.attempt(1)!r} in "
        f"the ledger as one of RUN {factories.RUN!r}; run the quantum again, or give the delta up"
    )
    assert site.rows("SELECT delta_key FROM quarantine") == [(key,)]
    assert [finding.kind for finding in site.differences()] == ["delta_bad"]


def test_bad_deltas_that_are_skipped_stay_in_quarantine(wide: MergeSite) -> None:
    key = factories.put_delta(wide.store, wide.delta(0, 1), b"junk")
    with RunMerge(wide.registry, wide.store, wide.graph.run) as merge:
        assert [found.key for found in merge.merge_pass().quarantined] == [key]
        assert merge.merge_pass(skip={key}).quarantined == []
    assert wide.rows("SELECT delta_key FROM quarantine") == [(key,)]
