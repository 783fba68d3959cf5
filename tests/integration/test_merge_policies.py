# SPDX-License-Identifier: BSD-3-Clause
"""Policies: what keep, replace and fail make of conflicts, on record and for ever."""

from collections.abc import Sequence

import psycopg
import pytest

from merger.conflict_policy import parse
from merger.exit_codes import ExitCode
from merger.merge import MergeReport
from registry.model import DimensionRecord
from tests import factories
from tests.factories import Graph, attempt
from tests.fix_merge import MergeSite

IMAGES = factories.TYPES[:1]


@pytest.fixture
def second(site: MergeSite) -> Graph:
    """A graph in the same RUN that makes the images of the first under other ids."""
    graph = factories.make_graph(3, name="second", types=IMAGES)
    factories.publish(site.store, graph)
    return graph


def merge(site: MergeSite, *policies: str) -> MergeReport:
    return site.merge(policies=parse(policies))


def kept_attempt(site: MergeSite, dataset_type: str = "image", exposure: int = 0) -> str | None:
    ((found,),) = site.rows(
        "SELECT attempt_id::text FROM dataset "
        "WHERE dataset_type = %s AND data_id->'exposure' = %s::text::jsonb",
        dataset_type,
        exposure,
    )
    return str(found) if found else None


def decisions(site: MergeSite) -> list[tuple[str, bool]]:
    return site.rows("SELECT decision, by_policy FROM conflict_decision ORDER BY conflict_key")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), None])
@pytest.mark.parametrize("policy, kept", [("keep", 1), ("replace", 3)])
def test_keep_and_replace_settle(
    site: MergeSite, second: Graph, order: Sequence[int] | None, policy: str, kept: int
) -> None:
    third = factories.make_graph(1, name="third", types=IMAGES)
    factories.publish(site.store, third)
    deltas = [
        site.delta(0, 1),
        *(factories.make_delta(g, 0, n) for g, n in ((second, 2), (third, 3))),
    ]
    n_settled = 0
    for index in order or (0, 1, 2):
        site.put(deltas[index])
        if order:
            report = merge(site, policy)
            n_settled += report.counts.n_settled
            assert (report.counts.n_conflicts, report.exit_code) == (0, ExitCode.OK)
    if not order:
        n_settled = merge(site, policy).counts.n_settled
    assert n_settled == (2 if order else 1)
    assert kept_attempt(site) == attempt(kept)
    assert decisions(site) == [(policy, True)]
    assert site.rows("SELECT attempt_id::text, kept FROM merge_conflict ORDER BY 1") == [
        (attempt(number), number == kept) for number in (1, 2, 3)
    ]
    assert site.differences() == []


@pytest.mark.parametrize("policy, kept", [("defer", None), ("keep", None), ("replace", 2)])
def test_row_from_before_any_merge(
    site: MergeSite, second: Graph, policy: str, kept: int | None
) -> None:
    site.put(site.delta(1, 1))
    site.merge()
    with psycopg.connect(site.address) as connection:
        connection.execute(
            "INSERT INTO dataset VALUES (gen_random_uuid(), %s, 'image', "
            '\'{"exposure": 0, "detector": 1}\', NULL, NULL)',
            (site.graph.run,),
        )
    site.put(factories.make_delta(second, 0, 2))
    assert merge(site, policy).exit_code == (10 if policy == "defer" else 0)
    assert kept_attempt(site) == (attempt(kept) if kept else None)
    # Without an output the displaced row comes back, as it was: it has no datastore record.
    site.put(factories.make_delta(second, 0, 3, dataset=[], datastore_record=[]))
    merge(site, policy)
    assert kept_attempt(site) is None
    assert site.rows("SELECT count(*) FROM merge_conflict") == [(0,)]
    assert decisions(site) == []


def test_later_merges_hold_to_what_was_decided(site: MergeSite, second: Graph) -> None:
    site.put(site.delta(0, 1), factories.make_delta(second, 0, 2))
    assert merge(site, "keep").exit_code == ExitCode.OK
    third = factories.make_graph(1, name="third", types=IMAGES)
    factories.publish(site.store, third)
    site.put(factories.make_delta(third, 0, 3))
    report = merge(site, "replace", "image=fail")
    assert (report.exit_code, report.counts.n_settled, report.refused) == (ExitCode.OK, 1, [])
    assert kept_attempt(site) == attempt(1)
    assert decisions(site) == [("keep", True)]


