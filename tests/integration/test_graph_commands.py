# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec graph`` as a process: what it prints, writes and ends with, for both forms."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from executor.exit_codes import ExitCode
from executor.graph.graph_file import read_graph
from registry import names
from tests.local_graphs import RUN, Document, GraphRun, make_survey
from tests.refusals import call, check_refused

FORMS = ("graph.yaml", "graph.qgraph")


def graph_command(directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run ``quantum-exec graph`` in a directory."""
    return call(directory, "graph", *words)


def report(directory: Path, *words: str) -> Any:
    """What ``--json`` says of a command that ends well."""
    done = graph_command(directory, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def write(path: Path, document: Document) -> None:
    """Write a graph file as YAML."""
    path.write_text(yaml.safe_dump(document, sort_keys=False))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a survey of three exposures in both forms, which no test changes."""
    made = tmp_path_factory.mktemp("graphs")
    write(made / "graph.yaml", make_survey(3))
    assert graph_command(made, "convert", *FORMS).returncode == 0
    return made


@pytest.mark.parametrize("form", FORMS)
def test_check(directory: Path, form: str) -> None:
    done = graph_command(directory, "check", form)
    told = f"{form}: valid: 7 quanta of 3 task labels, 7 outputs, 3 inputs from outside\n"
    assert done.returncode == 0 and done.stdout.startswith(told)
    found = report(directory, "check", form)
    assert found["graph_id"] == read_graph(directory / "graph.yaml").graph_id
    assert found["n_quanta_of_task"] == {"isr": 3, "fit": 3, "coadd": 1}


def test_wrong_graphs_are_refused(directory: Path) -> None:
    document = make_survey(1)
    document["quanta"][1]["inputs"]["isr"] = {"exposure": 7}
    write(directory / "wrong.yaml", document)
    for words in (["check"], ["stats"], ["show"], ["diff", "graph.yaml"]):
        done = graph_command(directory, *words, "wrong.yaml")
        check_refused(done, ExitCode.USAGE, "wrong.yaml:", "isr (exposure=7) is made by no quantum")
    (directory / "cut.qgraph").write_bytes((directory / "graph.qgraph").read_bytes()[:-9])
    for words in (["check"], ["stats"], ["show"], ["convert", "graph.yaml"]):
        done = graph_command(directory, words[0], "cut.qgraph", *words[1:])
        check_refused(done, ExitCode.USAGE, "cut.qgraph: expected a columnar graph file")


@pytest.mark.parametrize("form", FORMS)
def test_show(directory: Path, form: str) -> None:
    done = graph_command(directory, "show", form)
    assert done.returncode == 0
    for text in (f"RUN {RUN}", "7 quanta; dimensions: exposure (int)", "coadd", ".txt"):
        assert text in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert report(directory, "show", form)["n_quanta_of_task"]["fit"] == 3


@pytest.mark.parametrize("form", FORMS)
def test_show_quanta(directory: Path, form: str) -> None:
    done = graph_command(directory, "show", form, "--task", "isr", "--data-id", "exposure=1")
    graph = read_graph(directory / "graph.yaml")
    (quantum,) = [q for q in graph.quanta if (q.task_label, q.data_id) == ("isr", {"exposure": 1})]
    assert done.stdout.splitlines() == [
        f"{quantum.quantum_id} isr (exposure=1)",
        "  in   raw (exposure=1)  raw/1.txt",
        "  out  isr (exposure=1)",
    ]
    found = report(directory, "show", form, "--quantum", quantum.quantum_id)
    assert [q["quantum_id"] for q in found["quanta"]] == [quantum.quantum_id]
    assert found["quanta"][0]["inputs"][0]["key"] == "raw/1.txt"
    everything = report(directory, "show", form, *("--task=isr", "--task=fit", "--task=coadd"))
    assert [q["quantum_id"] for q in everything["quanta"]] == list(graph.by_id)


ASKED_WRONGLY = {
    "quantum": (["--quantum", "x"], "there is no quantum x"),
    "task": (["--task", "x"], "expected one of the task labels ['coadd', 'fit', 'isr'], found 'x'"),
    "dimension": (["--data-id", "visit=1"], "expected one of the dimensions ['exposure'], found"),
    "value": (["--data-id", "exposure=9"], "no quantum is what was asked for"),
    "text": (["--data-id", "exposure=one"], "no quantum is what was asked for"),
    "form": (["--data-id", "exposure"], "data ID: expected dimensions and values such as"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ASKED_WRONGLY)
def test_quanta_that_are_not_there(directory: Path, form: str, name: str) -> None:
    options, text = ASKED_WRONGLY[name]
    check_refused(graph_command(directory, "show", form, *options), ExitCode.USAGE, text)


@pytest.mark.parametrize("form", FORMS)
def test_stats(directory: Path, form: str) -> None:
    found = report(directory, "stats", form)
    counts = {key: found[key] for key in ("n_quanta", "n_inputs", "n_outputs", "n_edges", "depth")}
    assert counts == {"n_quanta": 7, "n_inputs": 9, "n_outputs": 7, "n_edges": 6, "depth": 3}
    assert (found["n_widest"], found["n_external_inputs"], found["external_input_bytes"]) == (
        3,
        3,
        0,
    )
    told = graph_command(directory, "stats", form).stdout
    assert "depth 3, widest level 3 quanta" in told


@pytest.mark.parametrize("form", FORMS)
def test_urls(directory: Path, form: str) -> None:
    words = ("urls", form, "--datastore", "s3://bucket/prefix/", "--task", "coadd")
    lines = [line.split("\t") for line in graph_command(directory, *words).stdout.splitlines()]
    (quantum_id,) = {line[0] for line in lines}
    control = f"s3://bucket/prefix/{RUN}/quantum-exec"
    assert [line[1:] for line in lines] == [
        ["coadd", "get", f"{control}/jobs/{quantum_id}.json"],
        *(
            ["coadd", "get", f"s3://bucket/prefix/{RUN}/fit/fit_{n}.{{attempt20}}.txt"]
            for n in range(3)
        ),
        ["coadd", "put", f"s3://bucket/prefix/{RUN}/coadd/coadd.{{attempt20}}.txt"],
        ["coadd", "put", f"{control}/logs/{quantum_id}.{{attempt}}.log.gz"],
        ["coadd", "put", f"{control}/deltas/{quantum_id}.{{attempt}}.json"],
    ]
    found = report(directory, *words)["urls"]
    assert [list(url.values()) for url in found] == lines


def test_urls_of_attempts_that_count(tmp_path: Path) -> None:
    graph_run = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))
    assert graph_run.run().code == 0
    words = ("urls", "graph.yaml", "--datastore", graph_run.datastore, "--resolve")
    lines = graph_command(tmp_path, *words).stdout.splitlines()
    root = f"{graph_run.datastore}/"
    listed = {line.split("\t")[3].removeprefix(root) for line in lines}
    outside = {row["key"] for row in graph_run.document["inputs"]}
    graphs = {key for key in graph_run.keys() if key.startswith(names.graph_prefix(RUN))}
    assert listed == (set(graph_run.keys()) - graphs) | outside


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("out", ["part.yaml", "part.qgraph"])
def test_subset(directory: Path, form: str, out: str) -> None:
    words = ("--data-id", "exposure=1", "--task", "fit", "--downstream")
    assert report(directory, "subset", form, out, *words)["n_quanta"] == 2
    whole, part = read_graph(directory / form), read_graph(directory / out)
    assert [q.task_label for q in part.quanta] == ["coadd", "fit"]
    assert part.graph_id != whole.graph_id
    # A job of the part is one of the whole: same ids, and inputs that name their producers.
    for quantum in part.quanta:
        assert quantum == whole.by_id[quantum.quantum_id]


