# SPDX-License-Identifier: BSD-3-Clause
"""``ingest-files``, ``ingest-dimensions`` and ``import`` as a person runs them."""

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from merger.cli import app
from merger.exit_codes import ExitCode
from registry.model import derived_id
from tests.fix_merge import MergeSite
from tests.integration.test_merge_cli import call
from tests.sqlite_files import FIRST, ROWS, SUM, make

KIND = ("--dimensions", "exposure", "--storage-class", "Fits")


def test_files_from_a_table(site: MergeSite, tmp_path: Path) -> None:
    table = tmp_path / "raws.csv"
    table.write_text(f"uri,exposure\n{site.uri}/raw/1.fits,1\ns3://other/2.fits,2\n")
    words = ("ingest-files", "raw", "raw/all", str(table), "--datastore", site.uri)
    database = ("--database", site.address)
    unknown = call(*words, *database)
    assert unknown.returncode == ExitCode.ERROR
    assert "define it with --dimensions and --storage-class" in unknown.stderr
    dry = call(*words, *KIND, *database, "--dry-run")
    assert "(nothing was changed)" in dry.stdout and site.rows("SELECT * FROM dataset") == []
    done = call(*words, *KIND, *database)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "values of dimensions: exposure: integers" in done.stdout
    assert "1 objects lie outside of the datastore" in done.stdout
    again = json.loads(call(*words, *database, "--json").stdout)
    assert (again["n_inserted"], again["n_skipped"], again["n_absolute"]) == (0, 2, 1)


def test_conflict_and_bad_rows_have_exit_codes(site: MergeSite, tmp_path: Path) -> None:
    table = tmp_path / "raws.csv"
    words = ("ingest-files", "raw", "raw/all", str(table), "--database", site.address, "--json")
    table.write_text("uri,exposure\na,1\n")
    call(*words, *KIND)
    table.write_text("uri,exposure\nb,1\n,2\n")
    bad = call(*words)
    assert bad.returncode == ExitCode.ERROR
    assert json.loads(bad.stdout)["error_type"] == "source_table"
    assert "row 2, column 'uri': expected s3://" in bad.stderr
    table.write_text("uri,exposure\nb,1\n")
    refused = call(*words, "--on-conflict", "raw=fail")
    assert refused.returncode == ExitCode.CONFLICTS_REFUSED
    assert call(*words).returncode == ExitCode.CONFLICTS
    assert call(*words).returncode == ExitCode.OK
    wrong = call(*words, "--on-conflict", "often")
    assert wrong.returncode == ExitCode.USAGE


def test_csv_on_standard_input(site: MergeSite) -> None:
    command = [sys.executable, "-m", "merger.cli", "ingest-files", "raw", "raw/all", "-", *KIND]
    done = subprocess.run(
        [*command, "--database", site.address],
        input="key,exposure\na,1\n",
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == ExitCode.OK, done.stderr
    assert site.rows("SELECT dataset_id::text FROM dataset") == [
        (derived_id("dataset", "raw/all", "raw", {"exposure": 1}),)
    ]


def test_dimension_records(site: MergeSite, tmp_path: Path) -> None:
    table = tmp_path / "exposures.csv"
    table.write_text("instrument,exposure,airmass\ncam,1,1.5\n")
    key, database = ("--key", "instrument,exposure"), ("--database", site.address)
    words = ("ingest-dimensions", "exposure", str(table), *key, *database)
    done = call(*words)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "airmass: numbers" in done.stdout
    assert json.loads(call(*words, "--json").stdout)["n_skipped"] == 1
    table.write_text("instrument,exposure,airmass\ncam,1,1.6\n")
    assert call(*words).returncode == ExitCode.CONFLICTS


def test_import(site: MergeSite, tmp_path: Path) -> None:
    path = make(tmp_path / "registry.sqlite3")
    words = ("import", str(path), "--database", site.address)
    done = call(*words, "--run", "u/old/run=u/new/run")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "equal" in done.stdout and "differs" not in done.stdout
    report = json.loads(call(*words, "--run", "u/old/run=u/new/run", "--json").stdout)
    assert (report["n_inserted"], report["n_skipped"]) == (0, 3)
    wrong = call("import", str(tmp_path / "none"), "--database", site.address)
    assert wrong.returncode == ExitCode.ERROR
    assert "SQLite file" in wrong.stderr and "No such file" in wrong.stderr
    assert "expected OLD=NEW, found 'x'" in call(*words, "--run", "x").stderr


def test_policies_of_the_configuration_file(site: MergeSite, tmp_path: Path) -> None:
    """They hold for whatever meets conflicts; an option wins over them."""
    config = tmp_path / "config.yaml"
    config.write_text(f"database: {site.address}\non_conflict: fail\n")
    words = {
        "ingest-files": ("bias", "raw/all", str(tmp_path / "table"), *KIND),
        "import": (str(tmp_path / "file"),),
    }
    for size in (1, 2):
        (tmp_path / "table").write_text(f"uri,exposure,size\na,1,{size}\n")
        (tmp_path / "file").unlink(missing_ok=True)
        make(tmp_path / "file", ROWS | {"datastore_record": [(FIRST, "a", size, SUM, "Fits")]})
        expected = ExitCode.CONFLICTS_REFUSED if size == 2 else ExitCode.OK
        for command, arguments in words.items():
            done = CliRunner().invoke(app, [command, *arguments, "--config", str(config)])
            assert done.exit_code == expected, done.output
    keep = ["import", *words["import"], "--config", str(config), "--on-conflict", "keep"]
    done = CliRunner().invoke(app, keep)
    assert done.exit_code == ExitCode.OK
    assert site.rows("SELECT DISTINCT decision FROM conflict_decision") == [("keep",)]


def test_what_attempts_made_is_told(site: MergeSite, tmp_path: Path) -> None:
    """Registered again what a merge has brought, and taken out again by RUN."""
    delta = site.delta(0, 1)
    site.put(delta)
    site.merge()
    row, record = delta.rows.dataset[0], delta.rows.datastore_record[0]
    table = tmp_path / "table.csv"
    facts = (*row.data_id.values(), record.size_bytes, record.checksum, row.dataset_id)
    head = ",".join(["key", *row.data_id, "size", "checksum", "dataset_id"])
    table.write_text(f"{head}\n{record.object_key},{','.join(map(str, facts))}\n")
    words = ["ingest-files", row.dataset_type, site.graph.run, str(table)]
    runner, database = CliRunner(env={"COLUMNS": "120"}), ["--database", site.address]
    done = runner.invoke(app, [*words, *database])
    assert "of these made by attempts: forget leaves them now" in done.output
    forget = ["forget", site.graph.run, "--outside", *database]
    wrong = runner.invoke(app, [*forget, "--quantum", delta.quantum_id])
    assert wrong.exit_code == ExitCode.USAGE
    assert "--outside: expected no --quantum: it is of all of the RUN" in wrong.output
    asked = runner.invoke(app, forget, input="y\n")
    assert "1 datasets of RUN u/tester/night1, and 1 from outside?" in asked.output
    assert site.rows("SELECT * FROM dataset") == []
