# SPDX-License-Identifier: BSD-3-Clause
"""Quanta of a RUN once more in a scratch RUN, each with exactly the inputs that it read before."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from executor.submit.bucket_run import BucketRun, read_bucket_run
from executor.submit.plan import Plan, labels_of
from executor.submit.publish import OtherGraphError
from executor.submit.rerun import JobOf, Rerun, plan_of_bucket, producers_in_bucket
from registry import names
from registry.delta import Delta, ReadInput
from registry.errors import QuantumExecError
from registry.graph_record import (
    GRAPH_RECORD_FORMAT,
    GraphRecord,
    PredictedQuantum,
    read_graph_record,
    write_graph_record,
    write_predicted_quanta,
)
from registry.job import JOB_FORMAT, Job, PredictedInput, PredictedOutput, write_job
from registry.model import DatasetType, DimensionRecord, derived_id, format_data_id
from registry.typed_json import canonical
from transfer_plugins.concurrency import map_concurrently


class ScratchRunError(QuantumExecError):
    """A RUN cannot serve as scratch RUN, or a quantum cannot be repeated there."""

    error_type = "scratch_run"


@dataclass(frozen=True)
class _Repetition:
    """What publishing keeps of a job in the scratch RUN."""

    quantum: PredictedQuantum
    dataset_types: list[DatasetType]
    dimension_records: list[DimensionRecord]


def default_scratch_run(run: str) -> str:
    """Name a new scratch RUN.

    Beside the RUN and not below it, where ``registry-merge verify`` would take its objects for
    orphans of the RUN.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return names.check_run(f"{run}-rerun/{stamp}")


def plan_scratch(bucket: BucketRun, quantum_ids: list[str], into: str, job_of: JobOf) -> Rerun:
    """Plan the repetition of some quanta without publishing anything; its jobs cannot be had.

    Raises
    ------
    ScratchRunError, OtherGraphError, InvalidNameError
        If the RUN cannot be used.
    """
    _check_scratch(bucket, into)
    again = producers_in_bucket(bucket, quantum_ids, job_of)
    quanta = {}
    originals = {}
    for quantum_id in dict.fromkeys([*again, *quantum_ids]):
        old = bucket.quanta[quantum_id]
        new_id = _quantum_id_of(bucket, into, quantum_id)
        quanta[new_id] = PredictedQuantum(new_id, old.task_label, old.data_id, [])
        originals[new_id] = quantum_id
    plan = Plan(into, quanta, job_of, bucket.rule_of, labels_of(quanta))
    added = frozenset(_quantum_id_of(bucket, into, quantum_id) for quantum_id in again)
    return Rerun(plan, again=added, originals=originals)


def publish_scratch(bucket: BucketRun, planned: Rerun, job_of: JobOf) -> Rerun:
    """Write jobs, predicted quanta and graph record of a scratch RUN; returns what is to be run.

    Doing so again writes the same, as long as the same attempts count in the RUN.

    Raises
    ------
    QuantumExecError
        If a job cannot be read or repeated.
    """
    into, originals = planned.plan.run, planned.originals
    graph_id = derived_id("graph", into, sorted(originals))
    standings = bucket.standings(originals.values())
    made_here = {
        dataset_id: _quantum_id_of(bucket, into, quantum_id)
        for quantum_id, standing in standings.items()
        if standing.counting
        for dataset_id in standing.counting.not_kept
    }

    def publish(quantum_id: str) -> _Repetition:
        read_by = standings[quantum_id].counting or bucket.newest_delta(quantum_id)
        job = _repeat(job_of(quantum_id), read_by, into, graph_id, made_here)
        bucket.store.put(names.job_key(into, job.quantum_id), write_job(job))
        outputs = [output.dataset_id for output in job.outputs]
        parents = sorted({i.producer for i in job.inputs if i.producer and i.run == into})
        quantum = PredictedQuantum(job.quantum_id, job.task_label, job.data_id, outputs, parents)
        return _Repetition(quantum, job.dataset_types, job.dimension_records)

    found = map_concurrently(publish, originals.values())
    _put_graph(bucket, into, graph_id, found)
    # What is predicted there, and what counts, is from now on a matter of that RUN alone.
    scratch = read_bucket_run(bucket.store, into)
    plan = plan_of_bucket(scratch, originals, scratch.job_of)
    return replace(planned, plan=plan)


