# SPDX-License-Identifier: BSD-3-Clause
"""Conflicts: never silent, never in the way of the rest, settled by content only."""

import dataclasses
import json

import psycopg
import pytest

from merger.exit_codes import ExitCode
from registry.model import DimensionRecord
from tests import factories
from tests.factories import Graph, attempt
from tests.fix_merge import MergeSite


@pytest.fixture
def second(site: MergeSite) -> Graph:
    """A graph in the same RUN that makes the same types and data IDs under other ids."""
    graph = factories.make_graph(1, name="second")
    factories.publish(site.store, graph)
    return graph


def read_conflicts(site: MergeSite) -> list[tuple[str, str, bool]]:
    """Type of key, attempt and whether the side is in the table."""
    found = site.rows(
        "SELECT conflict_key, attempt_id::text, kept FROM merge_conflict ORDER BY 1, 2"
    )
    return [("+".join(json.loads(key)), attempt_id, kept) for key, attempt_id, kept in found]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), None])
def test_highest_attempt_keeps_a_data_id(
    site: MergeSite, second: Graph, order: tuple[int, int] | None
) -> None:
    deltas = [site.delta(0, 1), factories.make_delta(second, 0, 2), site.delta(1, 3)]
    site.put(deltas[2])
    for index in order or (0, 1):
        site.put(deltas[index])
        if order:
            report = site.merge()
    report = report if order else site.merge()
    assert (report.counts.n_conflicts, report.exit_code) == (2, ExitCode.CONFLICTS)
    natural = "data_id+dataset_type+run"
    assert (
        read_conflicts(site)
        == [
            (natural, attempt(1), False),
            (natural, attempt(2), True),
        ]
        * 2
    )
    assert site.rows("SELECT DISTINCT attempt_id::text FROM dataset ORDER BY 1") == [
        (attempt(2),),
        (attempt(3),),
    ]
    report = site.merge()
    assert (report.counts.n_conflicts, report.exit_code) == (0, ExitCode.CONFLICTS)
    assert {finding.kind for finding in site.differences()} == {"conflict"}


def test_conflict_ends_when_its_winner_is_superseded(site: MergeSite, second: Graph) -> None:
    site.put(site.delta(0, 1), factories.make_delta(second, 0, 2))
    site.merge()
    site.put(factories.make_delta(second, 0, 3, dataset=[], datastore_record=[]))
    report = site.merge()
    assert report.exit_code == ExitCode.OK
    assert site.rows("SELECT count(*) FROM merge_conflict") == [(0,)]
    assert site.rows("SELECT DISTINCT attempt_id::text FROM dataset") == [(attempt(1),)]
    assert site.rows("SELECT count(*) FROM datastore_record") == [(2,)]


def test_id_claimed_for_other_data_id(site: MergeSite) -> None:
    thief = factories.make_graph(1, name="thief", types=factories.TYPES[:1])
    (mine,) = thief.quanta[0].outputs
    theirs = site.graph.quanta[2].outputs[0]
    row = dataclasses.replace(thief.outputs[mine], dataset_id=theirs)
    thief.outputs[theirs] = row
    thief.quanta[0].outputs[:] = [theirs]
    factories.publish(site.store, thief)
    site.put(site.delta(2, 1), factories.make_delta(thief, 0, 2))
    site.merge()
    assert read_conflicts(site) == [
        ("dataset_id", attempt(1), False),
        ("dataset_id", attempt(2), True),
    ]
    # Exposure 0 is what the loser does not claim, and what the winner takes from a third.
    site.put(site.delta(0, 3))
    site.merge()
    assert ("dataset_id", attempt(1), True) in read_conflicts(site)
    assert ("data_id+dataset_type+run", attempt(2), False) in read_conflicts(site)


def test_loser_is_seen_though_nothing_in_the_table_claims_its_key(site: MergeSite) -> None:
    """A dataset that only meets the loser of a conflict still conflicts with it."""
    thief = factories.make_graph(1, name="thief", types=factories.TYPES[:1])
    (mine,) = thief.quanta[0].outputs
    theirs = site.graph.quanta[2].outputs[0]
    thief.outputs[theirs] = dataclasses.replace(thief.outputs[mine], dataset_id=theirs)
    thief.quanta[0].outputs[:] = [theirs]
    factories.publish(site.store, thief)
    site.put(factories.make_delta(thief, 0, 1), site.delta(2, 5))
    site.merge()
    site.put(site.delta(0, 3))
    report = site.merge()
    assert report.counts.n_conflicts == 1
    assert read_conflicts(site) == [
        ("data_id+dataset_type+run", attempt(1), False),
        ("data_id+dataset_type+run", attempt(3), True),
        ("dataset_id", attempt(1), False),
        ("dataset_id", attempt(5), True),
    ]


def insert_by_hand(site: MergeSite, dataset_id: str, size_bytes: int, checksum: str) -> None:
    """Register the image of exposure 0 without any attempt."""
    with psycopg.connect(site.address) as connection:
        connection.execute("INSERT INTO run VALUES (%s)", (site.graph.run,))
        connection.execute(
            "INSERT INTO dataset_type VALUES ('image', '[\"exposure\", \"detector\"]', 'Fits')"
        )
        connection.execute(
            "INSERT INTO dataset VALUES (%s, %s, 'image', %s, NULL, NULL)",
            (dataset_id, site.graph.run, '{"exposure": 0, "detector": 1}'),
        )
        connection.execute(
            "INSERT INTO datastore_record VALUES (%s, 'raw/elsewhere.fits', %s, %s, 'Fits')",
            (dataset_id, size_bytes, checksum),
        )