def test_policy_of_a_dataset_type(site: MergeSite) -> None:
    other = factories.make_graph(1, name="other")
    factories.publish(site.store, other)
    site.put(site.delta(0, 1), factories.make_delta(other, 0, 2))
    report = merge(site, "catalog=keep")
    assert (report.counts.n_conflicts, report.counts.n_settled) == (1, 1)
    assert report.exit_code == ExitCode.CONFLICTS
    assert (kept_attempt(site), kept_attempt(site, "catalog")) == (attempt(2), attempt(1))
    assert {finding.key.split()[0] for finding in site.differences() if finding.key} == {"dataset"}
    assert len(site.differences()) == 2


@pytest.mark.parametrize("together", [True, False])
def test_fail_leaves_the_later_delta_unmerged(
    site: MergeSite, second: Graph, together: bool
) -> None:
    site.put(site.delta(0, 1))
    if not together:
        site.merge()
    late = factories.make_delta(second, 0, 2)
    site.put(late, factories.make_delta(second, 1, 4), site.delta(2, 3))
    report = merge(site, "fail")
    assert report.exit_code == ExitCode.CONFLICTS_REFUSED
    assert site.rows("SELECT attempt_id::text FROM merged_attempt ORDER BY 1") == [
        (attempt(1),),
        (attempt(3),),
        (attempt(4),),
    ]
    assert not site.dump()["quarantine"] and not site.dump()["merge_conflict"]
    (refusal,) = report.refused
    mine, theirs = late.rows.dataset[0].dataset_id, site.delta(0, 1).rows.dataset[0].dataset_id
    assert refusal.attempt_id == attempt(2)
    assert refusal.message == (
        f"dataset '{mine}' (image) of quantum '{late.quantum_id}', attempt '{attempt(2)}' left "
        "unmerged: policy 'fail', and "
        '{"data_id":{"detector":1,"exposure":0},"dataset_type":"image","run":"u/tester/night1"} '
        f"is claimed by dataset '{theirs}' (image) of quantum '{site.delta(0, 1).quantum_id}', "
        f"attempt '{attempt(1)}'; settle it with another policy, or forget one of the two"
    )
    assert merge(site, "replace").counts.n_deltas == 1
    assert kept_attempt(site) == attempt(2)


def airmass(value: float) -> list[DimensionRecord]:
    return [DimensionRecord("exposure", {"exposure": 7}, {"airmass": value})]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), None])
@pytest.mark.parametrize("policy, value", [("keep", 1.5), ("replace", 1.0), ("defer", 2.0)])
def test_policies_for_dimension_records(
    site: MergeSite, order: Sequence[int] | None, policy: str, value: float
) -> None:
    """The greatest text stays unless a policy says otherwise, whichever comes first."""
    airmasses = enumerate((1.5, 2.0, 1.0))
    deltas = [site.delta(n, n + 1, dimension_record=airmass(v)) for n, v in airmasses]
    for index in order or (0, 1, 2):
        site.put(deltas[index])
        if order:
            merge(site, f"dimension:exposure={policy}")
    code = merge(site, f"dimension:exposure={policy}").exit_code
    assert order or code == (ExitCode.CONFLICTS if policy == "defer" else ExitCode.OK)
    assert site.rows("SELECT record FROM dimension_record") == [({"airmass": value},)]
    assert decisions(site) == ([] if policy == "defer" else [(policy, True)])
    assert site.rows("SELECT count(*) FROM merge_conflict") == [(3,)]
    kept = site.rows("SELECT content->'record' FROM merge_conflict WHERE kept")
    assert kept == [({"airmass": value},)]


def test_graph_was_there_before_any_attempt(site: MergeSite) -> None:
    graph = factories.make_graph(1, name="records", dimension_records=airmass(1.5))
    factories.publish(site.store, graph)
    site.put(site.delta(0, 1, dimension_record=airmass(2.0)))
    assert merge(site, "keep").exit_code == ExitCode.OK
    assert site.rows("SELECT record FROM dimension_record") == [({"airmass": 1.5},)]


def test_fail_for_dimension_records(site: MergeSite) -> None:
    site.put(site.delta(0, 1, dimension_record=airmass(1.5)))
    site.merge()
    site.put(site.delta(1, 2, dimension_record=airmass(2.0)), site.delta(2, 3))
    report = merge(site, "dimension:exposure=fail")
    assert (report.exit_code, report.counts.n_deltas) == (ExitCode.CONFLICTS_REFUSED, 1)
    (refusal,) = report.refused
    assert refusal.message == (
        f"attempt '{attempt(2)}' left unmerged: policy 'fail', and it has "
        '{"airmass": 2.0} for {"data_id":{"exposure":7},"dimension":"exposure"}, the central '
        'registry has {"airmass":1.5}; settle it with another policy, or forget one of the two'
    )
    assert site.rows("SELECT record FROM dimension_record") == [({"airmass": 1.5},)]
