# SPDX-License-Identifier: BSD-3-Clause
"""Sweep: what nothing names is listed and deleted; whatever anything may still need is kept."""

import shutil
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from merger.central_registry import CentralRegistry
from merger.delta_archive import archive_run
from merger.exit_codes import ExitCode
from merger.forgetting import forget
from merger.merge import merge_run
from merger.predictions import GraphNotFoundError
from merger.sweep import Sweep, SweepRefusedError, SweepReport, SweptObject
from registry import names
from registry.attempt import AttemptStatus, short_attempt
from registry.delta import Delta, write_delta
from registry.job import PredictedInput, write_job
from registry.model import DatasetType, derived_id
from tests import factories
from tests.factories import attempt
from tests.fix_merge import MergeSite

RUN = factories.RUN
OUTSIDE = f"{RUN}/image/from outside.fits"


def swept(site: MergeSite, **options: object) -> tuple[SweepReport, list[SweptObject]]:
    """Sweep the RUN, everything whatever its age."""
    wanted: dict[str, object] = {"older_than_s": 0.0, **options}
    with Sweep(site.registry, site.store, site.graph.run, **wanted) as sweep:  # type: ignore[arg-type]
        report = sweep.run()
        return report, list(sweep.left())


def keys_left(site: MergeSite) -> set[str]:
    return {one.key for one in swept(site)[1]}


def outputs_of(*deltas: Delta) -> set[str]:
    return {record.object_key for delta in deltas for record in delta.rows.datastore_record}


def put_log(site: MergeSite, delta: Delta) -> str:
    key = names.log_key(delta.run, delta.quantum_id, delta.attempt_id)
    site.store.put(key, b"log")
    return key


def execute(site: MergeSite, statement: LiteralString, *values: object) -> None:
    with psycopg.connect(site.address) as connection:
        connection.execute(statement, values)


@pytest.fixture
def merged(site: MergeSite) -> Iterator[MergeSite]:
    """A site that merged one quantum."""
    put_log(site, site.delta(2, 9))
    site.put(site.delta(2, 9))
    site.merge()
    yield site
    assert site.differences() == [], "sweep left the registry and the bucket of one mind"


def test_merged_run_has_nothing_to_sweep(merged: MergeSite) -> None:
    report, left = swept(merged)
    assert (left, report.n_objects, report.exit_code) == ([], 3, ExitCode.OK)


def test_superseded_and_dead_attempts_are_swept(merged: MergeSite) -> None:
    old, new, dead = merged.delta(0, 1), merged.delta(0, 2), merged.delta(1, 3)
    log = put_log(merged, dead)
    merged.put(old, new)
    merged.merge()
    factories.put_objects(merged.store, dead)
    report, left = swept(merged)
    assert {one.key for one in left} == outputs_of(old, dead) | {log}
    reasons = {one.key: (one.attempt_id, one.reason) for one in left}
    for key in outputs_of(old):
        assert reasons[key] == (old.attempt_id, f"superseded by attempt {new.attempt_id}")
    died = "it died before, or is under way"
    assert reasons[log] == (dead.attempt_id, f"no delta of attempt {dead.attempt_id}: {died}")
    short = short_attempt(dead.attempt_id)
    for key in outputs_of(dead):
        assert reasons[key] == (None, f"no delta of attempt {short}: {died}")
    assert not any(one.is_deleted for one in left)
    assert report.left_bytes == sum(one.size_bytes for one in left)


def test_what_is_swept_is_deleted_and_nothing_else(merged: MergeSite) -> None:
    old, new = merged.delta(0, 1), merged.delta(0, 2)
    merged.put(old, new)
    merged.merge()
    before = {stored.key for stored in merged.store.list_objects("")}
    report, left = swept(merged, delete=True)
    assert {one.key for one in left if one.is_deleted} == outputs_of(old)
    assert (report.n_deleted, report.n_not_deleted) == (2, 0)
    assert {stored.key for stored in merged.store.list_objects("")} == before - outputs_of(old)
    assert swept(merged, delete=True)[0].n_deleted == 0


def test_young_objects_are_kept(merged: MergeSite) -> None:
    factories.put_objects(merged.store, merged.delta(0, 1))
    report, left = swept(merged, older_than_s=3600.0, delete=True)
    assert (left, report.n_young, report.n_deleted) == ([], 2, 0)


UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[:-10],
    "flipped": lambda content: content.replace(b"worker-7", b"worker-8"),
    "newer format": lambda content: factories.framed(b'"format":99,"new":true}'),
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", UNREADABLE)
def test_unreadable_delta_protects_what_carries_its_attempt(merged: MergeSite, damage: str) -> None:
    bad = merged.delta(0, 1)
    log = put_log(merged, bad)
    factories.put_objects(merged.store, bad)
    key = factories.put_delta(merged.store, bad, UNREADABLE[damage](write_delta(bad)))
    assert keys_left(merged) == set()
    merged.merge()
    report, left = swept(merged, delete=True)
    assert (left, report.n_unreadable) == ([], 1)
    merged.store.delete(key)
    merged.merge()
    assert keys_left(merged) == outputs_of(bad) | {log}


def test_unmerged_delta_protects_its_outputs_and_inputs(merged: MergeSite) -> None:
    merged.store.put(OUTSIDE, b"bytes")
    read = replace(factories.make_input(merged.graph), key=OUTSIDE)
    unmerged = merged.delta(0, 1, inputs=[read])
    merged.put(unmerged)
    assert keys_left(merged) == set()
    merged.merge()
    # The registry has the input now, and nobody knows who made it.
    assert keys_left(merged) == set()


def test_failed_attempt_leaves_what_its_delta_does_not_name(merged: MergeSite) -> None:
    failed = merged.delta(0, 1, status=AttemptStatus.FAILED)
    factories.put_objects(merged.store, merged.delta(0, 1))
    merged.put(failed)
    merged.merge()
    (_, left) = swept(merged)
    assert {one.key for one in left} == outputs_of(merged.delta(0, 1))
    assert {one.reason for one in left} == {f"the delta of attempt {attempt(1)} does not name it"}


def test_both_sides_of_a_conflict_are_kept(site: MergeSite) -> None:
    second = factories.make_graph(1, name="second")
    factories.publish(site.store, second)
    site.put(site.delta(0, 1), factories.make_delta(second, 0, 2))
    assert site.merge().exit_code == ExitCode.CONFLICTS
    assert keys_left(site) == set()


def test_forgotten_attempt_keeps_its_objects(merged: MergeSite) -> None:
    delta = merged.delta(2, 9)
    execute(merged, "UPDATE merged_attempt SET forgotten = true")
    execute(merged, "DELETE FROM datastore_record")
    execute(merged, "DELETE FROM dataset")
    assert keys_left(merged) == set()
    merged.store.delete(names.delta_key(delta.run, delta.quantum_id, delta.attempt_id))
    assert keys_left(merged) == set()
    factories.put_delta(merged.store, delta)
    execute(merged, "DELETE FROM merged_attempt")
    execute(merged, "DELETE FROM attempt")
    execute(merged, "DELETE FROM quantum_input")
    execute(merged, "DELETE FROM metric")
    merged.merge()


def test_delta_that_was_given_up_protects_nothing(merged: MergeSite) -> None:
    bad = merged.delta(0, 1)
    log = put_log(merged, bad)
    factories.put_objects(merged.store, bad)
    key = factories.put_delta(merged.store, bad, b"junk")
    merged.merge()
    execute(merged, "UPDATE quarantine SET dropped = true")
    (_, left) = swept(merged)
    assert {one.key for one in left} == outputs_of(bad)
    assert not {log} & {one.key for one in left}
    merged.store.delete(key)
    merged.merge()


QUOTED = urllib.parse.quote(OUTSIDE)
NAMED = {
    "key": OUTSIDE,
    "uri": f"file://ROOT/{QUOTED}",
    "all quoted": f"file://{urllib.parse.quote('/else/' + OUTSIDE, safe='')}",
    "other root": f"file://localhost/mnt//else/./{OUTSIDE}",
    "slashes in the RUN": "file:///else/u//tester///night1/image/from outside.fits",
    "dots in the RUN": "file:///else/u/./tester/night1/../night1/image/from outside.fits",
    "dots in a key": "u/x/../tester/night1/image/from outside.fits",
    "quoted dots in the RUN": "s3://bucket/u/%2E/tester/x/%2e%2e/night1/image/from outside.fits",
    "profile": f"s3://profile@bucket/root/{OUTSIDE}",
    "query": f"https://s3.example.org/bucket/{QUOTED}?versionId=1",
    "link": "file://LINK/from%20outside.fits",
    "path through a link": "LINK/from outside.fits",
    "link of localhost": "file://localhostLINK/../image/from%20outside.fits#x",
    "link to the file": "file:LINK to file",
}


