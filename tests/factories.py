# SPDX-License-Identifier: BSD-3-Clause
"""Valid graphs, jobs and deltas; a test overrides the one thing that it is about."""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry import names, typed_json
from registry.attempt import AttemptStatus
from registry.delta import (
    ADDED_LATER,
    DELTA_FORMAT,
    AddedRows,
    DatasetRow,
    DatastoreRow,
    Delta,
    LogEntry,
    MetricRow,
    ReadInput,
    ResourceUse,
    delta_body,
    write_delta,
)
from registry.graph_record import (
    GRAPH_RECORD_FORMAT,
    GraphRecord,
    PredictedQuantum,
    write_graph_record,
    write_predicted_quanta,
)
from registry.job import JOB_FORMAT, Job, PredictedOutput, ResourceRequest, TaskCall
from registry.model import DatasetType, DimensionRecord, derived_id
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import ObjectStore

RUN = "u/tester/night1"
TYPES = [
    DatasetType("image", ["exposure", "detector"], "Fits", ".fits"),
    DatasetType("catalog", ["exposure", "detector"], "Parquet", ".parquet"),
]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph record with its quanta, and all outputs by id."""

    record: GraphRecord
    quanta: list[PredictedQuantum]
    outputs: dict[str, DatasetRow]

    @property
    def run(self) -> str:
        """RUN that the graph writes into."""
        return self.record.run


def make_graph(
    n_quanta: int = 3,
    *,
    run: str = RUN,
    name: str = "survey",
    types: Sequence[DatasetType] = TYPES,
    dimension_records: Sequence[DimensionRecord] = (),
) -> Graph:
    """Make a graph; quantum ``i`` makes one dataset of each type for exposure ``i``.

    Ids follow from RUN and name, so that graphs of two names meet in type and data ID only.
    """
    outputs, quanta = {}, []
    for number in range(n_quanta):
        data_id: dict[str, str | int] = {"exposure": number, "detector": 1}
        rows = [
            DatasetRow(derived_id(run, name, t.name, number), t.name, dict(data_id)) for t in types
        ]
        outputs.update({row.dataset_id: row for row in rows})
        quanta.append(
            PredictedQuantum(
                quantum_id=derived_id(run, name, "quantum", number),
                task_label="calibrate",
                data_id=data_id,
                outputs=[row.dataset_id for row in rows],
            )
        )
    record = GraphRecord(
        format=GRAPH_RECORD_FORMAT,
        graph_id=derived_id(run, name),
        name=name,
        run=run,
        dataset_types=list(types),
        dimension_records=list(dimension_records),
        n_quanta=n_quanta,
    )
    return Graph(record, quanta, outputs)


def publish(store: ObjectStore, graph: Graph) -> None:
    """Write a graph's records where a merger looks for them."""
    graph_id = graph.record.graph_id
    store.put(names.predicted_quanta_key(graph.run, graph_id), write_predicted_quanta(graph.quanta))
    store.put(names.graph_record_key(graph.run, graph_id), write_graph_record(graph.record))


def attempt(number: int) -> str:
    """Return the attempt id with this place in time: higher numbers are newer."""
    value = (1_700_000_000_000 + number) << 80 | 0x7 << 76 | 0x2 << 62 | number
    return str(uuid.UUID(int=value))


def make_delta(graph: Graph, quantum: int = 0, number: int = 1, **overrides: Any) -> Delta:
    """Make the delta of an attempt at a quantum, successful unless ``status`` says otherwise.

    Parameters
    ----------
    number
        Place of the attempt in time.
    overrides
        Fields of `Delta`, or of `AddedRows`.
    """
    predicted = graph.quanta[quantum]
    attempt_id = overrides.get("attempt_id", attempt(number))
    is_successful = overrides.get("status", AttemptStatus.SUCCESSFUL) is AttemptStatus.SUCCESSFUL
    rows = make_rows(graph, predicted, attempt_id) if is_successful else AddedRows()
    of_rows = {f.name for f in dataclasses.fields(AddedRows)} & overrides.keys()
    rows = dataclasses.replace(rows, **{name: overrides.pop(name) for name in of_rows})
    delta = Delta(
        format=DELTA_FORMAT,
        graph_id=graph.record.graph_id,
        run=graph.run,
        quantum_id=predicted.quantum_id,
        task_label=predicted.task_label,
        data_id=predicted.data_id,
        attempt_id=attempt_id,
        status=AttemptStatus.SUCCESSFUL,
        no_work=False,
        started="2026-01-02T03:04:05.000006+00:00",
        finished="2026-01-02T03:05:05.250000+00:00",
        host="worker-7",
        resources=ResourceUse(60.25, 55.5, 1.75, 123_456_789, 2**33, 4096, 512),
        exit_code=0 if is_successful else 1,
        signal=None,
        error=None if is_successful else "the task ended with exit code 1",
        log_key=names.log_key(graph.run, predicted.quantum_id, attempt_id),
        inputs=[make_input(graph, quantum)],
        rows=rows,
        requested=ResourceRequest(cpus=4, memory_mib=2048, wall_s=3600.0),
        versions={"python": "3.13.1", "quantum-exec": "0.1.0"},
        wrapper_log=[LogEntry(0.125, "staged_in", {"n_inputs": 1})],
    )
    return dataclasses.replace(delta, **overrides)


