# SPDX-License-Identifier: BSD-3-Clause
"""A RUN as the datastore alone tells it: its predicted quanta, their jobs and how they stand."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

import msgspec

from executor.submit.derived_outputs import agreed_types, has_derived_outputs
from executor.submit.standings import delta_keys, standings_among
from registry import names
from registry.delta import Delta, read_delta
from registry.errors import FormatError, InvalidNameError, QuantumExecError
from registry.graph_record import (
    GraphRecord,
    PredictedQuantum,
    predicted_quanta_lines,
    read_graph_record,
    read_predicted_quanta,
)
from registry.job import Job, read_job
from registry.model import DatasetType
from registry.prediction import UnknownGraphError, UnpredictedDeltaError, check_predicted
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.deltas import IsTrusted, Standing, trusting
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore
from transfer_plugins.s3_bulk_reading import for_bulk_reading

JOB_ERRORS = (ObjectNotFoundError, FormatError, InvalidNameError)
"""Of a job file that is gone or damaged; the datastore itself is well."""

_log = logging.getLogger(__name__)
# 1,000,000 quanta in seconds; the reader of the standard library takes two minutes.
_decoder = msgspec.json.Decoder(PredictedQuantum)


class RunNotFoundError(QuantumExecError):
    """The datastore has no graph record of the RUN; check the names of both."""

    error_type = "run_not_found"


@dataclass(frozen=True)
class BucketRun:
    """What the datastore held of a RUN when it was read; jobs are read when they are wanted."""

    store: ObjectStore
    run: str
    records: dict[str, GraphRecord]
    """By graph id; more than one if the RUN was extended."""
    graphs: dict[str, dict[str, PredictedQuantum]]
    """What each of them predicts, by graph id and quantum id."""
    quanta: dict[str, PredictedQuantum]
    """All of it: what either of two graphs predicts of the same quantum."""
    delta_keys: dict[str, list[str]]

    def job_of(self, quantum_id: str) -> Job:
        """The job as it was published; raises `TransferError` or `FormatError`."""
        key = names.job_key(self.run, quantum_id)
        return read_job(self.store.get(key), f"job file {self.store.uri}/{key}")

    @cached_property
    def _types(self) -> dict[str, DatasetType]:
        return agreed_types(self.records.values())

    def rule_of(self, quantum_id: str) -> IsTrusted:
        """The rule by which deltas of a quantum count: that of workers, who have the job.

        It is read only where type, data ID and path of an output do not follow from what the
        datastore's list of quanta tells.
        """

        def is_trusted(delta: Delta) -> bool:
            if has_derived_outputs(delta, self._types):
                return self._is_predicted(delta)
            try:
                job = self.job_of(quantum_id)
            except JOB_ERRORS as error:
                _log.warning("quantum %s: %s", quantum_id, error)
                return self._is_predicted(delta)
            return trusting(self.store, job, self.run, job.graph_id)(delta)

        return is_trusted

    def _is_predicted(self, delta: Delta) -> bool:
        """The rule without the job: what the merger knows."""
        record = self.records.get(delta.graph_id)
        quantum = self.graphs.get(delta.graph_id, {}).get(delta.quantum_id)
        key = names.delta_key(self.run, delta.quantum_id, delta.attempt_id)
        try:
            if record is None or quantum is None:
                raise UnknownGraphError(
                    f"delta {key!r}: expected a graph of RUN {self.run!r} that has its quantum, "
                    f"found {delta.graph_id!r}"
                )
            check_predicted(
                delta,
                key,
                task_label=quantum.task_label,
                data_id=quantum.data_id,
                outputs=quantum.outputs,
                dataset_types={kind.name for kind in record.dataset_types},
            )
        except UnpredictedDeltaError as error:
            _log.warning("%s; it does not count", error)
            return False
        return True

    def graph_of(self, quantum_id: str) -> str:
        """The graph that the job of a quantum belongs to; raises as `job_of`."""
        found = [g for g, quanta in self.graphs.items() if quantum_id in quanta]
        return found[0] if len(found) == 1 else self.job_of(quantum_id).graph_id

    def standings(self, quantum_ids: Iterable[str]) -> dict[str, Standing]:
        """How some quanta stood; their deltas are read for it."""
        return standings_among(self.store, self.delta_keys, quantum_ids, self.rule_of)

    def newest_delta(self, quantum_id: str) -> Delta | None:
        """The newest delta of a quantum that can be read, whatever its status."""
        for key in sorted(self.delta_keys.get(quantum_id, []), reverse=True):
            try:
                return read_delta(self.store.get(key), key)
            except FormatError as error:
                _log.warning("%s", error)
        return None

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for quantum in self.quanta.values():
            for parent in quantum.parents:
                found.setdefault(parent, []).append(quantum.quantum_id)
        return found

    def children_of(self, quantum_ids: Iterable[str]) -> list[str]:
        """Ids of the quanta that read outputs of some others, each once."""
        return list(dict.fromkeys(c for q in quantum_ids for c in self._children.get(q, [])))

    def with_downstream(self, quantum_ids: Collection[str]) -> list[str]:
        """Some quanta and all that depend on them, directly or through others."""
        found = dict.fromkeys(quantum_ids)
        waiting = list(quantum_ids)
        while waiting:
            new = [c for c in self._children.get(waiting.pop(), []) if c not in found]
            found.update(dict.fromkeys(new))
            waiting += new
        return list(found)


def read_bucket_run(store: ObjectStore, run: str) -> BucketRun:
    """Read what the datastore has of a RUN.

    Raises
    ------
    RunNotFoundError
        If there is no graph record.
    registry.errors.FormatError
        If one is damaged or of a newer release.
    transfer_plugins.object_store.TransferError
    """
    names.check_run(run)
    store, prefix = for_bulk_reading(store), names.graph_prefix(run)
    records: dict[str, GraphRecord] = {}
    graphs: dict[str, dict[str, PredictedQuantum]] = {}
    for stored in store.list_objects(prefix):
        if PurePosixPath(stored.key).suffix == ".json":
            record = read_graph_record(store.get(stored.key), f"graph record {stored.key!r}")
            records[record.graph_id] = record
            found = _read_quanta(store, run, record.graph_id)
            graphs[record.graph_id] = {quantum.quantum_id: quantum for quantum in found}
    if not records:
        raise RunNotFoundError(
            f"RUN {run!r}: expected a graph record below {store.uri}/{prefix}, found none; "
            "check the names of datastore and RUN"
        )
    quanta: dict[str, PredictedQuantum] = {}
    for of_graph in graphs.values():
        quanta.update({q: _joined(quanta.get(q), found) for q, found in of_graph.items()})
    return BucketRun(store, run, records, graphs, quanta, delta_keys(store, run))


def _joined(known: PredictedQuantum | None, found: PredictedQuantum) -> PredictedQuantum:
    """A quantum that two graphs of a RUN have may make what either predicts."""
    if known is None:
        return found
    return replace(
        found,
        outputs=list(dict.fromkeys([*known.outputs, *found.outputs])),
        parents=list(dict.fromkeys([*known.parents, *found.parents])),
    )


def _read_quanta(store: ObjectStore, run: str, graph_id: str) -> list[PredictedQuantum]:
    key = names.predicted_quanta_key(run, graph_id)
    content, what = store.get(key), f"predicted quanta {key!r}"
    lines = predicted_quanta_lines(content, what)
    try:
        quanta = _decoder.decode_lines(b"\n".join(lines))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # The slower reader names the line.
        quanta = list(read_predicted_quanta(content, what))
    # Releases before 0.2 wrote no parents: there only the jobs tell who reads of whom.
    if lines and b'"parents":' not in lines[0]:
        return map_concurrently(lambda quantum: _with_parents(store, run, quantum), quanta)
    return quanta


def _with_parents(store: ObjectStore, run: str, quantum: PredictedQuantum) -> PredictedQuantum:
    key = names.job_key(run, quantum.quantum_id)
    job = read_job(store.get(key), f"job file {store.uri}/{key}")
    parents = {i.producer for i in job.inputs if i.producer and i.run == run}
    return replace(quantum, parents=sorted(parents))
