# SPDX-License-Identifier: BSD-3-Clause
"""What a merge says that it did is what became of the tables, whatever happened on the way."""

from collections import Counter

import pytest

from merger.central_registry import CentralRegistry
from merger.exit_codes import ExitCode
from merger.merge import MergeReport, merge_run
from registry.attempt import AttemptStatus
from registry.tables import metadata
from tests import factories
from tests.fix_merge import MergeSite
from tests.fix_proxy import Cut, MakeProxy


def count(site: MergeSite) -> Counter[str]:
    """Rows by table."""
    tables = [table.name for table in metadata.sorted_tables if table.name != "merge_lease"]
    queries = (f"SELECT '{name}', count(*) FROM {name}" for name in tables)
    return Counter(dict(site.rows(" UNION ALL ".join(queries))))


def merge(site: MergeSite, **options: int) -> MergeReport:
    """Merge, and compare the report with the tables."""
    before = count(site)
    report = site.merge(**options)
    after = count(site)
    gained = {table: after[table] - before[table] for table in after}
    assert {table: n for table, n in report.counts.rows.items() if n} == {
        table: n for table, n in gained.items() if n
    }
    return report


@pytest.fixture
def second(site: MergeSite) -> factories.Graph:
    """A graph with the same data IDs as the first."""
    graph = factories.make_graph(3, name="second")
    factories.publish(site.store, graph)
    return graph


def test_rows_are_what_the_tables_gained(site: MergeSite, second: factories.Graph) -> None:
    site.put(site.delta(0, 1, status=AttemptStatus.FAILED))
    bad = factories.put_delta(site.store, site.delta(1, 2), b"junk")
    report = merge(site)
    assert (report.counts.rows["run"], report.counts.rows["quarantine"]) == (1, 1)
    # Plain, with a quantum that failed before; one leaves the quarantine.
    site.store.delete(bad)
    site.put(site.delta(0, 3), site.delta(1, 2))
    assert merge(site).counts.rows["quarantine"] == -1
    # Superseded, and conflicts, beside some that meet nothing.
    site.put(site.delta(0, 4), site.delta(2, 5))
    site.put(*(factories.make_delta(second, number, 10 + number) for number in range(3)))
    report = merge(site)
    assert report.counts.rows["merge_conflict"] > 0 and report.counts.n_superseded == 1
    # Those of the quantum that won are superseded, too.
    site.put(factories.make_delta(second, 0, 20), site.delta(2, 21))
    merge(site)
    assert merge(site).counts.rows.total() == 0


def test_open_conflicts_are_told_again(site: MergeSite, second: factories.Graph) -> None:
    """The merge that recorded them may have been killed before it could say so."""
    site.put(site.delta(0, 1), factories.make_delta(second, 0, 2))
    assert site.merge().exit_code == ExitCode.CONFLICTS
    report = site.merge()
    assert (report.counts.n_conflicts, report.n_open_conflicts) == (0, 2)
    assert report.exit_code == ExitCode.CONFLICTS


def test_nothing_is_lost_with_the_answer_to_a_commit(
    site: MergeSite, second: factories.Graph, make_proxy: MakeProxy
) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2), factories.make_delta(second, 0, 3))
    proxy, address = make_proxy(site.address)
    proxy.cuts += [Cut.AFTER_COMMIT] * 20
    with CentralRegistry(address) as registry:
        report = merge_run(registry, site.store, site.graph.run)
    assert proxy.n_cut > 3
    found = count(site)
    assert {t: n for t, n in report.counts.rows.items() if n} == {
        t: n for t, n in found.items() if n
    }
    assert (report.counts.n_deltas, report.counts.n_conflicts) == (3, 2)
    assert report.n_merged_by_others == 0


def test_delta_that_is_gone_is_counted(site: MergeSite) -> None:
    keys = site.put(*(site.delta(number, number + 1) for number in range(3)))
    store, original = site.store, site.store.get

    def get(key: str) -> bytes:
        if key == keys[1]:
            store.delete(key)
        return original(key)

    store.get = get  # type: ignore[method-assign]
    report = site.merge()
    assert (report.n_listed, report.counts.n_deltas, report.n_gone) == (3, 2, 1)
    assert report.exit_code == ExitCode.OK
