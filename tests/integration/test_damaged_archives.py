# SPDX-License-Identifier: BSD-3-Clause
"""Archives that are damaged, hostile or of a newer format: never a wrong row, nothing silent."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merger.archive_schema import FORMAT_FIELD, SCHEMA, archive_table
from merger.archived_deltas import with_archives
from merger.central_registry import CentralRegistry
from merger.delta_archive import archive_run
from merger.dry_run import rehearse
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from registry import names
from registry.delta import write_delta
from tests import dumps, factories
from tests.factories import attempt
from tests.fix_merge import MergeSite
from transfer_plugins.checksums import checksum_of_file
from transfer_plugins.object_store import (
    DirectoryObjectStore,
    ObjectStore,
    TransferError,
    TransferRefusedError,
    open_store,
)

GRAPH = factories.make_graph(6)
RUN = GRAPH.run
Content = dict[str, bytes]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryObjectStore:
    """A datastore with six deltas in one archive."""
    store = DirectoryObjectStore(tmp_path / "store")
    factories.publish(store, GRAPH)
    for number in range(6):
        factories.put_delta(store, factories.make_delta(GRAPH, number, number + 1))
    archive_run(store, RUN)
    return store


def contents_of(store: ObjectStore) -> Content:
    listed = store.list_objects(names.delta_prefix(RUN))
    return {stored.key: store.get(stored.key) for stored in listed}


def the_archive(store: DirectoryObjectStore) -> Path:
    (stored,) = store.list_objects(names.archive_prefix(RUN))
    return store.path(stored.key)


def remove_deltas(store: DirectoryObjectStore) -> None:
    shutil.rmtree(store.path(names.delta_prefix(RUN).rstrip("/")))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_parquet(path: Path) -> None:
    path.write_bytes(b"PAR1 but nothing like it PAR1")


def of_another_run(path: Path) -> None:
    delta = factories.make_delta(factories.make_graph(1, run="u/other"))
    key = names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)
    pq.write_table(archive_table([(key, write_delta(delta))])[0], path)


def without_format(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)


def future(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata({FORMAT_FIELD: b"2"}), path)


def other_columns(path: Path, *, depth: int = 1) -> None:
    table = pq.read_table(path)
    kind: pa.DataType = pa.int8()
    for _ in range(depth):
        kind = pa.list_(kind)
    nulls = pa.array([None] * len(table), kind)
    pq.write_table(table.drop_columns(["delta"]).append_column("delta", nulls), path)


def too_deep(path: Path) -> None:
    other_columns(path, depth=60)


def column_twice(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column("delta", table["delta"]), path)


def huge_group(path: Path) -> None:
    """600 MB of zeros, which take nothing on disk."""
    rows = archive_table([(next(iter(keys_of(path))), b"")])[0].to_pylist()
    table = pa.Table.from_pylist([rows[0] | {"delta": bytes(1_000_000)}] * 600, SCHEMA)
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def null_keys(path: Path) -> None:
    table = pq.read_table(path).drop_columns(["key"])
    nulls = pa.array([None] * len(table), pa.string())
    pq.write_table(table.append_column("key", nulls), path)


def keys_of(path: Path) -> list[str]:
    return [str(key) for key in pq.read_table(path, columns=["key"])["key"].to_pylist()]


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (cut, "it is damaged"),
    "empty": (empty, "it is damaged"),
    "no Parquet": (no_parquet, "it is damaged"),
    "of another RUN": (of_another_run, f"expected deltas of RUN {RUN!r} only"),
    "without format": (without_format, "expected 'quantum-exec.archive' in its metadata"),
    "other columns": (other_columns, "expected one column 'delta' of binary, found ['list<"),
    "too deep": (too_deep, "it is damaged"),
    "column twice": (column_twice, "expected one column 'delta' of binary"),
    "null keys": (null_keys, f"expected deltas of RUN {RUN!r} only, found None"),
    "huge": (huge_group, "row group 0: expected at most"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_deltas_are_read_all_the_same(store: DirectoryObjectStore, damage: str) -> None:
    contents, (harm, message) = contents_of(store), DAMAGES[damage]
    harm(the_archive(store))
    read = with_archives(store, RUN)
    assert contents_of(read) == contents
    (bad,) = read.bad_archives()
    assert message in bad.message
    assert "run registry-merge archive, and remove it if it stays so" in bad.message
    report = archive_run(store, RUN)
    assert (report.n_archived, report.exit_code) == (6, ExitCode.DIFFERENCES)
    remove_deltas(store)
    assert contents_of(with_archives(store, RUN)) == contents


def test_archive_of_a_newer_format_waits(store: DirectoryObjectStore) -> None:
    future(the_archive(store))
    (bad,) = with_archives(store, RUN).bad_archives()
    assert bad.is_newer
    assert "expected format 1, found 2; upgrade registry-merge" in bad.message


def test_no_flipped_byte_gives_a_wrong_row(store: DirectoryObjectStore) -> None:
    """Whatever byte it is: deltas are as they were, or known to be damaged."""
    contents, path = contents_of(store), the_archive(store)
    whole, chance = path.read_bytes(), random.Random(7)
    remove_deltas(store)
    for place in chance.sample(range(len(whole)), 150):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        read = with_archives(store, RUN)
        for key, content in contents_of(read).items():
            # A delta verifies itself; what is not the same is empty, or fails that.
            assert content == contents[key] or content == b"", place


def test_damaged_row_is_read_from_its_object(store: DirectoryObjectStore) -> None:
    """Row groups that fail, rows that are not what was archived."""
    contents, path = contents_of(store), the_archive(store)
    table = pq.read_table(path)
    wrong = [contents[key][:-9] + b"x" * 9 for key in table["key"].to_pylist()]
    place = table.schema.get_field_index("delta")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(wrong)), path)
    assert contents_of(with_archives(store, RUN)) == contents
    remove_deltas(store)
    assert sorted(contents_of(with_archives(store, RUN)).values()) == sorted(wrong)


def test_archive_that_is_not_as_its_name_says_does_not_count(store: DirectoryObjectStore) -> None:
    path = the_archive(store)
    pq.write_table(pq.read_table(path), path, compression="none")
    report = archive_run(store, RUN)
    digits = path.name.split(".")[2]
    assert f"expected a checksum that begins with {digits}, found sha256:" in report.damaged[0]
    # The same deltas make the same file: it is whole again.
    assert report.n_archived == 6
    assert checksum_of_file(path)[7:23] == digits
    assert archive_run(store, RUN).exit_code == ExitCode.OK


@pytest.fixture
def merged_site(site: MergeSite) -> MergeSite:
    """A site whose archive is cut, and whose deltas are all there."""
    site.put(site.delta(0, 1), site.delta(1, 2))
    archive_run(site.store, RUN)
    (stored,) = site.store.list_objects(names.archive_prefix(RUN))
    cut(site.store.path(stored.key))
    return site


def test_merge_tells_of_a_damaged_archive(merged_site: MergeSite, other_database: str) -> None:
    site = merged_site
    report = site.merge()
    assert (report.counts.n_deltas, report.exit_code) == (2, ExitCode.QUARANTINED)
    (bad,) = report.quarantined
    assert bad.reason == "bad_archive"
    assert "it is damaged" in bad.message
    (difference,) = site.differences()
    assert (difference.kind, difference.key) == ("delta_bad", bad.key)
    site.store.delete(bad.key)
    assert site.merge().exit_code == ExitCode.OK
    with CentralRegistry(other_database) as registry:
        merge_run(registry, site.store, RUN)
    assert dumps.dump(other_database) == site.dump()


@pytest.mark.parametrize("code", [ExitCode.QUARANTINED, ExitCode.NEWER_FORMAT])
def test_dry_run_tells_of_it_too(merged_site: MergeSite, code: ExitCode) -> None:
    site = merged_site
    if code is ExitCode.NEWER_FORMAT:
        shutil.rmtree(site.store.path(names.archive_prefix(RUN).rstrip("/")))
        archive_run(site.store, RUN)
        future(the_archive(site.store))
    found = rehearse(site.registry, site.store, RUN)
    told = [bad.key for bad in found.bad] + found.newer
    assert (found.exit_code, found.statuses.total()) == (code, 2)
    assert told == [stored.key for stored in site.store.list_objects(names.archive_prefix(RUN))]


def test_delta_that_is_damaged_in_the_archive_only_is_quarantined(site: MergeSite) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2))
    archive_run(site.store, RUN)
    (stored,) = site.store.list_objects(names.archive_prefix(RUN))
    path = site.store.path(stored.key)
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[1]["delta"] = rows[1]["delta"][:-1]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    shutil.rmtree(site.store.path(names.delta_prefix(RUN).rstrip("/")))
    report = site.merge()
    assert (report.counts.n_deltas, report.exit_code) == (1, ExitCode.QUARANTINED)
    assert [bad.reason for bad in report.quarantined] == ["truncated"]
    assert attempt(2) in report.quarantined[0].key


def test_object_that_was_repaired_counts(site: MergeSite, other_database: str) -> None:
    """A damaged delta in an archive hides no object that can be read."""
    (bad, _) = site.put(site.delta(0, 1), site.delta(1, 2))
    good = site.store.get(bad)
    site.store.put(bad, good[:-20])
    report = archive_run(site.store, RUN)
    assert (report.n_archived, report.n_undecoded) == (2, 1)
    assert site.merge().exit_code == ExitCode.QUARANTINED
    assert archive_run(site.store, RUN).n_to_archive == 0
    site.store.put(bad, good)
    report = archive_run(site.store, RUN)
    assert (report.n_archived_before, report.n_archived, report.n_undecoded) == (1, 1, 0)
    shutil.rmtree(site.store.path(names.delta_prefix(RUN).rstrip("/")))
    assert with_archives(site.store, RUN).get(bad) == good
    site.store.put(bad, b"junk")
    assert archive_run(site.store, RUN).n_to_archive == 0
    assert (site.merge().exit_code, site.differences()) == (ExitCode.OK, [])


def test_repaired_object_is_merged_before_it_is_archived_again(site: MergeSite) -> None:
    (bad,) = site.put(site.delta(0, 1))
    good = site.store.get(bad)
    site.store.put(bad, good[:-20])
    archive_run(site.store, RUN)
    site.merge()
    site.store.put(bad, good)
    assert (site.merge().exit_code, site.differences()) == (ExitCode.OK, [])
    assert site.rows("SELECT count(*) FROM quarantine") == [(0,)]


def test_refused_delta_does_not_keep_the_others_out(site: MergeSite) -> None:
    (first, _) = site.put(site.delta(0, 1), site.delta(1, 2))
    get = site.store.get

    def refuse(key: str) -> bytes:
        if key == first:
            raise TransferRefusedError(f"{key}: S3 said AccessDenied")
        return get(key)

    site.store.get = refuse  # type: ignore[method-assign]
    report = archive_run(site.store, RUN)
    assert (report.n_archived, report.exit_code) == (1, ExitCode.NOT_PERMITTED)
    assert report.unread == [f"{first}: S3 said AccessDenied"]
    site.store.get = get  # type: ignore[method-assign]
    report = archive_run(site.store, RUN)
    assert (report.n_archived, report.exit_code) == (1, ExitCode.OK)


def test_trouble_with_the_datastore_is_no_damage(datastore: str) -> None:
    store = open_store(datastore)
    factories.put_delta(store, factories.make_delta(GRAPH))
    archive_run(store, RUN)
    read = with_archives(store, RUN)
    read.refresh()
    deaf = open_store(datastore, endpoint_url="http://127.0.0.1:1")
    read.inner.get_range = deaf.get_range  # type: ignore[method-assign]
    with pytest.raises(TransferError, match="Could not connect"):
        contents_of(read)
    assert read.bad_archives() == []
