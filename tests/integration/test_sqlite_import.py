# SPDX-License-Identifier: BSD-3-Clause
"""``import``: SQLite registries into the central one, and every file that is refused."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merger.central_registry import CentralRegistry
from merger.collection_chains import ChainMode, CollectionError, change_chain
from merger.conflict_policy import parse
from merger.dataset_types import DatasetTypeConflictError
from merger.exit_codes import ExitCode
from merger.sqlite_import import ImportOptions, ImportReport, import_registry
from merger.sqlite_source import SqliteSource, SqliteSourceError
from registry.attempt import AttemptStatus
from registry.model import DimensionRecord
from registry.typed_json import canonical
from tests import factories, sqlite_files
from tests.dumps import dump, empty
from tests.fix_merge import MergeSite
from tests.sqlite_files import FIRST, OTHER, ROWS, RUN, SECOND, SUM, THIRD, Rows, make


def run_import(address: str, path: Path, **options: Any) -> ImportReport:
    """Import a file."""
    with CentralRegistry(address) as registry, SqliteSource(path) as source:
        return import_registry(registry, source, ImportOptions(**options))


def test_private_registry(site: MergeSite, tmp_path: Path) -> None:
    path = make(tmp_path / "registry.sqlite3")
    done = run_import(site.address, path)
    assert (done.entries.n_inserted, done.exit_code, done.notes) == (3, ExitCode.OK, [])
    counts = {name: (c.n_source, c.n_present) for name, c in done.tables.items()}
    assert counts == {
        **{"run": (2, 2), "dataset_type": (2, 2), "dimension_record": (1, 1)},
        **{"dataset": (3, 3), "datastore_record": (2, 2)},
    }
    found = site.rows("SELECT dataset_id::text, run, data_id, attempt_id FROM dataset ORDER BY 1")
    assert found == [
        (FIRST, RUN, {"exposure": 1, "detector": 2}, None),
        (SECOND, RUN, {"exposure": 2, "detector": "S1"}, None),
        (THIRD, OTHER, {}, None),
    ]
    before = site.dump()
    again = run_import(site.address, path)
    assert (again.entries.n_inserted, again.entries.n_skipped) == (0, 3)
    assert site.dump() == before


def test_renamed_and_chosen_runs(site: MergeSite, tmp_path: Path) -> None:
    path = make(tmp_path / "registry.sqlite3")
    done = run_import(site.address, path, renames={OTHER: "new/name"}, only_runs=[OTHER])
    assert site.rows("SELECT run, dataset_id::text FROM dataset") == [("new/name", THIRD)]
    assert site.rows("SELECT run FROM run") == [("new/name",)]
    count = done.tables["dataset"]
    assert (count.n_source, count.n_left_out, count.n_present) == (3, 2, 1)
    with pytest.raises(SqliteSourceError, match=r"expected RUNs .*, found no \['none'\]"):
        run_import(site.address, path, only_runs=["none"])
    with pytest.raises(SqliteSourceError, match="expected a name of its own for each RUN"):
        run_import(site.address, path, renames={OTHER: RUN})


def test_conflict_and_policies(site: MergeSite, tmp_path: Path) -> None:
    run_import(site.address, make(tmp_path / "a"))
    record = [(FIRST, "raw/1.fits", 11, SUM, "Fits")]
    other = make(tmp_path / "b", ROWS | {"datastore_record": record})
    dry = run_import(site.address, other, is_dry=True)
    assert (dry.entries.n_conflicting, dry.entries.n_skipped) == (1, 2)
    refused = run_import(site.address, other, policies=parse(["fail"]))
    assert refused.exit_code == ExitCode.CONFLICTS_REFUSED
    assert FIRST in refused.notes[0]
    assert site.rows("SELECT * FROM merge_conflict") == []
    done = run_import(site.address, other)
    assert (done.exit_code, done.entries.n_conflicting) == (ExitCode.CONFLICTS, 1)
    assert run_import(site.address, other).exit_code == ExitCode.OK


def test_left_in_a_write_ahead_log(site: MergeSite, tmp_path: Path) -> None:
    """What nobody has taken up yet counts, and the file is not touched."""
    path = make(tmp_path / "registry.sqlite3", {}, "PRAGMA user_version = 1")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        sqlite_files.fill(connection, ROWS)
        connection.commit()
        copy = tmp_path / "copy"
        copy.mkdir()
        for end in ("", "-wal"):
            (copy / f"r{end}").write_bytes(Path(f"{path}{end}").read_bytes())
    before = (copy / "r").read_bytes()
    assert run_import(site.address, copy / "r").entries.n_inserted == 3
    assert (copy / "r").read_bytes() == before


CHAINS = (
    "CREATE TABLE collection_chain (chain TEXT NOT NULL, position INTEGER NOT NULL, "
    "child TEXT NOT NULL, PRIMARY KEY (chain, position))"
)


@pytest.mark.parametrize(
    "links, message",
    [
        ("('a', 0, 'b'), ('b', 0, 'a')", r"chains that do not contain each other, .*'a', 'b'"),
        ("('a', 0, 'none')", "expected children that exist, found neither RUN nor chain 'none'"),
        (f"('{RUN}', 0, '{OTHER}')", f"chain '{RUN}': expected a free name, found a RUN"),
    ],
)
def test_chains_are_tried_first(site: MergeSite, tmp_path: Path, links: str, message: str) -> None:
    insert = f"INSERT INTO collection_chain VALUES {links}"
    path = make(tmp_path / "r", ROWS, CHAINS, insert)
    before = site.dump()
    for is_dry in (True, False):
        with pytest.raises((SqliteSourceError, CollectionError), match=message):
            run_import(site.address, path, is_dry=is_dry)
    assert site.dump() == before


def test_chain_with_other_members_is_left_and_told(site: MergeSite, tmp_path: Path) -> None:
    insert = f"INSERT INTO collection_chain VALUES ('all', 0, '{RUN}'), ('all', 1, '{OTHER}')"
    path = make(tmp_path / "r", ROWS, CHAINS, insert)
    assert run_import(site.address, path).exit_code == ExitCode.OK
    change_chain(site.registry, "all", [OTHER], ChainMode.REDEFINE)
    done = run_import(site.address, path)
    assert done.exit_code == ExitCode.DIFFERENCES
    assert done.notes == [
        f"chain 'all' is left as it is, ['{OTHER}']; the file has ['{RUN}', '{OTHER}']"
    ]


def test_dry_run_fails_where_the_real_one_does(site: MergeSite, tmp_path: Path) -> None:
    path = make(tmp_path / "r")
    run_import(site.address, path)
    other = [("raw", '["exposure", "detector"]', "Parquet"), ("flat", "[]", "Fits")]
    for is_dry in (True, False):
        with pytest.raises(DatasetTypeConflictError, match="'raw': the central registry has"):
            another = make(tmp_path / f"{is_dry}", ROWS | {"dataset_type": other})
            run_import(site.address, another, is_dry=is_dry)


@pytest.fixture
def repository(site: MergeSite, tmp_path: Path) -> Path:
    """An SQLite copy of a registry with everything: superseded, failed, conflicts, chains."""
    second = factories.make_graph(3, name="second")
    factories.publish(site.store, second)
    records = [DimensionRecord("exposure", {"exposure": 1}, {"n": n}) for n in (1, 2)]
    deltas = [site.delta(i, i + 1, dimension_record=records[i % 2 :][:1]) for i in range(3)]
    site.put(*deltas[:2], factories.without_record(deltas[2]))
    site.put(site.delta(1, 100), site.delta(2, 101, status=AttemptStatus.FAILED))
    site.put(factories.make_delta(second, 1, 102))
    site.merge()
    run_import(site.address, make(tmp_path / "seeds.sqlite3"))
    change_chain(site.registry, "inner", [RUN], ChainMode.REDEFINE)
    change_chain(site.registry, "all", ["inner", site.graph.run], ChainMode.REDEFINE)
    return sqlite_files.copy_of(site.address, tmp_path / "whole.sqlite3")


def test_whole_repository_is_equal_row_for_row(
    site: MergeSite, repository: Path, other_database: str
) -> None:
    done = run_import(other_database, repository)
    assert done.exit_code == ExitCode.CONFLICTS
    assert {name for name, count in done.tables.items() if not count.is_equal} == set()
    assert done.merged.n_deltas == 6
    expected = site.dump()
    found = dump(other_database)
    assert {name: found[name] for name in expected} == expected
    again = run_import(other_database, repository)
    assert (again.merged.n_deltas, again.entries.n_inserted, again.exit_code) == (0, 0, ExitCode.OK)
    assert dump(other_database) == expected


def test_repository_over_a_registry_that_has_some_of_it(
    site: MergeSite, repository: Path, other_database: str
) -> None:
    """An attempt that the ledger has is skipped; the rest comes in, and the outcome is the same."""
    expected = site.dump()
    run_import(other_database, repository, only_runs=[RUN])
    empty(site.address)
    site.merge()
    done = run_import(site.address, repository)
    assert done.merged.n_deltas == 0
    assert site.dump() == expected
    run_import(other_database, repository)
    assert dump(other_database) == expected


BAD_VALUES: dict[str, list[tuple[str, object, str]]] = {
    "dataset": [
        ("dataset_id", "X", "expected a UUID in lower case with hyphens, found 'X'"),
        ("run", "gone", "column 'run': expected one of table 'run', found 'gone'"),
        ("data_id", "{", "column 'data_id': expected JSON, found '{'"),
        ("data_id", '{"exposure":1.5}', "expected a JSON object of text and integers"),
        ("data_id", '{"x":1}', "expected a data ID with ['detector', 'exposure'], found"),
        ("data_id", b"{}", "column 'data_id': expected text, found b'{}'"),
        ("data_id", '{"x":"' + "y" * 3000 + '"}', "expected at most 2000 bytes"),
        ("attempt_id", 5, "column 'attempt_id': expected a UUID"),
    ],
    "datastore_record": [
        ("size_bytes", "many", "column 'size_bytes': expected an integer, found 'many'"),
        ("size_bytes", -1, "column 'size_bytes': expected a number of bytes, found -1"),
        ("checksum", "md5:0", "column 'checksum': expected sha256:<64 hexadecimal digits>"),
        ("object_key", "../up", "expected a key relative to the datastore"),
        ("object_key", "a\0b", "column 'object_key': expected text without NUL"),
        ("storage_class", None, "column 'storage_class': expected text, found None"),
        ("dataset_id", SECOND[:-1] + "9", "expected one of table 'dataset'"),
    ],
    "dataset_type": [("dimensions", "5", "expected a JSON list of names, found '5'")],
    "dimension_record": [("record", '{"a":NaN}', "column 'record': expected JSON")],
}


@pytest.mark.parametrize(
    "table, column, value, message",
    [(table, *case) for table, cases in BAD_VALUES.items() for case in cases],
)
def test_bad_value_is_named(
    site: MergeSite, tmp_path: Path, table: str, column: str, value: object, message: str
) -> None:
    path = make(tmp_path / "r")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '')")
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = 1", [value])
        connection.commit()
    before = site.dump()
    with pytest.raises(SqliteSourceError) as raised:
        run_import(site.address, path)
    assert message in str(raised.value)
    assert f"table '{table}'" in str(raised.value)
    assert site.dump() == before


@pytest.mark.parametrize(
    "statements, message",
    [
        (["DROP TABLE datastore_record"], "expected table 'datastore_record', found none"),
        (["DROP TABLE metric", "CREATE VIEW metric AS SELECT 1"], "table 'metric', found view"),
        (["ALTER TABLE run ADD COLUMN x"], r"table 'run': expected columns ['run'], found"),
        (
            ["DROP TABLE metric", "CREATE VIRTUAL TABLE metric USING fts5(a)"],
            "expected table 'metric', found a virtual table",
        ),
        (
            [f"UPDATE dataset SET data_id = CAST(x'7bff7d' AS TEXT) WHERE dataset_id = '{FIRST}'"],
            "table 'dataset', rowid 1, column 'data_id': expected text in UTF-8",
        ),
        (
            ["UPDATE datastore_record SET object_key = printf('%.*c', 20000000, 'x')"],
            "expected values of at most 16777216 bytes, found a larger one",
        ),
    ],
)
def test_other_tables(site: MergeSite, tmp_path: Path, statements: list[str], message: str) -> None:
    with pytest.raises(SqliteSourceError) as raised:
        run_import(site.address, make(tmp_path / "r", ROWS, *statements))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "expected an SQLite database, found another file"),
        (b"not a database at all, is it?", "expected an SQLite database, found another file"),
        (b"SQLite format 3\0" + bytes(500), "file is not a database"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_no_database(
    site: MergeSite, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "r"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SqliteSourceError, match=message):
        run_import(site.address, path)


def test_damaged_file(site: MergeSite, tmp_path: Path) -> None:
    path = make(tmp_path / "r")
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 2 + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(SqliteSourceError, match=r"it is damaged|malformed"):
        run_import(site.address, path)


def test_code_in_the_file_is_not_run(site: MergeSite, tmp_path: Path) -> None:
    """Triggers and views lie there and do nothing."""
    path = make(
        *(tmp_path / "r", ROWS, "CREATE VIEW odd AS SELECT load_extension('evil.so')"),
        "CREATE TRIGGER t AFTER INSERT ON dataset BEGIN SELECT load_extension('evil.so'); END",
    )
    assert run_import(site.address, path).entries.n_inserted == 3


IDS = st.uuids().map(str)
SIZES = st.one_of(st.none(), st.integers(0, 2**63 - 1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.dictionaries(IDS, st.tuples(st.integers(), TEXTS, SIZES), min_size=1, max_size=8))
def test_any_rows_arrive_as_they_are(
    site: MergeSite, tmp_path: Path, rows: dict[str, tuple[int, str, int | None]]
) -> None:
    empty(site.address)
    (tmp_path / "r").unlink(missing_ok=True)
    data_ids = {key: {"exposure": n, "detector": text} for key, (n, text, _) in rows.items()}
    unique = {canonical(data_id): key for key, data_id in data_ids.items()}
    wanted: Rows = ROWS | {
        "dataset": [(k, RUN, "raw", text, None, None) for text, k in unique.items()],
        "datastore_record": [(k, f"k/{k}", rows[k][2], None, "Fits") for k in unique.values()],
    }
    run_import(site.address, make(tmp_path / "r", wanted))
    found = site.rows(
        "SELECT dataset_id::text, data_id, size_bytes FROM dataset "
        "JOIN datastore_record USING (dataset_id)"
    )
    assert {row[0]: row[1:] for row in found} == {
        key: (data_ids[key], rows[key][2]) for key in unique.values()
    }
