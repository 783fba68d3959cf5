# SPDX-License-Identifier: BSD-3-Clause
"""Graph files: a valid one becomes a graph, a wrong one is told with line and place."""

import datetime
import math
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.graph.placed_yaml import GraphError
from executor.graph.yaml_graph import read_graph_file
from registry import names
from registry.job import PredictedInput, TaskCall, read_job, write_job
from registry.model import DataId, DatasetType, DimensionRecord, derived_id
from tests.unit.executor.graph_documents import MISSING, document_with, make_document, read, write

ROOT = Path(__file__).parents[3]
RUN = "u/tester/night1"


def test_shared_parts(tmp_path: Path) -> None:
    graph = read(tmp_path, make_document())
    assert (graph.name, graph.run) == ("two exposures", RUN)
    assert graph.dataset_types["raw"] == DatasetType("raw", ["exposure"], "File", ".txt")
    assert graph.dataset_types["counts"].extension == ".json"
    assert graph.dataset_types["summary"].extension == ".tar.gz"
    assert graph.dimension_records[1] == DimensionRecord(
        "exposure", {"exposure": 2}, {"airmass": 1.3}
    )
    assert graph.tasks["count"] == TaskCall(
        ["cp", "{input:raw}", "{output:counts}"], None, {"deep": [1, None]}, {}
    )
    assert graph.tasks["summarize"].function == "summaries:write"
    assert graph.tasks["summarize"].environment == {"OMP_NUM_THREADS": "1"}


def test_quanta_are_linked_by_what_they_make(tmp_path: Path) -> None:
    graph = read(tmp_path, make_document())
    summarize, *counts = graph.quanta
    assert [q.task_label for q in graph.quanta] == ["summarize", "count", "count"]
    assert graph.parents_of(summarize) == {quantum.quantum_id for quantum in counts}
    assert graph.parents_of(counts[0]) == set()
    made, read_again = counts[0].outputs[0], summarize.inputs[0]
    assert (made.dataset_id, made.path) == (read_again.dataset_id, read_again.path)
    assert (read_again.producer, read_again.key) == (counts[0].quantum_id, None)
    assert summarize.inputs[0].optional and summarize.outputs[0].optional
    assert not counts[0].inputs[0].optional


def test_inputs_from_outside_have_a_key(tmp_path: Path) -> None:
    dataset_id, checksum = str(uuid.UUID(int=5)), "sha256:" + "0" * 64
    document = make_document()
    document["inputs"][0].update(size_bytes=7, checksum=checksum, dataset_id=dataset_id)
    found = read(tmp_path, document).quanta[1].inputs[0]
    data_id: DataId = {"exposure": 1}
    path = names.dataset_path("raw/all", "raw", data_id, ".txt")
    expected = PredictedInput(
        *(dataset_id, "raw", data_id, "raw/all", path),
        key="raw/1.txt",
        size_bytes=7,
        checksum=checksum,
    )
    assert found == expected


def test_same_file_is_the_same_graph(tmp_path: Path) -> None:
    one, other = (read(tmp_path, make_document()) for _ in range(2))
    assert one == other
    assert str(uuid.UUID(one.graph_id)) == one.graph_id


def test_mended_task_is_the_same_graph(tmp_path: Path) -> None:
    document = make_document()
    document["tasks"]["count"] = {
        "command": ["other"],
        "config": {"x": 1},
        "environment": {"A": "b"},
    }
    document["quanta"].reverse()
    one, other = read(tmp_path, make_document()), read(tmp_path, document)
    assert one.graph_id == other.graph_id
    assert one.by_id.keys() == other.by_id.keys()


@pytest.mark.parametrize("quantum", [0, 1, 2])
def test_other_quanta_are_another_graph(tmp_path: Path, quantum: int) -> None:
    document = make_document()
    del document["quanta"][quantum]["inputs"]
    assert read(tmp_path, document).graph_id != read(tmp_path, make_document()).graph_id


def test_run_may_be_given_from_outside(tmp_path: Path) -> None:
    graph = read(tmp_path, make_document(), run="u/other/night2")
    assert graph.run == "u/other/night2"
    assert graph.quanta[0].outputs[0].path.startswith("u/other/night2/")
    assert not graph.by_id.keys() & read(tmp_path, make_document()).by_id.keys()