def test_subset_with_what_it_waits_for(directory: Path) -> None:
    words = ("subset", "graph.qgraph", "part.qgraph", "--task", "fit", "--upstream")
    assert report(directory, *words)["n_quanta"] == 6
    part = read_graph(directory / "part.qgraph")
    assert {q.task_label for q in part.quanta} == {"fit", "isr"}


def test_subset_of_a_run_can_be_run(tmp_path: Path) -> None:
    graph_run = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))
    assert graph_run.run().code == 0
    assert (
        graph_command(tmp_path, "subset", "graph.yaml", "c.qgraph", "--task=coadd").returncode == 0
    )
    quantum = read_graph(tmp_path / "c.qgraph").quanta[0]
    for key in graph_run.keys():
        if quantum.quantum_id in key:
            graph_run.store.delete(key)
    words = ("run-local", "c.qgraph", "--datastore", graph_run.datastore, "--extend", "--json")
    done = call(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert graph_run.content("coadd") == [b"raw 0\nisr\nfit\nraw 1\nisr\nfit\n"]


def test_diff_of_the_same(directory: Path) -> None:
    done = graph_command(directory, "diff", *FORMS)
    assert (done.returncode, done.stdout) == (0, "quanta: 0 added, 0 removed, 0 changed\n")
    assert report(directory, "diff", *FORMS)["same"] is True


def test_diff(directory: Path) -> None:
    document = make_survey(4)
    document["tasks"]["fit"]["environment"] = {"A": "b"}
    document["tasks"]["coadd"]["optional_inputs"] = ["fit"]
    document["dataset_types"]["bias"] = {"dimensions": [], "storage_class": "Fits"}
    document["dimension_records"] = {"exposure": [{"exposure": 1, "airmass": 1.1}]}
    document["quanta"] = [q for q in document["quanta"] if q["data_id"] != {"exposure": 0}]
    document["quanta"][0]["inputs"]["fit"].remove({"exposure": 0})
    write(directory / "other.yaml", document)
    done = graph_command(directory, "diff", "graph.qgraph", "other.yaml", "--json")
    assert done.returncode == ExitCode.OUTPUTS_DIFFER
    found = json.loads(done.stdout)
    assert sorted(q["task_label"] for q in found["added"]) == ["fit", "isr"]
    assert [q["data_id"] for q in found["removed"]] == [{"exposure": 0}] * 2
    assert [(q["task_label"], q["what"]) for q in found["changed"]] == [
        ("coadd", ["inputs", "optional"])
    ]
    assert found["shared"] == {
        "graph": {"graph_id": ["changed"]},
        "dataset_types": {"bias": ["added"]},
        "tasks": {"fit": ["environment"], "coadd": ["optional_inputs"]},
        "dimension_records": {'exposure {"exposure":1}': ["added"]},
    }
    told = graph_command(directory, "diff", "graph.qgraph", "other.yaml").stdout
    assert "tasks fit: environment\n" in told and "2 added, 2 removed, 1 changed" in told


def test_diff_for_one_run(directory: Path) -> None:
    assert graph_command(directory, "convert", "graph.yaml", "b.yaml", "--run=u/b").returncode == 0
    done = graph_command(directory, "diff", "graph.yaml", "b.yaml")
    assert done.returncode == ExitCode.OUTPUTS_DIFFER and "graph run: value\n" in done.stdout
    assert graph_command(directory, "diff", "graph.yaml", "b.yaml", "--run=u/b").returncode == 0


def test_columnar_graph_is_run(tmp_path: Path) -> None:
    graph_run = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))
    graph_run.prepare()
    assert graph_command(tmp_path, "convert", *FORMS).returncode == 0
    words = ("run-local", "graph.qgraph", "--datastore", graph_run.datastore, "--run", "u/other")
    assert call(tmp_path, *words).returncode == 0
    assert graph_run.store.get(next(iter(graph_run.store.list_objects("u/other/coadd/"))).key)
    # The same RUN belongs to the same graph, in whichever form.
    words = ("run-local", "graph.yaml", "--datastore", graph_run.datastore, "--run", "u/other")
    assert call(tmp_path, *words).returncode == 0


def test_help_does_not_load_what_graphs_need() -> None:
    code = "import sys, executor.cli; print({'pyarrow', 'numpy', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_values_do_not_leave_their_line(directory: Path) -> None:
    field = {"field": "a\nb\x1b[31mc"}
    document = make_survey(1)
    document["dimensions"]["field"] = "str"
    document["dataset_types"]["map"] = {"dimensions": ["field"], "storage_class": "Fits"}
    document["quanta"][0].update(data_id=field, outputs={"map": field})
    write(directory / "lines.yaml", document)
    done = graph_command(directory, "show", "lines.yaml", "--task", "coadd")
    assert "  out  map (field=a\\nb\\x1b[31mc)\n" in done.stdout
    document["quanta"][0]["inputs"] = {"map": {"field": "a\nb"}}
    write(directory / "lines.yaml", document)
    done = graph_command(directory, "check", "lines.yaml")
    check_refused(done, ExitCode.USAGE, "map (field=a\\nb) is made by no quantum")