def make_rows(graph: Graph, predicted: PredictedQuantum, attempt_id: str) -> AddedRows:
    """Make the rows of a success: every predicted output, and a metric."""
    datasets = [graph.outputs[output] for output in predicted.outputs]
    return AddedRows(
        dataset=datasets,
        datastore_record=[make_record(graph, row, attempt_id) for row in datasets],
        metric=[MetricRow("n_stars", 42.0)],
    )


def make_record(graph: Graph, row: DatasetRow, attempt_id: str) -> DatastoreRow:
    """Make the datastore record of a dataset, fitting what `put_objects` writes."""
    kind = next(t for t in graph.record.dataset_types if t.name == row.dataset_type)
    path = names.dataset_path(graph.run, row.dataset_type, row.data_id, kind.extension)
    content = object_content(row.dataset_id, attempt_id)
    return DatastoreRow(
        dataset_id=row.dataset_id,
        object_key=names.dataset_key(path, kind.extension, attempt_id),
        size_bytes=len(content),
        checksum=checksum_of_bytes(content),
        storage_class=kind.storage_class,
    )


def object_content(dataset_id: str, attempt_id: str) -> bytes:
    """Return the bytes of a dataset: other ones from every attempt."""
    return f"{dataset_id} as attempt {attempt_id} made it\n".encode()


def make_input(graph: Graph, number: int = 0) -> ReadInput:
    """Make a raw input from outside the RUN."""
    return ReadInput(
        dataset_id=derived_id("raw", number),
        attempt_id=None,
        key=f"raw/{number}.fits",
        size_bytes=1000 + number,
        checksum=checksum_of_bytes(f"raw {number}".encode()),
    )


def put_delta(store: ObjectStore, delta: Delta, content: bytes | None = None) -> str:
    """Write a delta, or other bytes in its place, and return its key."""
    key = names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)
    store.put(key, write_delta(delta) if content is None else content)
    return key


def in_format(delta_format: int, delta: Delta) -> bytes:
    """Return the bytes of a delta as releases with an older format wrote it."""
    body = json.loads(delta_body(write_delta(delta))) | {"format": delta_format}
    for cls, place in ((Delta, body), (ResourceUse, body["resources"])):
        for name, since in ADDED_LATER[cls].items():
            if since > delta_format:
                del place[name]
    return framed(typed_json.encode(body)[1:].encode())


def without_record(delta: Delta, *dataset_ids: str) -> Delta:
    """Return a delta that has not kept some of its datasets: all, if none is named."""
    rows = delta.rows
    not_kept = list(dataset_ids) or [row.dataset_id for row in rows.dataset]
    records = [row for row in rows.datastore_record if row.dataset_id not in not_kept]
    rows = dataclasses.replace(rows, datastore_record=records)
    return dataclasses.replace(delta, rows=rows, not_kept=not_kept)


def framed(body: bytes) -> bytes:
    """Return a body of a delta, from its format on, behind the checksum that it has."""
    return b'{"checksum":"sha256:%s",' % hashlib.sha256(body).hexdigest().encode() + body


def put_objects(store: ObjectStore, delta: Delta) -> None:
    """Write the objects that a delta names."""
    for record in delta.rows.datastore_record:
        store.put(record.object_key, object_content(record.dataset_id, delta.attempt_id))


def publish_deltas(store: ObjectStore, n_deltas: int) -> Graph:
    """Publish a graph of so many quanta, each with a delta; thirds of them in formats 1 and 2."""
    graph = make_graph(n_deltas)
    publish(store, graph)
    for number in range(n_deltas):
        delta = make_delta(graph, number, number + 1)
        put_objects(store, delta)
        put_delta(store, delta, in_format(number % 3, delta) if number % 3 else None)
    return graph


def make_job(graph: Graph, quantum: int = 0, **overrides: Any) -> Job:
    """Make the job of a quantum."""
    predicted = graph.quanta[quantum]
    extensions = {t.name: t.extension for t in graph.record.dataset_types}
    outputs = [
        PredictedOutput(
            dataset_id=row.dataset_id,
            dataset_type=row.dataset_type,
            data_id=row.data_id,
            path=names.dataset_path(
                graph.run, row.dataset_type, row.data_id, extensions[row.dataset_type]
            ),
        )
        for row in (graph.outputs[output] for output in predicted.outputs)
    ]
    job = Job(
        format=JOB_FORMAT,
        graph_id=graph.record.graph_id,
        run=graph.run,
        quantum_id=predicted.quantum_id,
        task_label=predicted.task_label,
        data_id=predicted.data_id,
        task=TaskCall(command=["true"]),
        dataset_types=list(graph.record.dataset_types),
        inputs=[],
        outputs=outputs,
    )
    return dataclasses.replace(job, **overrides)
