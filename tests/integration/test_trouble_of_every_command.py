# SPDX-License-Identifier: BSD-3-Clause
"""A registry that cannot be used: the same message and exit code from every command."""

from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from merger.cli import app
from merger.exit_codes import ExitCode
from tests.fix_merge import MergeSite
from tests.sqlite_files import make

TROUBLES = {
    "UPDATE alembic_version SET version_num = '0001'": (
        ExitCode.SCHEMA,
        "found 0001; run registry-merge migrate",
    ),
    "UPDATE alembic_version SET version_num = '9999'": (
        ExitCode.SCHEMA,
        "found 9999; upgrade registry-merge",
    ),
    "DROP SCHEMA public CASCADE": (ExitCode.SCHEMA, "found none that we can see; run"),
    "SELECT": (ExitCode.NOT_PERMITTED, "permission denied for table alembic_version (42501)"),
}
"""What is done to the registry; the last time, nothing, but who asks has no right."""


def commands(site: MergeSite, directory: Path) -> list[list[str]]:
    """Every command that asks the central registry for something."""
    run, table = site.graph.run, directory / "table.csv"
    table.write_text("uri,visit\nraw/a.fits,1\n")
    make(directory / "registry.sqlite3")
    return [
        *([word, site.uri, run] for word in ("merge", "verify", "sweep")),
        ["merge", site.uri, run, "--follow", "--poll", "0.1"],
        ["ingest-files", "raw", "u/raw", str(table), "--datastore", site.uri],
        ["ingest-dimensions", "visit", str(table)],
        ["import", str(directory / "registry.sqlite3")],
        ["forget", run, "--yes"],
        ["conflicts", "list"],
        ["conflicts", "settle", "--run", run, "--decision", "keep"],
        *(["quarantine", "list"], ["quarantine", "drop", run, "--all"]),
        ["quarantine", "retry", site.uri, run],
        *(["collections", "list"], ["collections", "chain", "u/all", run]),
    ]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_every_command(site: MergeSite, tmp_path: Path, trouble: str) -> None:
    with psycopg.connect(site.address, autocommit=True) as owner:
        owner.execute(trouble.encode())
        owner.execute(
            "DO $$ BEGIN CREATE ROLE stranger LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
        )
    user = "stranger@" if trouble == "SELECT" else "postgres@"
    address = site.address.replace("postgres@", user)
    code, text = TROUBLES[trouble]
    for words in commands(site, tmp_path):
        done = CliRunner().invoke(app, [*words, "--database", address])
        told = [line for line in done.stderr.splitlines() if line.startswith("registry-merge: ")]
        assert (done.exit_code, len(told)) == (code, 1), (words, done.output)
        assert text in told[0], words
