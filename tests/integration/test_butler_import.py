# SPDX-License-Identifier: BSD-3-Clause
"""``import`` of the registry of an LSST Butler, built here after its tables."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from merger.central_registry import CentralRegistry
from merger.collection_chains import show_chain
from merger.exit_codes import ExitCode
from merger.sqlite_import import ImportOptions, ImportReport, import_registry
from merger.sqlite_source import SqliteSource, SqliteSourceError
from tests.fix_merge import MergeSite

IDS = [uuid.UUID(int=n + 1) for n in range(5)]
TABLES = """
CREATE TABLE collection (collection_id INTEGER PRIMARY KEY, name VARCHAR(64), type SMALLINT);
CREATE TABLE run (collection_id BIGINT PRIMARY KEY, host VARCHAR(128));
CREATE TABLE collection_chain (parent BIGINT, position SMALLINT, child BIGINT,
    PRIMARY KEY (parent, position));
CREATE TABLE dataset_type (id INTEGER PRIMARY KEY, name VARCHAR(128), storage_class VARCHAR(64),
    dimensions_key BIGINT, tag_association_table VARCHAR(128), calibration_association_table TEXT);
CREATE TABLE dataset (id CHAR(32) PRIMARY KEY, dataset_type_id BIGINT, ingest_date BIGINT,
    run_id BIGINT);
CREATE TABLE dataset_tags_00000002 (dataset_type_id BIGINT, dataset_id CHAR(32),
    collection_id BIGINT, instrument VARCHAR(32), visit BIGINT, PRIMARY KEY (dataset_id,
    collection_id));
CREATE TABLE dataset_tags_00000003 (dataset_type_id BIGINT, dataset_id CHAR(32),
    collection_id BIGINT, skymap VARCHAR(32));
CREATE TABLE file_datastore_records (dataset_id CHAR(32), path VARCHAR(256), formatter TEXT,
    storage_class VARCHAR(64), component VARCHAR(32), checksum VARCHAR(128), file_size BIGINT,
    PRIMARY KEY (dataset_id, component));
INSERT INTO collection VALUES (1, 'cam/raw/all', 1), (2, 'cam/defaults', 3), (3, 'u/me/run', 1),
    (4, 'cam/calib', 4), (5, 'u/me/all', 3), (6, 'tagged', 2), (7, 'nothing', 3);
INSERT INTO collection_chain VALUES (2, 1, 4), (2, 2, 1), (5, 1, 3), (5, 3, 2), (5, 4, 7),
    (7, 0, 6);
INSERT INTO dataset_type VALUES (1, 'raw', 'Exposure', 2, 'dataset_tags_00000002', NULL),
    (2, 'calexp', 'ExposureF', 2, 'dataset_tags_00000002', NULL),
    (3, 'skyMap', 'SkyMap', 3, 'dataset_tags_00000003', NULL);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A Butler's registry: two raws, a calexp that is also tagged, a sky map in components."""
    path = tmp_path / "gen3.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
        rows = [(1, 1, "cam", 10), (1, 1, "cam", 11), (2, 3, "cam", 10)]
        for key, (kind, run, *data_id) in zip(IDS, rows, strict=False):
            connection.execute("INSERT INTO dataset VALUES (?,?,5,?)", (key.hex, kind, run))
            tags = "INSERT INTO dataset_tags_00000002 VALUES (?,?,?,?,?)"
            connection.execute(tags, (kind, key.hex, run, *data_id))
        connection.execute(tags, (2, IDS[2].hex, 6, "cam", 10))
        connection.execute("INSERT INTO dataset VALUES (?,3,5,3)", (IDS[3].hex,))
        connection.execute(
            "INSERT INTO dataset_tags_00000003 VALUES (3,?,3,'rings')", (IDS[3].hex,)
        )
        for number, place, part, size in [
            (0, "cam/raw/10.fits", "__NULL_STRING__", 100),
            (1, "s3://archive/11.fits", "__NULL_STRING__", -1),
            (2, "u/me/run/calexp.fits", "__NULL_STRING__", 300),
            (3, "u/me/run/skyMap.wcs", "wcs", 4),
        ]:
            connection.execute(
                "INSERT INTO file_datastore_records VALUES (?,?,'f','ExposureF',?,NULL,?)",
                (IDS[number].hex, place, part, size),
            )
        connection.commit()
    return path


def run_import(site: MergeSite, path: Path, **options: Any) -> ImportReport:
    """Import the file."""
    with CentralRegistry(site.address) as registry, SqliteSource(path) as source:
        return import_registry(registry, source, ImportOptions(**options))


def test_butler(site: MergeSite, path: Path) -> None:
    done = run_import(site, path)
    assert (done.kind, done.entries.n_inserted, done.exit_code) == ("LSST Butler", 4, ExitCode.OK)
    counts = {n: (c.n_source, c.n_left_out, c.n_present) for n, c in done.tables.items()}
    assert counts == {
        **{"run": (2, 0, 2), "dataset_type": (3, 0, 3), "dataset": (4, 0, 4)},
        **{"datastore_record": (4, 1, 3), "collection_chain": (6, 3, 3)},
    }
    assert any("1 records of components" in note for note in done.notes)
    assert site.rows(
        "SELECT dataset_id::text, run, dataset_type, data_id, object_key, size_bytes, "
        "r.storage_class FROM dataset LEFT JOIN datastore_record r USING (dataset_id) ORDER BY 1"
    ) == [
        (str(IDS[0]), "cam/raw/all", "raw", _id(10), "cam/raw/10.fits", 100, "ExposureF"),
        (str(IDS[1]), "cam/raw/all", "raw", _id(11), "s3://archive/11.fits", None, "ExposureF"),
        (str(IDS[2]), "u/me/run", "calexp", _id(10), "u/me/run/calexp.fits", 300, "ExposureF"),
        (str(IDS[3]), "u/me/run", "skyMap", {"skymap": "rings"}, None, None, None),
    ]
    assert show_chain(site.registry, "u/me/all") == ["u/me/run", "cam/raw/all"]
    before = site.dump()
    assert run_import(site, path).entries.n_skipped == 4
    assert site.dump() == before


def _id(visit: int) -> dict[str, object]:
    return {"instrument": "cam", "visit": visit}


def test_one_run_under_another_name(site: MergeSite, path: Path) -> None:
    run_import(site, path, only_runs=["u/me/run"], renames={"u/me/run": "u/you/run"})
    assert site.rows("SELECT DISTINCT run FROM dataset") == [("u/you/run",)]
    assert site.rows("SELECT * FROM collection_chain") == []


@pytest.mark.parametrize(
    "statement, message",
    [
        ("UPDATE dataset SET id = 'x' || id WHERE rowid = 1", "expected 4 datasets of the RUNs"),
        ("UPDATE collection SET name = '../up' WHERE type = 1", "collection_id 1: RUN '../up'"),
        ("DROP TABLE dataset_tags_00000003", "expected table 'dataset_tags_00000003', found none"),
        ("ALTER TABLE dataset DROP COLUMN run_id", r"missing are ['run_id']"),
        ("UPDATE dataset_tags_00000002 SET visit = 1.5", "'visit': expected an integer or text"),
        ("UPDATE file_datastore_records SET path = '../x'", "column 'path': expected a path"),
    ],
)
def test_what_is_refused(site: MergeSite, path: Path, statement: str, message: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    with pytest.raises(SqliteSourceError) as raised:
        run_import(site, path)
    assert message in str(raised.value)
    assert site.rows("SELECT * FROM dataset") == []