@pytest.mark.parametrize("form", NAMED)
def test_registered_files_are_kept_however_they_are_named(
    merged: MergeSite, form: str, tmp_path: Path
) -> None:
    merged.store.put(OUTSIDE, b"bytes")
    place, link = merged.store.path(OUTSIDE), tmp_path / "link"
    link.symlink_to(place.parent)
    (tmp_path / "link to file").symlink_to(place)
    named = NAMED[form].replace("ROOT", str(merged.store.root)).replace("LINK", str(link))
    assert keys_left(merged) == {OUTSIDE}
    register(merged, "u/other", named)
    assert keys_left(merged) == set()
    assert swept(merged, delete=True)[0].n_deleted == 0


def test_registered_file_with_the_name_of_an_upload_is_kept(merged: MergeSite) -> None:
    named, other = (f"{RUN}/image/.part-{n}.fits" for n in ("000", "001"))
    for key in (named, other):
        merged.store.put(key, b"only copy")
    register(merged, "u/other", named)
    report, left = swept(merged, delete=True)
    assert ([upload.key for upload in report.unfinished], left) == ([other], [])
    assert (merged.store.path(named).exists(), merged.store.path(other).exists()) == (True, False)


@pytest.mark.parametrize("state", ["unmerged", "merged", "forgotten", "damaged", "archived"])
def test_run_around_this_one_keeps_its_own(merged: MergeSite, state: str) -> None:
    """A dataset type may be called as the last part of another RUN is."""
    kind = DatasetType("night1", ["exposure", "detector"], "Fits", ".fits")
    around = factories.make_graph(1, run="u/tester", types=[kind])
    delta = factories.make_delta(around)
    factories.publish(merged.store, around)
    factories.put_objects(merged.store, delta)
    assert keys_left(merged) == outputs_of(delta)
    is_damaged = state == "damaged"
    key = factories.put_delta(merged.store, delta, b"junk" if is_damaged else None)
    if state in ("merged", "forgotten"):
        merge_run(merged.registry, merged.store, around.run)
    if state == "forgotten":
        forget(merged.registry, around.run)
        merged.store.delete(key)
    if state == "archived":
        archive_run(merged.store, around.run)
        merged.store.delete(key)
    report, left = swept(merged, delete=True)
    assert (left, report.n_deleted, report.n_unreadable) == ([], 0, int(is_damaged))


def test_what_a_run_around_this_one_left_is_swept_with_its_reason(merged: MergeSite) -> None:
    kind = DatasetType("night1", ["exposure", "detector"], "Fits", ".fits")
    around = factories.make_graph(1, run="u/tester", types=[kind])
    old, new = (factories.make_delta(around, 0, number) for number in (1, 2))
    factories.publish(merged.store, around)
    for delta in (old, new):
        factories.put_objects(merged.store, delta)
        factories.put_delta(merged.store, delta)
    merge_run(merged.registry, merged.store, around.run)
    (_, left) = swept(merged)
    assert {one.key for one in left} == outputs_of(old)
    assert left[0].reason == f"superseded by attempt {new.attempt_id}"


def register(site: MergeSite, run: str, object_key: str) -> None:
    """Register a file from outside."""
    dataset = derived_id("from outside")
    execute(site, "INSERT INTO run VALUES (%s) ON CONFLICT DO NOTHING", run)
    execute(
        site,
        "INSERT INTO dataset (dataset_id, run, dataset_type, data_id) "
        "VALUES (%s, %s, 'image', '{\"exposure\": 77, \"detector\": 1}')",
        *(dataset, run),
    )
    statement = "INSERT INTO datastore_record VALUES (%s, %s, 5, NULL, 'Fits')"
    execute(site, statement, dataset, object_key)


