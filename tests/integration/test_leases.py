# SPDX-License-Identifier: BSD-3-Clause
"""Leases share the deltas of a RUN out among mergers, and end by themselves."""

import psycopg
import pytest

from merger.central_registry import CentralRegistry
from merger.delta_listing import DeltaListing, list_deltas
from merger.leases import Leases, read_unmerged
from tests import factories
from tests.fix_merge import MergeSite

N_QUANTA = 10


@pytest.fixture
def listing(site: MergeSite) -> DeltaListing:
    site.graph = factories.make_graph(N_QUANTA, name="leased")
    factories.publish(site.store, site.graph)
    site.put(*(site.delta(number, number + 1) for number in range(N_QUANTA)))
    return list_deltas(site.store, site.graph.run)


def set_expires(site: MergeSite, when: str) -> None:
    with psycopg.connect(site.address) as connection:
        connection.execute(f"UPDATE merge_lease SET expires = {when}".encode())


def take(leases: Leases, registry: CentralRegistry, size: int) -> list[str]:
    claim = leases.take(registry, size).claim
    return claim.keys if claim else []


def test_two_mergers_take_different_deltas(site: MergeSite, listing: DeltaListing) -> None:
    keys = listing.keys()
    first, second = Leases(listing), Leases(listing)
    assert take(first, site.registry, 3) == keys[:3]
    assert take(second, site.registry, 4) == keys[3:7]
    assert take(first, site.registry, 5) == keys[7:]
    # Nothing is left for the first, and the second has to wait for it.
    assert first.take(site.registry, 5).wait_s == pytest.approx(60, abs=20)
    second.give_back(site.registry)
    assert take(first, site.registry, 5) == keys[3:7]
    assert first.take(site.registry, 5).wait_s is None
    first.give_back(site.registry)
    assert site.rows("SELECT count(*) FROM merge_lease") == [(0,)]


def test_range_ends_where_that_of_another_begins(site: MergeSite, listing: DeltaListing) -> None:
    keys = listing.keys()
    first, second, third = Leases(listing), Leases(listing), Leases(listing)
    take(first, site.registry, 2)
    take(second, site.registry, 3)
    first.give_back(site.registry)
    assert take(third, site.registry, 6) == keys[:2]
    assert take(third, site.registry, 6) == keys[5:]


def test_expired_lease_is_taken_over(site: MergeSite, listing: DeltaListing) -> None:
    keys = listing.keys()
    first, second = Leases(listing), Leases(listing)
    assert take(first, site.registry, N_QUANTA) == keys
    assert take(second, site.registry, N_QUANTA) == []
    set_expires(site, "now() - interval '1 second'")
    assert take(second, site.registry, N_QUANTA) == keys
    assert second.n_taken_over == 1
    # Who wakes up later gives back what is no longer there.
    first.give_back(site.registry)
    assert site.rows("SELECT count(*) FROM merge_lease") == [(1,)]


def test_lease_of_another_run_does_not_matter(site: MergeSite, listing: DeltaListing) -> None:
    with psycopg.connect(site.address) as connection:
        connection.execute(
            "INSERT INTO merge_lease SELECT gen_random_uuid(), 'u/other', '00000000-0000-0000-0000"
            "-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', now() + interval '1 hour'"
        )
    assert take(Leases(listing), site.registry, N_QUANTA) == listing.keys()


def test_leases_are_renewed(site: MergeSite, listing: DeltaListing) -> None:
    leases = Leases(listing, lease_s=0.001)
    take(leases, site.registry, 2)
    set_expires(site, "now() + interval '1 second'")
    leases.renew(site.registry)
    expires = "SELECT expires > now() FROM merge_lease"
    assert site.rows(expires) == [(False,)]
    Leases(listing, lease_s=1000).renew(site.registry)
    assert site.rows(expires) == [(False,)]


def test_what_another_merger_merged_is_left_out(site: MergeSite, listing: DeltaListing) -> None:
    leases = Leases(listing)
    assert take(leases, site.registry, 1) == listing.keys(0, 1)
    leases.give_back(site.registry)
    site.merge()
    assert take(leases, site.registry, N_QUANTA) == []
    assert leases.n_by_others == N_QUANTA - 1


def test_ledger_lookup(site: MergeSite, listing: DeltaListing) -> None:
    assert len(read_unmerged(site.registry, listing)) == N_QUANTA
    site.merge()
    site.put(site.delta(0, N_QUANTA + 1))
    listed = list_deltas(site.store, site.graph.run)
    assert read_unmerged(site.registry, listed).keys() == listed.keys(N_QUANTA)


def test_merge_leaves_no_lease(site: MergeSite, listing: DeltaListing) -> None:
    factories.put_delta(site.store, site.delta(0, 50), b"junk")
    site.merge(batch_size=3)
    assert site.rows("SELECT count(*) FROM merge_lease") == [(0,)]


def test_merge_waits_for_a_lease_and_takes_it_over(site: MergeSite, listing: DeltaListing) -> None:
    """As one that was killed leaves it."""
    take(Leases(listing, lease_s=1), site.registry, 4)
    report = site.merge(batch_size=3)
    assert (report.counts.n_deltas, report.n_leases_taken_over) == (N_QUANTA, 1)
    assert site.rows("SELECT count(*) FROM merge_lease") == [(0,)]