def test_row_that_was_there_before_is_kept(site: MergeSite) -> None:
    insert_by_hand(site, "00000000-0000-0000-0000-000000000001", 1, "sha256:0")
    site.put(site.delta(0, 1))
    assert site.merge().counts.n_conflicts == 1
    assert site.rows("SELECT kept, attempt_id::text FROM merge_conflict ORDER BY 1") == [
        (False, attempt(1)),
        (True, None),
    ]
    assert site.rows("SELECT object_key FROM datastore_record ORDER BY 1")[0] == (
        "raw/elsewhere.fits",
    )
    assert site.rows("SELECT count(*) FROM dataset") == [(2,)]


def test_same_content_that_was_there_before_is_skipped(site: MergeSite) -> None:
    delta = site.delta(0, 1)
    record = delta.rows.datastore_record[0]
    insert_by_hand(site, record.dataset_id, record.size_bytes, record.checksum)
    site.put(delta)
    assert site.merge().exit_code == ExitCode.OK
    assert site.rows("SELECT count(*) FROM merge_conflict") == [(0,)]
    assert site.rows("SELECT count(*) FROM dataset WHERE attempt_id IS NULL") == [(1,)]
    assert site.rows("SELECT count(*) FROM dataset") == [(2,)]
    assert site.differences() == []


def airmass(value: object) -> list[DimensionRecord]:
    return [DimensionRecord("exposure", {"exposure": 7}, {"airmass": value})]


def read_dimension_conflict(site: MergeSite) -> list[tuple[str, str | None, bool]]:
    """Airmass, attempt, and whether it is the one in the table."""
    return site.rows(
        "SELECT content->'record'->>'airmass', attempt_id::text, kept "
        "FROM merge_conflict ORDER BY 1"
    )


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_greatest_text_of_a_dimension_record_stays(
    site: MergeSite, order: tuple[int, ...], together: bool
) -> None:
    deltas = [
        site.delta(0, 1, dimension_record=airmass(1.25)),
        site.delta(1, 2, dimension_record=airmass(1.5)),
        site.delta(2, 3, dimension_record=airmass(1.25)),
        site.delta(0, 4, dimension_record=airmass(1.5)),
    ]
    for index in order:
        site.put(deltas[index])
        if not together:
            site.merge()
    site.merge()
    assert site.rows("SELECT record FROM dimension_record") == [({"airmass": 1.5},)]
    assert read_dimension_conflict(site) == [("1.25", attempt(1), False), ("1.5", attempt(2), True)]


def test_equal_numbers_in_other_form_are_no_conflict(site: MergeSite) -> None:
    site.put(site.delta(0, 1, dimension_record=airmass(1.0)))
    site.merge()
    site.put(site.delta(1, 2, dimension_record=airmass(1)))
    assert site.merge().exit_code == ExitCode.OK
    assert site.rows("SELECT record::text FROM dimension_record") == [('{"airmass": 1}',)]


def test_conflict_of_long_records(site: MergeSite) -> None:
    """Longer than an index entry may be, and incompressible."""
    import random

    words = [random.Random(seed).randbytes(4000).hex() for seed in (1, 2)]
    site.put(
        site.delta(0, 1, dimension_record=airmass(words[0])),
        site.delta(1, 2, dimension_record=airmass(words[1])),
    )
    report = site.merge()
    assert (report.counts.n_deltas, report.counts.n_conflicts) == (2, 1)
    assert site.rows("SELECT record->>'airmass' FROM dimension_record") == [(max(words),)]


def test_graph_and_attempt_disagree_on_a_dimension_record(site: MergeSite) -> None:
    graph = factories.make_graph(1, name="records", dimension_records=airmass(2))
    factories.publish(site.store, graph)
    site.put(site.delta(0, 1, dimension_record=airmass(3)))
    assert site.merge().counts.n_conflicts == 1
    assert site.merge().counts.n_conflicts == 0
    assert read_dimension_conflict(site) == [("2", None, False), ("3", attempt(1), True)]


@pytest.mark.parametrize("airmass_of_graph, kept", [(2, 3), (4, 4)])
def test_graph_that_comes_after_the_attempt(
    site: MergeSite, airmass_of_graph: int, kept: int
) -> None:
    site.put(site.delta(0, 1, dimension_record=airmass(3)))
    site.merge()
    graph = factories.make_graph(1, name="more", dimension_records=airmass(airmass_of_graph))
    factories.publish(site.store, graph)
    site.put(site.delta(1, 2))
    report = site.merge()
    assert (report.counts.n_conflicts, report.exit_code) == (1, ExitCode.CONFLICTS)
    assert site.merge().counts.n_conflicts == 0
    assert site.rows("SELECT record FROM dimension_record") == [({"airmass": kept},)]
    sides = [(str(airmass_of_graph), None), ("3", attempt(1))]
    assert read_dimension_conflict(site) == sorted(
        (text, attempt_id, text == str(kept)) for text, attempt_id in sides
    )