def test_inputs_of_jobs_are_kept(merged: MergeSite) -> None:
    merged.store.put(OUTSIDE, b"bytes")
    merged.store.put(f"{RUN}/image/nobody", b"bytes")
    data_id: dict[str, str | int] = {"exposure": 0, "detector": 1}
    read = PredictedInput(derived_id("x"), "image", data_id, "raw", "raw/x", key=OUTSIDE)
    job = factories.make_job(merged.graph, 0, inputs=[read])
    merged.store.put(names.job_key(RUN, job.quantum_id), write_job(job))
    assert keys_left(merged) == {f"{RUN}/image/nobody"}
    merged.store.put(names.job_key(RUN, merged.graph.quanta[1].quantum_id), b"junk")
    assert keys_left(merged) == set()


def test_runs_below_keep_their_own(merged: MergeSite) -> None:
    below = factories.make_graph(1, run=f"{RUN}/below")
    factories.put_objects(merged.store, factories.make_delta(below))
    assert len(keys_left(merged)) == 2
    factories.publish(merged.store, below)
    assert keys_left(merged) == set()


def test_run_without_a_graph_is_refused(site: MergeSite) -> None:
    site.graph = factories.make_graph(1, run="u/tester")
    with pytest.raises(GraphNotFoundError, match="check the names of datastore and RUN"):
        swept(site)


def test_registry_that_does_not_know_the_run_deletes_nothing(site: MergeSite) -> None:
    factories.put_objects(site.store, site.delta(1, 1))
    site.put(site.delta(0, 2))
    with pytest.raises(SweepRefusedError, match="has none of its 1 deltas; check --database"):
        swept(site, delete=True)
    assert len(keys_left(site)) == 2


def test_control_objects_are_never_swept(merged: MergeSite) -> None:
    for name in ("jobs/x.json", "replacements/x.json", "graphs/x", "archive/x", "deltas/x", "y/z"):
        merged.store.put(f"{RUN}/quantum-exec/{name}", b"x")
    assert keys_left(merged) == set()
    for name in ("deltas/x", "archive/x"):
        merged.store.delete(f"{RUN}/quantum-exec/{name}")


def test_log_with_a_strange_name_is_swept(merged: MergeSite) -> None:
    strange = f"{names.log_prefix(RUN)}strange.txt"
    merged.store.put(strange, b"x")
    (_, (one,)) = swept(merged)
    assert (one.key, one.reason) == (strange, "its key names no attempt")


def test_listing_needs_the_right_to_read_only(merged: MergeSite) -> None:
    factories.put_objects(merged.store, merged.delta(0, 1))
    role = f"reader_{uuid.uuid4().hex}"
    execute(merged, f"CREATE ROLE {role} LOGIN")
    execute(merged, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    address = merged.address.replace("postgres@", f"{role}@")
    with CentralRegistry(address) as registry:
        with Sweep(registry, merged.store, RUN, older_than_s=0) as sweep:
            assert sweep.run().n_left == 2
    execute(merged, f"DROP OWNED BY {role}")
    execute(merged, f"DROP ROLE {role}")


def test_archived_deltas_protect_too(site: MergeSite) -> None:
    """Unmerged, and only in the archive."""
    site.put(site.delta(0, 1))
    archive_run(site.store, RUN)
    shutil.rmtree(site.store.path(names.delta_prefix(RUN).rstrip("/")))
    assert keys_left(site) == set()
    site.merge()
    assert swept(site, delete=True)[0].n_deleted == 0
    assert site.differences() == []


def test_damaged_archive_stops_deleting(merged: MergeSite) -> None:
    """Its deltas may be nowhere else, and what they name would be taken for orphans."""
    (key,) = merged.put(merged.delta(0, 90))
    archive_run(merged.store, merged.graph.run)
    merged.store.delete(key)
    (archive,) = merged.store.list_objects(names.archive_prefix(merged.graph.run))
    content = merged.store.get(archive.key)
    merged.store.put(archive.key, content[:-100])
    with pytest.raises(SweepRefusedError, match="expected archives that can be read whole, found"):
        swept(merged, delete=True)
    merged.store.put(archive.key, content)
    swept(merged, delete=True)
    merged.merge()
    assert merged.differences() == []
