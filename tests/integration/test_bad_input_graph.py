# SPDX-License-Identifier: BSD-3-Clause
"""Graph files that are wrong, as ``run-local`` and ``submit`` take them: exit code 2."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from executor.exit_codes import ExitCode
from tests.local_graphs import Document, make_survey
from tests.refusals import call, check_refused, files_below

Change = Callable[[Document], object]


def first_input(document: Document, **changes: object) -> None:
    """Change the only dataset that is there before the graph runs."""
    document["inputs"][0].update(changes)


def quanta(document: Document) -> dict[str, Document]:
    """The quanta by their task labels."""
    return {quantum["task"]: quantum for quantum in document["quanta"]}


WRONG: dict[str, tuple[Change, str]] = {
    "cycle": (
        lambda d: quanta(d)["isr"]["inputs"].update(fit={"exposure": 0}),
        "fit (exposure=0) → isr (exposure=0) → fit (exposure=0)",
    ),
    "two producers": (
        lambda d: (
            d["tasks"].update(other=d["tasks"]["isr"]),
            d["quanta"].append({**quanta(d)["isr"], "task": "other"}),
        ),
        "isr (exposure=0)",
    ),
    "missing producer": (
        lambda d: d["quanta"].remove(quanta(d)["isr"]),
        "quanta[1].inputs.isr: isr (exposure=0) is made by no quantum",
    ),
    "unknown dataset type": (
        lambda d: quanta(d)["fit"]["outputs"].update(bias={}),
        "quanta[1].outputs.bias: expected one of",
    ),
    "duplicate data ID": (
        lambda d: d["quanta"].append(quanta(d)["fit"]),
        "quanta[3]: fit (exposure=0) is also quanta[1]",
    ),
    "absolute key": (lambda d: first_input(d, key="/etc/passwd"), "inputs[0].key: "),
    "key with dots": (lambda d: first_input(d, key="raw/../../x"), "found 'raw/../../x'"),
    "URI as key": (lambda d: first_input(d, key="s3://other/raw"), "found 's3://other/raw'"),
    "RUN with dots": (lambda d: d.update(run="u/../x"), "u/../x"),
    "reserved RUN": (lambda d: d.update(run="u/quantum-exec"), "u/quantum-exec"),
    "extension": (lambda d: d["dataset_types"]["fit"].update(extension="/../../x"), "/../../x"),
    "unknown task": (lambda d: quanta(d)["fit"].update(task="fitt"), "fitt"),
    "no such dimension": (lambda d: quanta(d)["fit"].update(data_id={"visit": 1}), "visit"),
    "wrong kind": (lambda d: quanta(d)["fit"].update(data_id={"exposure": "x"}), "'x'"),
    "unknown key": (lambda d: d.update(taskz={}), "taskz"),
    "no RUN": (lambda d: d.pop("run"), "'run' is missing"),
    "other format": (lambda d: d.update(quantum_graph=99), "found 99"),
    "no command": (lambda d: d["tasks"]["fit"].clear(), "fit"),
    "command as text": (lambda d: d["tasks"]["fit"].update(command="cp a b"), "cp a b"),
    "no memory": (lambda d: d["tasks"]["fit"].update(resources={"memory_mib": -1}), "memory_mib"),
    "wrong checksum": (lambda d: first_input(d, checksum="md5:0"), "md5:0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_graph_is_refused(tmp_path: Path, name: str) -> None:
    change, text = WRONG[name]
    document = make_survey(1)
    change(document)
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    before = files_below(tmp_path)
    store = (tmp_path / "store").as_uri()
    done = call(tmp_path, "run-local", "graph.yaml", "--datastore", store)
    check_refused(done, ExitCode.USAGE, "graph.yaml:", text)
    assert files_below(tmp_path) == before


def make_files(directory: Path) -> None:
    """Files that are no graphs."""
    (directory / "empty").touch()
    (directory / "binary").write_bytes(bytes(range(256)) * 10)
    (directory / "zeros").write_bytes(bytes(1000))
    (directory / "directory").mkdir()
    (directory / "list").write_text("- a\n- b\n")
    (directory / "broken").write_text("a: [1,\n b: }")
    (directory / "half.qgraph").write_bytes(b"PAR1" + bytes(100))


@pytest.mark.parametrize("command", ["run-local", "submit"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing", "No such file or directory"),
        ("empty", "expected a mapping"),
        ("binary", "expected"),
        ("zeros", "expected"),
        ("directory", "Is a directory"),
        ("list/below", "Not a directory"),
        ("list", "expected a mapping, found ['a', 'b']"),
        ("broken", "line 2"),
        ("half.qgraph", "expected"),
    ],
)
def test_what_is_no_graph_file_is_refused(
    tmp_path: Path, command: str, name: str, text: str
) -> None:
    make_files(tmp_path)
    before = files_below(tmp_path)
    done = call(tmp_path, command, name, "--datastore", "s3://bucket/repo")
    check_refused(done, ExitCode.USAGE, name, text)
    assert files_below(tmp_path) == before


UNKNOWN = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        *((["check", name], name) for name in ("missing", "empty", "binary", "half.qgraph")),
        (["stats", "directory"], "Is a directory"),
        (["show", "graph.yaml", "--quantum", UNKNOWN], UNKNOWN),
        (["show", "graph.yaml", "--task", "nope"], "found 'nope'"),
        (["show", "graph.yaml", "--data-id", "nope"], "found 'nope'"),
        (["urls", "graph.yaml", "--datastore", "nonsense"], "found 'nonsense'"),
        (["subset", "graph.yaml", "list/x.yaml"], "list/x.yaml: cannot be written"),
        (["subset", "graph.yaml", "nowhere/x.qgraph"], "nowhere/x.qgraph: cannot be written"),
        (["subset", "graph.yaml", "x.txt"], "found '.txt'"),
        (["convert", "graph.yaml", "list/x.qgraph"], "list/x.qgraph: cannot be written"),
        (["diff", "graph.yaml", "missing"], "missing"),
        (["diff", "graph.yaml"], "Missing argument"),
        (["check", "graph.yaml", "extra"], "extra"),
        (["nonsense"], "nonsense"),
    ],
)
def test_command_about_graphs(tmp_path: Path, words: list[str], text: str) -> None:
    make_files(tmp_path)
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(make_survey(1), sort_keys=False))
    before = files_below(tmp_path)
    check_refused(call(tmp_path, "graph", *words), ExitCode.USAGE, text)
    assert files_below(tmp_path) == before
