# SPDX-License-Identifier: BSD-3-Clause
"""Data IDs and keys that nobody would choose: kept as they are, or refused with the place."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from executor.exit_codes import ExitCode
from tests import dumps
from tests.halted_processes import mark, marked_processes
from tests.local_graphs import RUN, GraphRun
from tests.run_outcome import named_by_verify, registry_merge
from transfer_plugins.object_store import ObjectStore

VALUES = [
    "plain",
    "Ünï çødé 銀河 🌌",
    "e\u0301 is not \u00e9",
    "right\u202eto left",
    " begins and ends with a space ",
    "'single' \"double\" `back`",
    "$(touch outside) ; rm -rf * & | > x",
    "{input:raw} {data_id:name} %s %(x)d",
    "a/b",
    "/absolute",
    "../../../outside",
    "..",
    ".",
    ".hidden",
    "~",
    "-rf",
    "back\\slash",
    "line\nand\ttab",
    "C:\\con.txt",
    "%2e%2e%2f",
    "percent%",
    "#?&=+@:;,",
    "x" * 300,
    "ü" * 300,
    "x" * 299 + "y",
    "",
    "null",
    "1",
    "quantum-exec",
]
"""Every one is a data ID of its own, and a quantum reads and makes a dataset for each."""

KEYS = [
    "raw/plain.txt",
    "raw/Ünï çødé 銀河.txt",
    "raw/ spaces .txt",
    "raw/'single' \"double\".txt",
    "raw/$(touch outside).txt",
    "raw/a..b/c.txt",
    "raw/back\\slash.txt",
    "raw/%2e%2e%2f#?&=+@:;,.txt",
    "raw/-rf",
    "raw/" + "x" * 200,
]

REFUSED: dict[str, tuple[Any, str]] = {
    "float": (1.5, "expected str, found 1.5"),
    "boolean": (True, "expected str, found True"),
    "integer": (7, "expected str, found 7"),
    "null": (None, "expected str, found None"),
    "list": (["a"], "expected str, found ['a']"),
    "mapping": ({"a": 1}, "expected str, found {'a': 1}"),
    "NUL": ("a\0b", "NUL"),
}


def make_document(values: list[Any], keys: list[str]) -> dict[str, Any]:
    """A graph that copies a dataset for each data ID, and adds the data ID to it."""
    kind = {"dimensions": ["name"], "storage_class": "File", "extension": ".txt"}
    script = 'cat "$1" > "$2"; printf "%s" "$3" >> "$2"; printf "%s" "$QUANTUM_EXEC_DATA_ID"'
    arguments = ["{input:raw}", "{output:copy}", "{data_id:name}"]
    rows = [{"name": value} for value in values]
    return {
        **{"quantum_graph": 1, "name": "hostile", "run": RUN, "dimensions": {"name": "str"}},
        "dataset_types": {"raw": kind, "copy": kind},
        "tasks": {"copy": {"command": ["sh", "-ec", script, "sh", *arguments]}},
        "inputs": [
            {"dataset_type": "raw", "data_id": row, "run": "raw/all", "key": key}
            for row, key in zip(rows, keys, strict=True)
        ],
        "quanta": [
            {"task": "copy", "data_id": row, "inputs": {"raw": row}, "outputs": {"copy": row}}
            for row in rows
        ],
    }


def run_of(directory: Path, datastore: str, values: list[Any], keys: list[str]) -> GraphRun:
    """The graph, in a directory of its own beside which nothing may appear."""
    (directory / "work").mkdir()
    made = GraphRun(directory / "work", datastore, make_document(values, keys))
    made.environment = mark(directory)
    return made


def check_all_is_there(graph_run: GraphRun, values: list[str], database: str) -> None:
    """Every dataset has its content, its own key, and its data ID in the registry."""
    report = graph_run.run("-j", "2", cwd=graph_run.directory)
    assert report.code == 0, report.failures
    found = [
        (row.data_id["name"], record.object_key)
        for delta in graph_run.counting().values()
        for row, record in zip(delta.rows.dataset, delta.rows.datastore_record, strict=True)
    ]
    assert sorted(name for name, _ in found) == sorted(values)
    for number, value in enumerate(values):
        (key,) = (key for name, key in found if name == value)
        assert key.startswith(f"{RUN}/copy/")
        assert graph_run.store.get(key) == f"raw {number}\n{value}".encode()
    check_registry(graph_run.store, values, database)


def check_registry(store: ObjectStore, values: list[str], database: str) -> None:
    """Merged, the data IDs are what they were, and registry and datastore agree."""
    registry_merge("merge", database, store, RUN)
    rows = dumps.rows(database, "SELECT data_id FROM dataset WHERE dataset_type = 'copy'")
    assert sorted(row["name"] for (row,) in rows) == sorted(values)
    assert named_by_verify(database, store, RUN) == {}


def names_around(directory: Path) -> set[str]:
    """What lies beside and directly in the directory that the runner works in."""
    return {path.relative_to(directory).as_posix() for path in directory.glob("*")} | {
        path.relative_to(directory).as_posix() for path in directory.glob("work/*")
    }


def test_data_ids_of_any_kind_are_kept(tmp_path: Path, database: str) -> None:
    keys = [f"raw/{number}.txt" for number in range(len(VALUES))]
    graph_run = run_of(tmp_path, (tmp_path / "store").as_uri(), VALUES, keys)
    check_all_is_there(graph_run, VALUES, database)
    assert names_around(tmp_path) == {"work", "store", "work/graph.yaml", "work/scratch"}
    assert list(graph_run.scratch.iterdir()) == []
    assert {path.name for path in (tmp_path / "store").iterdir()} == {"raw", "u"}
    assert marked_processes(tmp_path) == []


@pytest.mark.parametrize("is_s3", [False, True], ids=["directory", "s3"])
def test_keys_of_any_kind_are_fetched(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, is_s3: bool
) -> None:
    uri = request.getfixturevalue("datastore") if is_s3 else (tmp_path / "store").as_uri()
    values = VALUES[1 : len(KEYS) + 1]
    graph_run = run_of(tmp_path, uri, values, KEYS)
    check_all_is_there(graph_run, values, database)


def check_refused(directory: Path, document: dict[str, Any], place: str, message: str) -> None:
    """Run the graph: it ends in one line that names file and place, and nothing is published."""
    graph_run = GraphRun(directory, (directory / "store").as_uri(), document)
    graph_run.graph_file.write_text(yaml.safe_dump(document))
    done = subprocess.run(graph_run.command(), capture_output=True, text=True)
    assert done.returncode == ExitCode.USAGE
    assert "graph.yaml:" in done.stderr and f"{place}: " in done.stderr, done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in directory.iterdir()] == ["graph.yaml"]


@pytest.mark.parametrize("name", REFUSED)
def test_value_of_another_kind_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    value, message = REFUSED[name]
    check_refused(tmp_path, make_document([value], ["raw"]), "inputs[0].data_id.name", message)


@pytest.mark.parametrize(
    "key", ["", "/raw.txt", "../raw.txt", "raw/../../x", "raw//x", "./raw", "raw/", "a\nb", "."]
)
def test_key_that_leaves_the_datastore_is_refused_with_its_place(tmp_path: Path, key: str) -> None:
    check_refused(tmp_path, make_document(["a"], [key]), "inputs[0].key", "expected")