def test_graph_id_may_be_given(tmp_path: Path) -> None:
    graph_id = derived_id("mine")
    assert read(tmp_path, document_with("graph_id", value=graph_id)).graph_id == graph_id


def test_jobs_can_be_written_and_read(tmp_path: Path) -> None:
    graph = read(tmp_path, make_document())
    for quantum in graph.quanta:
        job = graph.job_of(quantum)
        assert read_job(write_job(job), "job") == job


def test_example_of_the_documentation_is_valid() -> None:
    for path in (ROOT / "configs" / "pipelines").glob("*.yaml"):
        assert read_graph_file(path).quanta


ERRORS: list[tuple[tuple[str | int, ...], object, str]] = [
    (("quantum_graph",), 2, "quantum_graph: expected format 1, found 2"),
    (("quantum_graph",), True, "quantum_graph: expected format 1, found True"),
    (("name",), MISSING, "'name' is missing"),
    (("name",), "", "name: expected text, found ''"),
    (("runs",), "x", "runs: expected one of ['data"),
    (("run",), "a//b", "run: RUN 'a//b': part '' must begin"),
    (("run",), 7, "run: expected text, found 7"),
    (("graph_id",), "mine", "graph_id: expected a UUID, found 'mine'"),
    (("dimensions",), [], "dimensions: expected a mapping with text as keys, found []"),
    (("dimensions", "band"), "float", "dimensions.band: expected one of ['int', 'str'], found 'fl"),
    (("dimensions", "band"), ["int"], "dimensions.band: expected one of ['int', 'str'], found ['i"),
    (("dimensions", "a-b"), "int", "dimensions.a-b: dimension: expected letters, digits"),
    (("dataset_types", "7x"), {}, "dataset_types.7x: dataset type: expected letters"),
    (("dataset_types", "raw"), None, "dataset_types.raw: expected a mapping, found None"),
    (("dataset_types", "raw", "storage_class"), MISSING, "dataset_types.raw: 'storage_class' is m"),
    (
        ("dataset_types", "raw", "dimensions"),
        "exposure",
        "dataset_types.raw.dimensions: expected a l",
    ),
    (
        ("dataset_types", "raw", "dimensions"),
        ["visit"],
        "dataset_types.raw.dimensions: expected dim",
    ),
    (("dataset_types", "raw", "dimensions"), [{}], "dataset_types.raw.dimensions: expected dimens"),
    (("dataset_types", "raw", "dimensions"), ["exposure"] * 2, "dataset_types.raw.dimensions: exp"),
    (("dataset_types", "raw", "extension"), "txt", "dataset_types.raw.extension: expected a form"),
    (("dataset_types", "raw", "extension"), "./x", "dataset_types.raw.extension: expected a form"),
    (("dataset_types", "raw", "extension"), ".." + "x" * 40, "dataset_types.raw.extension: expec"),
    (
        ("dataset_types", "raw", "extension"),
        "." + "x" * 40,
        "dataset_types.raw.extension: expected",
    ),
    (
        ("dimension_records", "visit"),
        [],
        "dimension_records.visit: expected one of ['band', 'expos",
    ),
    (
        ("dimension_records", "exposure"),
        {},
        "dimension_records.exposure: expected a list, found {}",
    ),
    (("dimension_records", "exposure", 0), 7, "dimension_records.exposure[0]: expected a mapping"),
    (
        ("dimension_records", "exposure", 1, "exposure"),
        "two",
        "dimension_records.exposure[1].exposure: expected int, found 'two'",
    ),
    (
        ("dimension_records", "exposure", 1),
        {"band": "r", "airmass": 1},
        "dimension_records.exposure[1]: 'exposure' is missing",
    ),
    (
        ("dimension_records", "exposure", 1, "exposure"),
        1,
        "dimension_records.exposure[1]: exposure=1 is there twice",
    ),
    (
        ("dimension_records", "exposure", 1, "airmass"),
        math.nan,
        "dimension_records.exposure[1]: expected plain values",
    ),
    (
        ("dimension_records", "exposure", 1, "date"),
        datetime.date(2026, 1, 2),
        "dimension_records.exposure[1]: expected plain values",
    ),
    (("tasks", "a b"), {}, "tasks.a b: task label: expected letters"),
    (
        ("tasks", "count", "command"),
        MISSING,
        "tasks.count: expected either 'command' or 'function'",
    ),
    (("tasks", "count", "function"), "m:f", "tasks.count: expected either 'command' or 'function'"),
    (
        ("tasks", "count", "command"),
        "cp a b",
        "tasks.count.command: expected a list, found 'cp a b",
    ),
    (
        ("tasks", "count", "command"),
        [],
        "tasks.count.command: expected a program and its arguments",
    ),
    (("tasks", "count", "command", 1), 7, "tasks.count.command[1]: expected text, found 7"),
    (("tasks", "count", "config", "x"), {1: 2}, "tasks.count.config: expected text as keys"),
    (("tasks", "count", "config"), [1], "tasks.count.config: expected a mapping"),
    (("tasks", "count", "config", "x"), math.inf, "tasks.count.config: expected plain values"),
    (
        ("tasks", "count", "config", "x"),
        datetime.date(2026, 1, 2),
        "tasks.count.config: expected plain values",
    ),
    (
        ("tasks", "count", "environment"),
        {"A": 1},
        "tasks.count.environment.A: expected text, found 1",
    ),
    (
        ("tasks", "count", "retries"),
        1,
        "tasks.count.retries: expected one of ['command', 'config',",
    ),
    (("tasks", "summarize", "function"), 7, "tasks.summarize.function: expected text, found 7"),
    (("tasks", "summarize", "function"), "write", "tasks.summarize.function: expected module:func"),
    (
        ("tasks", "summarize", "optional_inputs"),
        ["x"],
        "tasks.summarize.optional_inputs: expected one of the dataset types ['counts', 'raw', 'su",
    ),
    (
        ("tasks", "summarize", "optional_inputs"),
        [[]],
        "tasks.summarize.optional_inputs: expected o",
    ),
    (
        ("inputs", 0, "dataset_type"),
        "x",
        "inputs[0].dataset_type: expected one of the dataset types",
    ),
    (("inputs", 0, "data_id"), {}, "inputs[0].data_id: expected a data ID with dimensions ['expos"),
    (("inputs", 0, "run"), "..", "inputs[0].run: RUN '..': part '..' must begin"),
    (("inputs", 0, "key"), "../x", "inputs[0].key: key: expected a key relative to the datastore"),
    (("inputs", 0, "size_bytes"), -1, "inputs[0].size_bytes: expected a number of bytes, found -1"),
    (
        ("inputs", 0, "size_bytes"),
        "7",
        "inputs[0].size_bytes: expected a number of bytes, found '7'",
    ),
    (
        ("inputs", 0, "size_bytes"),
        True,
        "inputs[0].size_bytes: expected a number of bytes, found Tr",
    ),
    (
        ("inputs", 0, "checksum"),
        "md5:0",
        "inputs[0].checksum: expected sha256:<64 hex digits>, found",
    ),
    (("inputs", 0, "dataset_id"), "x", "inputs[0].dataset_id: expected a UUID, found 'x'"),
    (("inputs", 0, "dataset_id"), 5, "inputs[0].dataset_id: expected a UUID, found 5"),
    (("inputs", 0, "data_id", "exposure"), 2, "inputs[1]: raw (exposure=2) is there twice"),
    (("quanta",), {}, "quanta: expected a list, found {}"),
    (
        ("quanta", 1, "task"),
        "x",
        "quanta[1].task: expected one of ['count', 'summarize'], found 'x'",
    ),
    (("quanta", 1, "task"), [], "quanta[1].task: expected one of ['count', 'summarize'], found []"),
    (
        ("quanta", 1, "data_id"),
        {"visit": 1},
        "quanta[1].data_id: expected a data ID with dimensions",
    ),
    (
        ("quanta", 1, "data_id"),
        {"exposure": 1.5},
        "quanta[1].data_id.exposure: expected int, found 1",
    ),
    (
        ("quanta", 1, "data_id"),
        {"exposure": True},
        "quanta[1].data_id.exposure: expected int, found T",
    ),
    (
        ("quanta", 2, "data_id", "exposure"),
        1,
        "quanta[2]: count (exposure=1) is also quanta[1]",
    ),
    (
        ("quanta", 2, "outputs", "counts", "exposure"),
        1,
        "quanta[2].outputs.counts: counts (exposure=1) is made by two quanta",
    ),
    (
        ("quanta", 1, "outputs", "raw"),
        {"exposure": 1},
        "quanta[1].outputs.raw: raw (exposure=1) is also under 'inputs'",
    ),
    (("quanta", 1, "outputs", "x"), {}, "quanta[1].outputs.x: expected one of the dataset types"),
    (("quanta", 1, "outputs"), [1], "quanta[1].outputs: expected a mapping with text as keys"),
    (
        ("quanta", 0, "inputs", "counts", 1, "exposure"),
        7,
        "quanta[0].inputs.counts[1]: counts (exposure=7) is made by no quantum and is not und",
    ),
    (
        ("quanta", 0, "inputs", "counts", 1, "exposure"),
        1,
        "quanta[0].inputs.counts[1]: counts (exposure=1) is there twice",
    ),
    (("quanta", 0, "inputs", "counts"), 7, "quanta[0].inputs.counts: expected a list, found 7"),
    (
        ("quanta", 1, "inputs", "summary"),
        {},
        "quanta: the quanta depend on each other in a circle: ",
    ),
]


