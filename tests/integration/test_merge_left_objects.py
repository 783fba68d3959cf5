# SPDX-License-Identifier: BSD-3-Clause
"""Verify names what superseded and killed attempts left in the bucket: which object, whose, why."""

from typing import Any

import pytest

from merger.exit_codes import ExitCode
from merger.reports import verify_object
from registry import names
from registry.attempt import AttemptStatus, short_attempt
from registry.delta import Delta
from tests import factories
from tests.factories import attempt
from tests.fix_merge import MergeSite


def report_of(site: MergeSite) -> dict[str, Any]:
    """What ``registry-merge verify --json`` prints."""
    return verify_object(site.verify())


def keys_of(delta: Delta) -> list[str]:
    return sorted(record.object_key for record in delta.rows.datastore_record)


def left(delta: Delta, key: str, reason: str) -> dict[str, object]:
    """An object of an attempt, as the report has it."""
    ids = {"attempt_id": delta.attempt_id, "quantum_id": delta.quantum_id}
    return {"key": key, **ids, "reason": reason}


def put_log(site: MergeSite, delta: Delta) -> str:
    key = names.log_key(delta.run, delta.quantum_id, delta.attempt_id)
    site.store.put(key, b"log")
    return key


@pytest.mark.parametrize("zombie_is_first", [True, False])
def test_zombie_is_superseded_whenever_its_delta_arrives(
    site: MergeSite, zombie_is_first: bool
) -> None:
    zombie, newer = site.delta(0, 1), site.delta(0, 2)
    for delta in (zombie, newer) if zombie_is_first else (newer, zombie):
        put_log(site, delta)
        site.put(delta)
        site.merge()
    report = report_of(site)
    reason = f"superseded by attempt {newer.attempt_id}"
    assert report["superseded"] == [left(zombie, key, reason) for key in keys_of(zombie)]
    assert report["superseded_attempts"] == [
        {
            "attempt_id": zombie.attempt_id,
            "quantum_id": zombie.quantum_id,
            "superseded_by": newer.attempt_id,
        }
    ]
    assert (report["orphaned"], report["exit_code"]) == ([], ExitCode.OK)
    assert {f["kind"] for f in report["findings"]} == {"superseded_object", "not_run"}


def test_zombie_that_is_not_merged_yet_is_superseded_too(site: MergeSite) -> None:
    zombie, newer = site.delta(0, 1), site.delta(0, 2)
    site.put(newer)
    site.merge()
    site.put(zombie)
    report = report_of(site)
    assert [found["key"] for found in report["superseded"]] == keys_of(zombie)
    assert (report["orphaned"], report["exit_code"]) == ([], ExitCode.DIFFERENCES)
    assert [f["kind"] for f in report["findings"] if f["is_difference"]] == ["delta_not_merged"]


def test_what_waits_for_a_merge_is_neither(site: MergeSite) -> None:
    old, new = site.delta(0, 1), site.delta(0, 2)
    site.put(old, new)
    report = report_of(site)
    assert [found["key"] for found in report["superseded"]] == keys_of(old)
    assert report["orphaned"] == []
    site.merge()
    site.put(site.delta(0, 3))
    report = report_of(site)
    assert [found["key"] for found in report["superseded"]] == keys_of(old)
    assert report["orphaned"] == []


def test_killed_attempt_leaves_orphans(site: MergeSite) -> None:
    """Its log is there, and says whose the objects are; nothing of it counts."""
    killed, good = site.delta(0, 1), site.delta(0, 2)
    factories.put_objects(site.store, killed)
    log = put_log(site, killed)
    site.put(good)
    site.merge()
    report = report_of(site)
    reason = f"no delta of attempt {killed.attempt_id}: it died before, or is under way"
    assert report["orphaned"] == [left(killed, key, reason) for key in [*keys_of(killed), log]]
    assert (report["superseded"], report["exit_code"]) == ([], ExitCode.OK)
    kinds = [f["kind"] for f in report["findings"] if f["kind"] != "not_run"]
    assert kinds == ["orphan", "orphan", "orphan_log"]


def test_orphan_without_a_log_is_told_by_its_path(site: MergeSite) -> None:
    killed = site.delta(0, 1)
    factories.put_objects(site.store, killed)
    (first, *_) = report_of(site)["orphaned"]
    short = short_attempt(killed.attempt_id)
    assert (first["attempt_id"], first["quantum_id"]) == (None, None)
    assert first["reason"].startswith(f"no delta of attempt {short}:")
    site.put(site.delta(0, 2))
    site.merge()
    assert {found["quantum_id"] for found in report_of(site)["orphaned"]} == {killed.quantum_id}


def test_reasons_of_other_orphans(site: MergeSite) -> None:
    bad, failed = site.delta(0, 1), site.delta(1, 2)
    factories.put_objects(site.store, bad)
    factories.put_delta(site.store, bad, b"junk")
    factories.put_objects(site.store, failed)
    site.put(site.delta(1, 2, status=AttemptStatus.FAILED))
    site.store.put(f"{site.graph.run}/image/left-over", b"bytes")
    site.store.put(names.log_prefix(site.graph.run) + "strange.txt", b"bytes")
    site.merge()
    found = {one["key"]: (one["attempt_id"], one["reason"]) for one in report_of(site)["orphaned"]}
    assert found == {
        **{key: (attempt(1), f"the delta of attempt {attempt(1)} is bad") for key in keys_of(bad)},
        **{
            key: (attempt(2), f"the delta of attempt {attempt(2)} does not name it")
            for key in keys_of(failed)
        },
        f"{site.graph.run}/image/left-over": (None, "its key names no attempt"),
        f"{names.log_prefix(site.graph.run)}strange.txt": (None, "its key names no attempt"),
    }


def test_objects_of_a_newer_format_are_no_orphans(
    site: MergeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever removes orphans must not remove what only waits for an upgrade."""
    site.put(site.delta(0, 1))
    monkeypatch.setattr("registry.delta.DELTA_FORMAT", 1)
    report = report_of(site)
    assert (report["orphaned"], report["superseded"]) == ([], [])
    assert "delta_newer_format" in {finding["kind"] for finding in report["findings"]}


def test_superseded_attempt_without_datasets_is_named(site: MergeSite) -> None:
    site.put(site.delta(0, 1, no_work=True, dataset=[], datastore_record=[]), site.delta(0, 2))
    site.merge()
    report = report_of(site)
    assert [one["attempt_id"] for one in report["superseded_attempts"]] == [attempt(1)]
    assert (report["superseded"], report["exit_code"]) == ([], ExitCode.OK)


def test_object_that_lost_a_conflict_is_neither(site: MergeSite) -> None:
    second = factories.make_graph(1, name="second")
    factories.publish(site.store, second)
    site.put(site.delta(0, 1), factories.make_delta(second, 0, 2))
    site.merge()
    report = report_of(site)
    assert (report["orphaned"], report["superseded"]) == ([], [])


def test_objects_of_a_run_below_are_not_looked_at(site: MergeSite) -> None:
    """A RUN may be called like another one and more; nothing of it is an orphan."""
    below = factories.make_graph(1, run=f"{site.graph.run}/below")
    factories.publish(site.store, below)
    factories.put_objects(site.store, factories.make_delta(below))
    factories.put_delta(site.store, factories.make_delta(below))
    site.put(site.delta(0, 2))
    site.merge()
    report = report_of(site)
    assert (report["orphaned"], report["n_objects"], report["n_differences"]) == ([], 2, 0)
    site.graph = below
    assert [f["kind"] for f in report_of(site)["findings"]] == ["delta_not_merged"]
