# SPDX-License-Identifier: BSD-3-Clause
"""``ingest-dimensions``: rows of a table become dimension records, by the rules of a merge."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merger.dimension_ingest import DimensionIngest, DimensionReport, ingest_dimensions
from merger.exit_codes import ExitCode
from merger.forgetting import forget
from merger.source_table import SourceTable, SourceTableError
from registry.model import DimensionRecord
from tests.fix_merge import MergeSite

HEAD = "instrument,exposure,airmass,name,n\n"
ROWS = "cam,1,1.25,x,3\ncam,2,,y,4e0\ncam,1,1.25,x,3\n"


class Ingests:
    """Ingests tables of exposures at a site."""

    def __init__(self, site: MergeSite, directory: Path) -> None:
        self.site = site
        self.path = directory / "table"

    def __call__(self, table: str | pa.Table, **options: Any) -> DimensionReport:
        if isinstance(table, str):
            self.path.write_text(table)
        else:
            pq.write_table(table, self.path)
        options = {"key": ["instrument", "exposure"]} | options
        with SourceTable(str(self.path)) as source:
            return ingest_dimensions(
                self.site.registry, source, DimensionIngest("exposure", **options)
            )

    def stored(self) -> list[tuple[Any, Any]]:
        """Data IDs and facts of all records."""
        return self.site.rows("SELECT data_id, record FROM dimension_record ORDER BY data_id")


@pytest.fixture
def ingest(site: MergeSite, tmp_path: Path) -> Ingests:
    """Ingests tables of exposures at a site."""
    return Ingests(site, tmp_path)


def test_rows_become_records_once(ingest: Ingests) -> None:
    done = ingest(HEAD + ROWS)
    assert (done.n_rows, done.n_inserted, done.exit_code) == (2, 2, ExitCode.OK)
    assert done.columns["n"] == "numbers"
    first = {"airmass": 1.25, "name": "x", "n": 3.0}
    assert ingest.stored() == [
        ({"exposure": 1, "instrument": "cam"}, first),
        ({"exposure": 2, "instrument": "cam"}, {"airmass": None, "name": "y", "n": 4.0}),
    ]
    before = ingest.site.dump()
    again = ingest(HEAD + ROWS)
    assert (again.n_inserted, again.n_skipped) == (0, 2)
    assert ingest.site.dump() == before


def test_types_of_parquet(ingest: Ingests) -> None:
    facts = {"f": [0.1], "b": [True], "n": pa.array([None], pa.int8())}
    ingest(pa.table({"exposure": [7]} | facts), key=["exposure"])
    assert ingest.stored() == [({"exposure": 7}, {"f": 0.1, "b": True, "n": None})]
    with pytest.raises(SourceTableError, match=r"column 'exposure': expected integers, .* text"):
        ingest(pa.table({"exposure": ["7"]}), key=["exposure"])


def test_kinds_that_the_registry_has(ingest: Ingests) -> None:
    """Of keys in records of other dimensions, and of facts in records of this one."""
    ingest("instrument,exposure,name\n007,x1,08\n")
    wanted = {"instrument": "007", "exposure": "x1"}
    assert ingest.stored() == [(wanted, {"name": "08"})]
    ingest("instrument,exposure,name\n8,9,10\n")
    assert ({"instrument": "8", "exposure": "9"}, {"name": "10"}) in ingest.stored()
    records = DimensionIngest("detector", key=["instrument", "detector"])
    ingest.path.write_text("instrument,detector\n9,3\n")
    with SourceTable(str(ingest.path)) as source:
        ingest_dimensions(ingest.site.registry, source, records)
    assert ({"instrument": "9", "detector": 3}, {}) in ingest.stored()


def test_other_content_is_a_conflict_whichever_came_first(ingest: Ingests) -> None:
    tables = ["exposure,n\n1,5\n2,1\n", "exposure,n\n1,6\n3,1\n"]
    dumps = []
    for order in (tables, tables[::-1]):
        done = [ingest(table, key=["exposure"]) for table in order]
        assert done[1].exit_code == ExitCode.CONFLICTS
        assert (done[1].n_inserted, done[1].n_conflicting) == (1, 1)
        dumps.append(ingest.site.dump())
        for table in ("dimension_record", "dimension_source", "merge_conflict"):
            ingest.site.rows(f"DELETE FROM {table} RETURNING 1")
    assert dumps[0] == dumps[1]


def test_forget_leaves_them(ingest: Ingests) -> None:
    site = ingest.site
    ingest("exposure,n\n1,5\n", key=["exposure"])
    records = [DimensionRecord("exposure", {"exposure": n}, {"n": 5}) for n in (1, 2)]
    site.put(site.delta(0, 1, dimension_record=records))
    site.merge()
    assert len(ingest.stored()) == 2
    forget(site.registry, site.graph.run)
    assert ingest.stored() == [({"exposure": 1}, {"n": 5})]


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("exposure,n\n1,2\n", {}, r"expected columns .*, missing are \['instrument'\]"),
        (HEAD + "cam,1,a,b,c\ncam,1,2,b,c\n", {}, r"row 2: expected another data ID than in row 1"),
        (HEAD + "cam,,a,b,c\n", {}, r"row 1, column 'exposure': expected a value, found None"),
        (HEAD + "cam,1,a,b\n", {}, r"row 1: expected 5 values, found 4"),
        (HEAD + "cam,1,a,b,\0\n", {}, r"column 'n': expected a finite number or text without NUL"),
        (HEAD, {"key": ["a b"]}, r"dimension: expected letters"),
        (HEAD, {"as_text": ["x"]}, r"--text: expected columns, found \['x'\]"),
    ],
)
def test_what_is_refused(ingest: Ingests, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ingest(text, **options)
    assert ingest.stored() == []


def test_dry(ingest: Ingests) -> None:
    ingest(HEAD + "cam,1,1.5,x,3\n")
    before = ingest.site.dump()
    done = ingest(HEAD + ROWS, is_dry=True)
    assert (done.n_inserted, done.n_skipped, done.n_conflicting) == (1, 0, 1)
    assert done.exit_code == ExitCode.CONFLICTS
    assert ingest.site.dump() == before