@pytest.mark.parametrize(("trail", "value", "message"), ERRORS)
def test_error_names_file_line_and_place(
    tmp_path: Path, trail: tuple[str | int, ...], value: object, message: str
) -> None:
    path = write(tmp_path / "graph.yaml", document_with(*trail, value=value))
    with pytest.raises(GraphError) as caught:
        read_graph_file(path)
    where, line, told = str(caught.value).split(":", 2)
    assert where == str(path)
    assert told[1:].startswith(message)
    assert 1 <= int(line) <= len(path.read_text().splitlines())


def test_line_is_that_of_the_value(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    text = yaml.safe_dump(make_document(), sort_keys=False)
    path.write_text(text.replace("extension: .txt", "extension: txt"))
    line = 1 + path.read_text().splitlines().index("    extension: txt")
    with pytest.raises(GraphError, match=rf"graph\.yaml:{line}: dataset_types\.raw\.extension: "):
        read_graph_file(path)


def test_quantum_may_not_read_what_it_makes(tmp_path: Path) -> None:
    document = document_with("quanta", 1, "inputs", "counts", value={"exposure": 1})
    with pytest.raises(
        GraphError, match=r"in a circle: count \(exposure=1\) → count \(exposure=1\)"
    ):
        read(tmp_path, document)


def test_key_longer_than_s3_allows_is_refused(tmp_path: Path) -> None:
    document = make_document()
    document["run"] = "/".join(["x" * 100] * 10)
    with pytest.raises(GraphError, match=r"outputs\.summary: .* longer than the 1024 bytes"):
        read(tmp_path, document)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, 0, -1, 1.5, math.nan, "", "raw", "exposure", "x", b"\xff"])
    | st.sampled_from([datetime.date(2026, 1, 2), "counts", "../x", {}, []]),
    lambda children: (
        st.lists(children, max_size=2)
        | st.dictionaries(st.sampled_from(["raw", "exposure", "x"]) | st.integers(0, 1), children)
    ),
    max_leaves=4,
)


def places(value: object, trail: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The trails of all values in a document."""
    steps: Any = value.items() if isinstance(value, dict) else []
    steps = enumerate(value) if isinstance(value, list) else steps
    return [trail, *(t for step, inner in steps for t in places(inner, (*trail, step)))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(st.sampled_from(places(make_document())[1:]), VALUES)
def test_any_value_at_any_place_is_read_or_refused(
    tmp_path: Path, trail: tuple[str | int, ...], value: object
) -> None:
    try:
        graph = read(tmp_path, document_with(*trail, value=value))
    except GraphError as error:
        assert str(error).startswith(f"{tmp_path / 'graph.yaml'}:")
        return
    for quantum in graph.quanta:
        assert read_job(write_job(graph.job_of(quantum)), "job") == graph.job_of(quantum)
