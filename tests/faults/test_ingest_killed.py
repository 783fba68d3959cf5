# SPDX-License-Identifier: BSD-3-Clause
"""However an ingest or import ends, and however many run at once, the registry is that of one."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from merger.central_registry import CentralRegistry
from merger.file_ingest import FileIngest, ingest_files
from merger.source_table import SourceTable
from merger.sqlite_import import ImportOptions, import_registry
from merger.sqlite_source import SqliteSource
from tests.dumps import Dump, dump
from tests.faults.test_merge_killed import DEADLINE_S, hold, wait_for_no_other_session, wait_until
from tests.fix_merge import MergeSite
from tests.fix_proxy import Cut, MakeProxy
from tests.sqlite_files import make

N_ROWS = 45_000
WANTED = FileIngest("raw", "raw/all", ["exposure"], "Fits")
BLOCKED = "LOCK TABLE datastore_record IN ACCESS EXCLUSIVE MODE"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of three batches."""
    path = tmp_path / "table.csv"
    path.write_text("uri,exposure,size\n" + "".join(f"{i},{i},{i}\n" for i in range(N_ROWS)))
    return path


@pytest.fixture
def clean(table: Path, other_database: str) -> Dump:
    """The dump of one clean ingest."""
    with CentralRegistry(other_database) as registry, SourceTable(str(table)) as source:
        assert ingest_files(registry, source, WANTED).counts.n_inserted == N_ROWS
    return dump(other_database)


def start(site: MergeSite, *arguments: str) -> subprocess.Popen[str]:
    """Start a real ``registry-merge``."""
    command = [sys.executable, "-m", "merger.cli", *arguments, "--database", site.address]
    return subprocess.Popen(
        [*command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def start_ingest(site: MergeSite, table: Path) -> subprocess.Popen[str]:
    """Start an ingest of the table."""
    kind = ("--dimensions", "exposure", "--storage-class", "Fits")
    return start(site, "ingest-files", "raw", "raw/all", str(table), *kind)


def finish(process: subprocess.Popen[str]) -> dict[str, int]:
    """Wait for the report of a process that ends well."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    found: dict[str, int] = json.loads(out)
    return found


def test_killed_within_a_batch(site: MergeSite, table: Path, clean: Dump) -> None:
    with hold(site, BLOCKED) as is_blocked:
        process = start_ingest(site, table)
        wait_until(is_blocked, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    wait_for_no_other_session(site)
    assert site.dump()["dataset"] == []
    assert finish(start_ingest(site, table))["n_inserted"] == N_ROWS
    assert site.dump() == clean


def test_killed_in_a_later_batch(site: MergeSite, table: Path, clean: Dump) -> None:
    """What earlier batches committed stays, and is skipped the next time."""
    finish(start_ingest(site, shortened(table, 20_000)))
    with hold(site, BLOCKED) as is_blocked:
        process = start_ingest(site, table)
        wait_until(is_blocked, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    wait_for_no_other_session(site)
    done = finish(start_ingest(site, table))
    assert (done["n_inserted"], done["n_skipped"]) == (N_ROWS - 20_000, 20_000)
    assert site.dump() == clean


def shortened(table: Path, n_rows: int) -> Path:
    """The first rows of a table."""
    path = table.with_name("short.csv")
    path.write_text("".join(table.read_text().splitlines(keepends=True)[: n_rows + 1]))
    return path


def test_two_at_once(site: MergeSite, table: Path, clean: Dump) -> None:
    with hold(site, BLOCKED) as is_blocked:
        processes = [start_ingest(site, table) for _ in range(2)]
        wait_until(is_blocked, processes[0])
    done = [finish(process) for process in processes]
    assert sum(one["n_inserted"] for one in done) == N_ROWS
    assert sum(one["n_skipped"] for one in done) == N_ROWS
    assert site.dump() == clean


@pytest.mark.parametrize("cut", Cut)
def test_connection_lost_at_commit(
    site: MergeSite, table: Path, clean: Dump, make_proxy: MakeProxy, cut: Cut
) -> None:
    proxy, address = make_proxy(site.address)
    with CentralRegistry(address) as registry, SourceTable(str(table)) as source:
        proxy.cuts += [cut, cut, cut]
        ingest_files(registry, source, WANTED)
    assert proxy.n_cut == 3
    assert site.dump() == clean


def test_import_killed_and_two_at_once(
    site: MergeSite, tmp_path: Path, other_database: str
) -> None:
    path = make(tmp_path / "registry.sqlite3")
    with CentralRegistry(other_database) as registry, SqliteSource(path) as source:
        import_registry(registry, source, ImportOptions())
    with hold(site, BLOCKED) as is_blocked:
        victim = start(site, "import", str(path))
        wait_until(is_blocked, victim)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        wait_for_no_other_session(site)
        processes = [start(site, "import", str(path)) for _ in range(2)]
        wait_until(is_blocked, processes[0])
    assert sum(finish(process)["n_inserted"] for process in processes) == 3
    assert site.dump() == dump(other_database)
