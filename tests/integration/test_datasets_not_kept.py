# SPDX-License-Identifier: BSD-3-Clause
"""A RUN of which some datasets were not kept, through everything that ``registry-merge`` does."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from merger.cli import app
from registry import names
from registry.delta import Delta
from tests import factories
from tests.fix_merge import MergeSite

RUN = factories.RUN
KEPT, PARTLY, NOTHING = 0, 1, 2


@pytest.fixture
def deltas(site: MergeSite) -> list[Delta]:
    """Three quanta with two outputs each: both, one and none of them kept; not merged."""
    made = [site.delta(KEPT, 1), site.delta(PARTLY, 2), site.delta(NOTHING, 3)]
    made[PARTLY] = factories.without_record(made[PARTLY], made[PARTLY].rows.dataset[0].dataset_id)
    made[NOTHING] = factories.without_record(made[NOTHING])
    site.put(*made)
    return made


def command(site: MergeSite, *words: str, code: int = 0) -> dict[str, Any]:
    """Run ``registry-merge`` on the RUN; returns its JSON object."""
    verb, *options = words
    place = [] if verb == "forget" else [site.uri]
    database = [] if verb == "archive" else ["--database", site.address]
    line = [verb, *place, RUN, *database, "--json", *options]
    done = CliRunner().invoke(app, line, catch_exceptions=False)
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows(site: MergeSite) -> tuple[int, int]:
    """How many datasets the registry has, and how many of them with a location."""
    ((n_datasets, n_located),) = site.rows(
        "SELECT (SELECT count(*) FROM dataset), (SELECT count(*) FROM datastore_record)"
    )
    return n_datasets, n_located


def objects(site: MergeSite) -> set[str]:
    """The keys of all datasets in the datastore."""
    keys = {stored.key for stored in site.store.list_objects(f"{RUN}/")}
    return {key for key in keys if not key.startswith(names.control_prefix(RUN))}


def assert_equal(site: MergeSite, n_datasets: int, n_not_kept: int) -> None:
    """``verify`` finds no difference, and counts what was not kept."""
    found = command(site, "verify", "--checksums")
    assert (found["n_differences"], found["n_not_kept"]) == (0, n_not_kept)
    assert rows(site) == (n_datasets, n_datasets - n_not_kept)


def test_dry_run_and_merge_count_all_datasets(site: MergeSite, deltas: list[Delta]) -> None:
    before = site.dump()
    found = command(site, "merge", "--dry-run")
    assert (found["n_deltas_to_merge"], found["n_datasets_to_merge"]) == (3, 6)
    assert site.dump() == before
    command(site, "merge")
    assert_equal(site, 6, 3)
    assert command(site, "merge", "--dry-run")["n_deltas_to_merge"] == 0


def test_forgotten_quantum_takes_its_datasets_along(site: MergeSite, deltas: list[Delta]) -> None:
    command(site, "merge")
    for number in (PARTLY, NOTHING):
        command(site, "forget", "--quantum", deltas[number].quantum_id, "--yes")
    assert rows(site) == (2, 2)
    assert len(objects(site)) == 3


def test_forgotten_run_is_merged_again_as_before(site: MergeSite, deltas: list[Delta]) -> None:
    command(site, "merge")
    merged = rows(site)
    command(site, "forget", "--yes")
    assert rows(site) == (0, 0)
    command(site, "merge", "--remerge")
    assert rows(site) == merged
    assert_equal(site, 6, 3)


def test_sweep_misses_nothing_and_takes_nothing(site: MergeSite, deltas: list[Delta]) -> None:
    command(site, "merge")
    before = objects(site)
    command(site, "sweep", "--delete", "--older-than", "0m")
    assert objects(site) == before
    # What an earlier attempt did keep goes when one counts that did not keep it.
    newer = factories.without_record(site.delta(KEPT, 9))
    site.put(newer)
    command(site, "merge")
    command(site, "sweep", "--delete", "--older-than", "0m")
    gone = {record.object_key for record in deltas[KEPT].rows.datastore_record}
    assert objects(site) == before - gone
    assert_equal(site, 6, 5)


def test_archive_holds_it_and_is_merged_and_verified(site: MergeSite, deltas: list[Delta]) -> None:
    command(site, "merge")
    before = site.dump()
    assert command(site, "archive")["n_archived"] == 3
    for stored in list(site.store.list_objects(names.delta_prefix(RUN))):
        site.store.delete(stored.key)
    assert_equal(site, 6, 3)
    command(site, "forget", "--yes")
    command(site, "merge", "--remerge")
    assert_equal(site, 6, 3)
    assert site.dump()["dataset"] == before["dataset"]
