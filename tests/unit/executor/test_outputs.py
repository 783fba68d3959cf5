# SPDX-License-Identifier: BSD-3-Clause
"""Outputs: found, measured, and recorded in the private registry."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from executor import private_registry
from executor.outputs import OutputError, record_outputs
from executor.private_registry import PrivateRegistryError, added_rows
from registry import names
from registry.delta import DatasetRow, DatastoreRow
from registry.job import Job
from tests.samples import (
    ATTEMPT_ID,
    CALEXP_ID,
    DATA_ID,
    QUANTUM_ID,
    RUN,
    make_job,
    make_output,
)
from transfer_plugins.checksums import checksum_of_bytes

PATH = make_output().path
KEY = names.dataset_key(PATH, ".img", ATTEMPT_ID)
LABEL = r"output calexp \(exposure=0, detector=1\): "


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A sandbox with a seeded registry and the output of the task."""
    sandbox = tmp_path / "sandbox"
    path = sandbox / "repo" / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(b"pixels")
    private_registry.create(sandbox / names.PRIVATE_REGISTRY, make_job(), [])
    return sandbox


def rows_of(sandbox: Path, table: str) -> list[tuple[object, ...]]:
    """The rows of a table."""
    with closing(sqlite3.connect(sandbox / names.PRIVATE_REGISTRY)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def record(sandbox: Path, job: Job | None = None, *, may_be_missing: bool = False) -> list[str]:
    """Record the outputs; returns the keys of the files to upload."""
    files = record_outputs(job or make_job(), ATTEMPT_ID, sandbox, may_be_missing=may_be_missing)
    return [file.key for file in files]


def test_output_is_measured(sandbox: Path) -> None:
    (file,) = record_outputs(make_job(), ATTEMPT_ID, sandbox, may_be_missing=False)
    assert (file.path, file.key) == (f"repo/{PATH}", KEY)
    assert (file.size_bytes, file.checksum) == (6, checksum_of_bytes(b"pixels"))
    assert file.mtime_ns == (sandbox / "repo" / PATH).stat().st_mtime_ns


def test_output_is_recorded(sandbox: Path) -> None:
    seeded = private_registry.create(sandbox / names.PRIVATE_REGISTRY, make_job(), [])
    record(sandbox)
    rows = added_rows(sandbox / names.PRIVATE_REGISTRY, seeded, make_job(), ATTEMPT_ID)
    assert rows.dataset == [DatasetRow(CALEXP_ID, "calexp", DATA_ID)]
    checksum = checksum_of_bytes(b"pixels")
    assert rows.datastore_record == [DatastoreRow(CALEXP_ID, KEY, 6, checksum, "File")]


def test_empty_file_is_an_output(sandbox: Path) -> None:
    (sandbox / "repo" / PATH).write_bytes(b"")
    assert record(sandbox) == [KEY]


def test_missing_output_is_told(sandbox: Path) -> None:
    (sandbox / "repo" / PATH).unlink()
    with pytest.raises(OutputError, match=f"^{LABEL}expected a file at repo/{PATH}, found none$"):
        record(sandbox)
    assert rows_of(sandbox, "dataset") == []


@pytest.mark.parametrize(("optional", "may_be_missing"), [(True, False), (False, True)])
def test_output_may_be_missing(sandbox: Path, optional: bool, may_be_missing: bool) -> None:
    (sandbox / "repo" / PATH).unlink()
    job = make_job(outputs=[make_output(optional=optional)])
    assert record(sandbox, job, may_be_missing=may_be_missing) == []
    assert rows_of(sandbox, "dataset") == rows_of(sandbox, "datastore_record") == []


def test_first_missing_output_leaves_nothing_recorded(sandbox: Path) -> None:
    missing = make_output(dataset_id=QUANTUM_ID, path=f"{PATH}.other", data_id={"exposure": 9})
    with pytest.raises(OutputError, match=r"exposure=9"):
        record(sandbox, make_job(outputs=[make_output(), missing]))
    assert rows_of(sandbox, "dataset") == []


def link(path: Path, elsewhere: Path) -> None:
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def link_to_nothing(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.symlink_to(elsewhere)


def directory(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, elsewhere: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_above(path: Path, elsewhere: Path) -> None:
    link(path.parent, elsewhere)


@pytest.mark.parametrize("change", [link, link_to_nothing, directory, pipe, link_above])
def test_what_is_no_file_of_the_sandbox_is_refused(
    sandbox: Path, change: Callable[[Path, Path], object]
) -> None:
    change(sandbox / "repo" / PATH, sandbox.parent / "elsewhere")
    with pytest.raises(OutputError, match=f"^{LABEL}expected a regular file at repo/{PATH}"):
        record(sandbox, make_job(outputs=[make_output(optional=True)]))


def test_rows_of_the_task_itself_are_kept_or_replaced(sandbox: Path) -> None:
    row = (CALEXP_ID, RUN, "calexp", '{"detector": 1, "exposure": 0}', QUANTUM_ID, ATTEMPT_ID)
    with closing(sqlite3.connect(sandbox / names.PRIVATE_REGISTRY)) as connection, connection:
        connection.execute("INSERT INTO dataset VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute(
            "INSERT INTO datastore_record VALUES (?, 'guess', 0, 'none', 'x')", (CALEXP_ID,)
        )
    record(sandbox)
    assert rows_of(sandbox, "dataset") == [row]
    checksum = checksum_of_bytes(b"pixels")
    assert rows_of(sandbox, "datastore_record") == [(CALEXP_ID, KEY, 6, checksum, "File")]


def test_row_of_the_task_that_claims_an_output_for_another_id_is_told(sandbox: Path) -> None:
    with closing(sqlite3.connect(sandbox / names.PRIVATE_REGISTRY)) as connection, connection:
        row = (QUANTUM_ID, RUN, "calexp", '{"detector":1,"exposure":0}')
        connection.execute("INSERT INTO dataset VALUES (?, ?, ?, ?, null, null)", row)
    with pytest.raises(PrivateRegistryError, match="outputs cannot be recorded: UNIQUE constraint"):
        record(sandbox)


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_damaged_registry_is_told(sandbox: Path, content: bytes) -> None:
    (sandbox / names.PRIVATE_REGISTRY).write_bytes(content)
    with pytest.raises(PrivateRegistryError, match="private registry: outputs cannot be recorded"):
        record(sandbox)
