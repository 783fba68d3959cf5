# SPDX-License-Identifier: BSD-3-Clause
"""``ingest-files``: rows of a table become datasets, once, by the rules of a merge."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merger.collection_chains import ChainMode, CollectionError, change_chain
from merger.conflict_policy import DEFER_ALL, parse
from merger.dataset_types import DatasetTypeConflictError
from merger.exit_codes import ExitCode
from merger.file_ingest import FileIngest, IngestReport, ingest_files
from merger.forgetting import forget, let_back
from merger.outside_entries import OutsideEntryError, insert_records
from merger.source_table import SourceTable, SourceTableError
from registry.model import DataId, DimensionRecord, derived_id
from tests.fix_merge import MergeSite
from transfer_plugins.checksums import checksum_of_bytes

RUN = "raw/all"
WANTED = FileIngest("raw", RUN, ["exposure", "detector"], "Fits")
HEAD = "uri,exposure,detector,size,checksum\n"
ROWS = f"a.fits,1,10,100,\nb.fits,2,10,,{'ab' * 32}\n"


class Ingests:
    """Ingests tables at a site."""

    def __init__(self, site: MergeSite, directory: Path) -> None:
        self.site = site
        self.path = directory / "table"

    def __call__(self, table: str | bytes | pa.Table, **options: Any) -> IngestReport:
        if isinstance(table, pa.Table):
            pq.write_table(table, self.path)
        else:
            self.path.write_bytes(table if isinstance(table, bytes) else table.encode())
        wanted = dataclasses.replace(WANTED, **{"store": self.site.store} | options)
        with SourceTable(str(self.path)) as source:
            return ingest_files(self.site.registry, source, wanted)

    def stored(self) -> list[tuple[Any, ...]]:
        """Everything about datasets of the RUN."""
        return self.site.rows(
            "SELECT object_key, data_id, size_bytes, checksum, quantum_id, attempt_id, "
            "dataset_id::text, storage_class FROM dataset LEFT JOIN datastore_record "
            "USING (dataset_id) WHERE run = %s ORDER BY 1",
            RUN,
        )


@pytest.fixture
def ingest(site: MergeSite, tmp_path: Path) -> Ingests:
    """Ingests tables at a site."""
    return Ingests(site, tmp_path)


def raw_id(exposure: object, detector: object) -> str:
    """The id that a graph gives to an input from outside."""
    return derived_id("dataset", RUN, "raw", {"exposure": exposure, "detector": detector})


def test_rows_become_datasets(ingest: Ingests) -> None:
    done = ingest(HEAD + ROWS)
    assert (done.counts.n_inserted, done.n_rows, done.exit_code) == (2, 2, ExitCode.OK)
    none = (None, None)
    first, second = {"exposure": 1, "detector": 10}, {"exposure": 2, "detector": 10}
    checksum = "sha256:" + "ab" * 32
    assert ingest.stored() == [
        ("a.fits", first, 100, None, *none, raw_id(1, 10), "Fits"),
        ("b.fits", second, None, checksum, *none, raw_id(2, 10), "Fits"),
    ]
    assert ingest.site.rows("SELECT * FROM dataset_type") == [
        ("raw", ["exposure", "detector"], "Fits")
    ]


def test_again_changes_nothing_and_unknown_facts_are_completed(ingest: Ingests) -> None:
    ingest(HEAD + ROWS)
    before = ingest.site.dump()
    again = ingest(HEAD + ROWS, dimensions=None, storage_class=None)
    assert (again.counts.n_inserted, again.counts.n_skipped) == (0, 2)
    assert ingest.site.dump() == before
    more = HEAD + f"a.fits,1,10,100,{'cd' * 32}\nb.fits,2,10,5,\nc.fits,3,10,,\n"
    counts = ingest(more).counts
    assert (counts.n_inserted, counts.n_skipped, counts.n_completed) == (1, 2, 2)
    assert [row[2] for row in ingest.stored()] == [100, 5, None]
    # What is not told contradicts nothing.
    assert ingest(HEAD + ROWS).counts.n_skipped == 2


@pytest.mark.parametrize("is_reversed", [False, True])
def test_other_content_is_a_conflict(ingest: Ingests, is_reversed: bool) -> None:
    tables = [HEAD + "a.fits,1,10,100,\nx.fits,3,1,1,\n", HEAD + "a.fits,1,10,101,\nb.fits,2,1,,\n"]
    done = [ingest(table) for table in (tables[::-1] if is_reversed else tables)]
    assert (done[1].exit_code, done[1].counts.n_conflicting) == (ExitCode.CONFLICTS, 1)
    assert (done[1].counts.n_inserted, done[1].counts.n_open) == (1, 2)
    sides = ingest.site.rows(
        "SELECT DISTINCT (content->>'size_bytes')::int, kept FROM merge_conflict ORDER BY 1"
    )
    assert [size for size, _ in sides] == [100, 101]
    kept = next(size for size, is_kept in sides if is_kept)
    # Which one stays follows from content, whichever came first.
    assert (kept, ingest.stored()[0][2]) == (max(100, kept), kept)
    before = ingest.site.dump()
    again = [ingest(table).exit_code for table in tables]
    assert again == [ExitCode.OK, ExitCode.OK]
    assert ingest.site.dump() == before


def test_policy_fail_leaves_out_what_conflicts(ingest: Ingests) -> None:
    ingest(HEAD + "a.fits,1,10,100,\n")
    before = ingest.stored()
    done = ingest(HEAD + "a.fits,1,10,101,\nb.fits,2,10,,\n", policies=parse(["fail"]))
    assert done.exit_code == ExitCode.CONFLICTS_REFUSED
    assert (done.counts.n_refused, done.counts.n_inserted) == (1, 1)
    assert raw_id(1, 10) in done.refusals[0]
    assert ingest.stored()[0] == before[0]
    assert ingest.site.rows("SELECT * FROM merge_conflict") == []


def test_other_place_without_checksum_is_another_content(ingest: Ingests) -> None:
    ingest(HEAD + ROWS)
    done = ingest(HEAD + f"moved/a.fits,1,10,100,\nmoved/b.fits,2,10,,{'ab' * 32}\n")
    assert (done.counts.n_skipped, done.counts.n_conflicting) == (1, 1)


def test_places(ingest: Ingests) -> None:
    root = ingest.site.uri
    places = ["raw/a.fits", f"{root}/raw/b%20c.fits", "s3://other/x y.fits", "file:///else/d.fits"]
    rows = "".join(f"{uri},{i},1,,\n" for i, uri in enumerate(places))
    done = ingest(HEAD + rows, prefix="night/")
    assert done.n_absolute == 2
    assert sorted(key for key, *_ in ingest.stored()) == [
        "file:///else/d.fits",
        "night/raw/a.fits",
        "raw/b c.fits",
        "s3://other/x y.fits",
    ]


def test_kinds_of_values(ingest: Ingests) -> None:
    text = "key,exposure,detector\na,1,S00\nb,2,1\n"
    ingest(text)
    assert [row[1]["detector"] for row in ingest.stored()] == ["S00", "1"]
    # As data IDs have it that are there, whatever this table looks like.
    ingest("key,exposure,detector\nc,3,2\n")
    assert ingest.stored()[2][1] == {"exposure": 3, "detector": "2"}
    with pytest.raises(SourceTableError, match=r"row 1, column 'exposure': expected an integer"):
        ingest("key,exposure,detector\nd,x4,2\n")
    typed = pa.table({"key": ["e"], "exposure": [5], "detector": [1]})
    with pytest.raises(SourceTableError, match=r"expected text, as data IDs .* found integers"):
        ingest(typed)
    ingest(typed, as_text=["detector"])
    assert ingest.stored()[3][1] == {"exposure": 5, "detector": "1"}


@pytest.mark.parametrize("is_of_records", [True, False])
def test_kinds_that_other_data_ids_have(ingest: Ingests, is_of_records: bool) -> None:
    """A detector is text in records of another dimension, or in data IDs of another type."""
    if is_of_records:
        data_id: DataId = {"exposure": 1, "detector": "007"}
        records = [DimensionRecord("exposure_detector", data_id, {"x": 1})]
        insert_records(ingest.site.registry, records, DEFER_ALL)
    else:
        ingest("key,exposure,detector\nold,1,007\n", dataset_type="flat")
    ingest("key,exposure,detector\na,1,2\n")
    (new,) = (row[1] for row in ingest.stored() if row[0] == "a")
    assert new == {"exposure": 1, "detector": "2"}


def test_dry_run_fails_where_the_real_one_does(ingest: Ingests) -> None:
    ingest(HEAD + ROWS)
    change_chain(ingest.site.registry, "all", [RUN], ChainMode.REDEFINE)
    conflicting = HEAD + "other.fits,1,10,100,\n"
    for is_dry in (True, False):
        with pytest.raises(CollectionError, match="'all': expected a RUN, found a chain"):
            ingest(HEAD + ROWS, run="all", is_dry=is_dry)
        refused = ingest(conflicting, policies=parse(["fail"]), is_dry=is_dry)
        assert refused.exit_code == ExitCode.CONFLICTS_REFUSED
    codes = [ingest(conflicting, is_dry=is_dry).exit_code for is_dry in (True, False, True)]
    assert codes == [ExitCode.CONFLICTS, ExitCode.CONFLICTS, ExitCode.OK]


def test_text_by_option_and_ids_given(ingest: Ingests) -> None:
    given = derived_id("given")
    text = f"key,exposure,detector,dataset_id\na,1,007,\nb,2,8,{given.upper()}\n"
    ingest(text, as_text=["exposure"])
    assert [(row[1], row[6]) for row in ingest.stored()] == [
        ({"exposure": "1", "detector": "007"}, raw_id("1", "007")),
        ({"exposure": "2", "detector": "8"}, given),
    ]


BAD = """uri,exposure,detector,size,checksum,dataset_id
a.fits,1,10,,,
../b.fits,2,10,,,
c.fits,,10,,,
d.fits,4,10,-1,,
e.fits,5,10,,sha1:00,
f.fits,6,10,,,no
g.fits,1,10,,,
g.fits,7,10
https://x/h,8,10,,,
a.fits,1,10,,,
u/quantum-exec/deltas/x,9,10,,,
"""


def test_every_bad_row_is_named_and_nothing_ingested(ingest: Ingests) -> None:
    with pytest.raises(SourceTableError) as raised:
        ingest(BAD)
    message = str(raised.value)
    assert "9 bad rows:" in message and "nothing was ingested" in message
    for part in (
        "row 2, column 'uri': expected s3://bucket/key, file:///path, or a key",
        "row 3, column 'exposure': expected a value, found None",
        "row 4, column 'size': expected a number of bytes, found '-1'",
        "row 5, column 'checksum': expected sha256:<64 hexadecimal digits>",
        "row 6, column 'dataset_id': expected a UUID with hyphens, found 'no'",
        "row 7: expected another data ID and id than in row 1, or the same content",
        "row 8: expected 6 values, found 3: 'g.fits,7,10'",
        "row 9, column 'uri': ",
        "row 11, column 'uri': ",
    ):
        assert part in message
    assert ingest.site.rows("SELECT * FROM dataset_type") == []


def test_rest_of_a_table_with_bad_rows(ingest: Ingests) -> None:
    done = ingest(BAD, is_lenient=True)
    assert (done.exit_code, done.counts.n_inserted, done.n_repeated) == (ExitCode.ERROR, 1, 1)
    assert done.n_rows == 11
    assert [row[0] for row in ingest.stored()] == ["a.fits"]


def test_measured(ingest: Ingests) -> None:
    ingest.site.store.put("a.fits", b"some")
    text = "uri,exposure,detector,size\na.fits,1,1,\n" + f"{ingest.site.uri}/a.fits,2,1,9\n"
    ingest(text, measures=True)
    assert [row[2:4] for row in ingest.stored()] == [(4, None), (9, None)]
    ingest(text, measures=True, reads_bytes=True)
    assert [row[3] for row in ingest.stored()] == [checksum_of_bytes(b"some")] * 2
    with pytest.raises(SourceTableError, match=r"row 1: expected an object that exists, found 'b"):
        ingest("uri,exposure,detector\nb.fits,1,1\n", measures=True)


def test_dry(ingest: Ingests) -> None:
    ingest(HEAD + "a.fits,1,10,100,\nb.fits,2,10,,\n")
    before = ingest.site.dump()
    done = ingest(HEAD + "a.fits,1,10,101,\nb.fits,2,10,5,\nc.fits,3,10,,\n", is_dry=True)
    counts = done.counts
    assert (counts.n_inserted, counts.n_skipped, counts.n_conflicting) == (1, 1, 1)
    assert ingest.site.dump() == before
    ingest(HEAD + ROWS, run="raw/new", is_dry=True)
    assert ingest.site.dump() == before


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("exposure,detector\n1,2\n", {}, "expected one column 'uri' or 'key', found columns"),
        ("uri,exposure\na,1\n", {}, r"missing are \['detector'\]"),
        ("uri,exposure,detector,x\n", {}, r"found \['x'\], too; .* --ignore-columns"),
        (HEAD, {"dimensions": None}, "define it with --dimensions and --storage-class"),
        (HEAD, {"dimensions": ["a b"]}, "dimension: expected letters"),
        (HEAD, {"as_text": ["size"]}, r"--text: expected dimensions, found \['size'\]"),
        (HEAD, {"dataset_type": "b-d"}, "dataset type: expected letters"),
        (HEAD, {"run": "../up"}, "RUN '../up'"),
    ],
)
def test_what_is_refused(ingest: Ingests, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((SourceTableError, OutsideEntryError, ValueError), match=message):
        ingest(text, **options)


def test_other_definition_of_the_dataset_type(ingest: Ingests) -> None:
    ingest(HEAD + ROWS)
    ingest(HEAD + ROWS, dimensions=["detector", "exposure"])
    with pytest.raises(DatasetTypeConflictError, match=r"the central registry has .* 'Fits'"):
        ingest(HEAD + ROWS, storage_class="Parquet")


def test_ingested_files_and_a_merge(ingest: Ingests) -> None:
    """A RUN of raws beside one of outputs: verify and merge say the same as without."""
    ingest.site.put(ingest.site.delta(0, 1))
    ingest(HEAD + ROWS)
    ingest.site.merge()
    assert ingest.site.differences() == []


@pytest.mark.parametrize("is_merged_first", [True, False])
def test_forget_leaves_what_was_ingested(ingest: Ingests, is_merged_first: bool) -> None:
    """The same file as an output of an attempt, and registered by a person."""
    site, delta = ingest.site, ingest.site.delta(0, 1)
    row, record = delta.rows.dataset[0], delta.rows.datastore_record[0]
    site.put(delta)
    texts = map(str, [*row.data_id.values(), record.size_bytes, record.checksum, row.dataset_id])
    table = f"{HEAD.strip()},dataset_id\n{record.object_key},{','.join(texts)}\n"
    wanted = {"dataset_type": row.dataset_type, "run": site.graph.run}
    for is_merge in (is_merged_first, not is_merged_first):
        if is_merge:
            site.merge()
        else:
            ingest(table, storage_class=record.storage_class, **wanted)
    assert site.differences() == []
    found = forget(site.registry, site.graph.run)
    assert (found.n_datasets, found.n_from_outside) == (1, 1)
    left = site.rows("SELECT dataset_id::text, attempt_id FROM dataset")
    assert left == [(row.dataset_id, None)]


def test_forget_takes_out_what_was_ingested_if_asked(ingest: Ingests) -> None:
    """What lost a conflict goes as well; then the RUN is merged as if nothing had been ingested."""
    site, delta = ingest.site, ingest.site.delta(0, 1)
    site.put(delta)
    site.merge()
    expected = site.dump()
    row = delta.rows.dataset[0]
    table = f"{HEAD}x,{row.data_id['exposure']},{row.data_id['detector']},5,\n"
    assert ingest(table, dataset_type=row.dataset_type, run=site.graph.run).counts.n_open == 1
    ingest(HEAD + ROWS)
    dry = forget(site.registry, RUN, outside=True, is_dry=True)
    found = forget(site.registry, RUN, outside=True)
    assert (found, found.n_outside_gone, found.is_run_gone) == (dry, 2, True)
    assert forget(site.registry, site.graph.run, outside=True).n_outside_gone == 1
    for name in ("run", "dataset", "datastore_record", "merge_conflict"):
        assert site.dump()[name] == []
    let_back(site.registry, site.graph.run)
    site.merge()
    found_again = site.dump()
    assert {**found_again, "dataset_type": []} == {**expected, "dataset_type": []}