def _check_scratch(bucket: BucketRun, into: str) -> None:
    names.check_run(into)
    if into == bucket.run:
        raise ScratchRunError(f"--into: expected another RUN than {into!r}; see --replace")
    for stored in bucket.store.list_objects(names.graph_prefix(into)):
        if stored.key.endswith(".json"):
            record = read_graph_record(bucket.store.get(stored.key), f"graph record {stored.key!r}")
            if record.name != _graph_name(bucket.run):
                raise OtherGraphError(
                    f"RUN {into!r} in {bucket.store.uri}: expected none, or one that repeats "
                    f"quanta of RUN {bucket.run!r}; found it belongs to graph {record.graph_id} "
                    f"({record.name})"
                )


def _graph_name(run: str) -> str:
    return f"rerun of {run}"


def _quantum_id(into: str, task_label: str, data_id: Mapping[str, object]) -> str:
    """The id that the quantum would have if its graph were made for the scratch RUN."""
    return derived_id("quantum", into, task_label, data_id)


def _quantum_id_of(bucket: BucketRun, into: str, quantum_id: str) -> str:
    old = bucket.quanta[quantum_id]
    return _quantum_id(into, old.task_label, old.data_id)


def _repeat(
    job: Job, read_by: Delta | None, into: str, graph_id: str, made_here: Mapping[str, str]
) -> Job:
    """The job of a quantum with other ids and paths, and with its inputs as they were read.

    Of those that were not kept ``made_here`` has the quanta that make them in the scratch RUN.
    """
    inputs = job.inputs
    if read_by is not None:
        read = {found.dataset_id: found for found in read_by.inputs}
        inputs = [
            i if i.dataset_id in made_here else _as_read(i, read.get(i.dataset_id)) for i in inputs
        ]
    inputs = [_made_here(i, made_here, job.run, into) for i in inputs]
    return replace(
        job,
        format=JOB_FORMAT,
        graph_id=graph_id,
        run=into,
        quantum_id=_quantum_id(into, job.task_label, job.data_id),
        inputs=inputs,
        outputs=[_moved(output, job, into) for output in job.outputs],
        replaces=None,
    )


def _as_read(predicted: PredictedInput, read: ReadInput | None) -> PredictedInput:
    """An input by the key, size and checksum with which an attempt had it.

    One that was missing stays as it was predicted, so that it is missing again.
    """
    if read is None:
        return predicted
    return replace(
        predicted,
        producer=None,
        key=read.key,
        size_bytes=read.size_bytes,
        checksum=read.checksum,
    )


def _made_here(
    predicted: PredictedInput, made_here: Mapping[str, str], run: str, into: str
) -> PredictedInput:
    if predicted.dataset_id not in made_here:
        return predicted
    return replace(
        predicted,
        dataset_id=derived_id("dataset", into, predicted.dataset_type, predicted.data_id),
        run=into,
        path=into + predicted.path.removeprefix(run),
        producer=made_here[predicted.dataset_id],
    )


def _moved(output: PredictedOutput, job: Job, into: str) -> PredictedOutput:
    if not output.path.startswith(f"{job.run}/"):
        raise ScratchRunError(
            f"quantum {job.quantum_id} ({job.task_label}, {format_data_id(job.data_id)}): expected "
            f"the path of {output.dataset_type} below {job.run!r}, found {output.path!r}"
        )
    return replace(
        output,
        dataset_id=derived_id("dataset", into, output.dataset_type, output.data_id),
        path=into + output.path.removeprefix(job.run),
    )


def _put_graph(
    bucket: BucketRun, into: str, graph_id: str, repetitions: Iterable[_Repetition]
) -> None:
    found = list(repetitions)
    types = {kind.name: kind for r in found for kind in r.dataset_types}
    records = {
        (row.dimension, canonical(row.data_id)): row for r in found for row in r.dimension_records
    }
    record = GraphRecord(
        GRAPH_RECORD_FORMAT,
        graph_id,
        _graph_name(bucket.run),
        into,
        list(types.values()),
        list(records.values()),
        len(found),
    )
    predicted = write_predicted_quanta(r.quantum for r in found)
    bucket.store.put(names.predicted_quanta_key(into, graph_id), predicted)
    bucket.store.put(names.graph_record_key(into, graph_id), write_graph_record(record))
