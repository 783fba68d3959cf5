# SPDX-License-Identifier: BSD-3-Clause
"""What ``docs/delta-archive.md`` says: its examples run, its columns are ours, old files stay."""

import json
import re
import subprocess
import sys
from pathlib import Path

import boto3
import duckdb
import pyarrow.parquet as pq
import pytest

from merger.archive_schema import SCHEMA
from merger.archived_deltas import with_archives
from merger.delta_archive import archive_run
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import read_delta
from tests import factories
from transfer_plugins.object_store import DirectoryObjectStore

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/delta-archive.md").read_text()
GOLDEN = ROOT / "tests/golden/delta-archive-1.parquet"
GRAPH = factories.make_graph(3)
RUN = GRAPH.run


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory whose ``archive`` has three deltas, one of a failed attempt."""
    store = DirectoryObjectStore(tmp_path / "store")
    for number in range(3):
        status = AttemptStatus.FAILED if number == 2 else AttemptStatus.SUCCESSFUL
        factories.put_delta(store, factories.make_delta(GRAPH, number, number + 1, status=status))
    archive_run(store, RUN)
    (tmp_path / "archive").symlink_to(store.path(names.archive_prefix(RUN).rstrip("/")))
    return tmp_path


def test_examples_for_duckdb_run(directory: Path) -> None:
    found = [
        duckdb.execute(block.replace("archive/", f"{directory}/archive/")).fetchall()
        for block in blocks("sql")
    ]
    assert found[0] == [("calibrate", 2, 60.3, pytest.approx(117.7, abs=0.1))]
    assert [row[0] for row in found[1]] == ["worker-7"]
    assert len(found[2]) == 4
    assert {row[2] for row in found[2]} == {"image", "catalog"}


def test_example_for_python_runs(directory: Path) -> None:
    (block,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("worker-7") == 3


def test_document_has_every_column_with_its_type() -> None:
    told = {}
    for line in DOCUMENT.split("## Columns")[1].splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0].startswith("`"):
            told.update(dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells[1]))
    assert list(told) == SCHEMA.names
    for field in SCHEMA:
        if str(field.type).startswith("list"):
            members = [member.name for member in field.type.value_type]
            assert re.findall(r"`(\w+)`", told[field.name]) == members
        elif field.name != "versions":
            assert told[field.name] == str(field.type)


def test_golden_archive_is_read(tmp_path: Path) -> None:
    """A file of format 1 as it was released, byte for byte."""
    store = DirectoryObjectStore(tmp_path / "store")
    keys = pq.read_table(GOLDEN, columns=["key"])["key"].to_pylist()
    attempts = [str(key).split(".")[-2] for key in keys]
    key = names.archive_key(RUN, attempts[0], attempts[-1], f"sha256:{'0' * 64}")
    store.put(key, GOLDEN.read_bytes())
    read = with_archives(store, RUN)
    assert [stored.key for stored in read.list_objects(names.delta_prefix(RUN))] == sorted(keys)
    assert [read_delta(read.get(k), k).task_label for k in keys] == ["calibrate"] * 2
    assert read.bad_archives() == []


def test_lifecycle_rule_of_the_configuration_is_taken(s3_environment: dict[str, str]) -> None:
    rules = json.loads((ROOT / "configs/s3-lifecycle.json").read_text())
    client = boto3.client("s3")
    client.create_bucket(Bucket="lifecycle")
    client.put_bucket_lifecycle_configuration(Bucket="lifecycle", LifecycleConfiguration=rules)
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket="lifecycle")["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    client.close()
