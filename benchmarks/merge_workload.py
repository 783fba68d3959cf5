# SPDX-License-Identifier: BSD-3-Clause
"""Deltas of a large run: HSC-RC2 tract 9615 as DMTN-137 tells of it.

27,075 quanta, 74,360 datasets of 11 types, 216,600 inputs, of which 108,108 raw. A workload of
more or fewer quanta has the same proportions. Everything is written by the real code, in two
processes: it takes a third of a millisecond for each delta.
"""

import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from registry import names
from registry.attempt import AttemptStatus
from registry.delta import (
    DELTA_FORMAT,
    AddedRows,
    DatasetRow,
    DatastoreRow,
    Delta,
    LogEntry,
    MetricRow,
    ReadInput,
    ResourceUse,
    write_delta,
)
from registry.graph_record import (
    GRAPH_RECORD_FORMAT,
    GraphRecord,
    PredictedQuantum,
    write_graph_record,
    write_predicted_quanta,
)
from registry.job import ResourceRequest
from registry.model import DataId, DatasetType, derived_id
from transfer_plugins.object_store import DirectoryObjectStore

N_QUANTA, N_DATASETS, N_RAW, N_INPUTS = 27_075, 74_360, 108_108, 216_600
RUN = "HSC/runs/RC2/benchmark"
TYPES = [
    DatasetType(name, ["instrument", "visit", "detector"], "Fits", ".fits")
    for name in (
        *("postISRCCD", "icExp", "icSrc", "calexp", "src", "srcMatch", "skyCorr"),
        *("calexp_camera", "deepCoadd_warp", "deepCoadd", "deepCoadd_meas"),
    )
]
VERSIONS = {name: "1.2.3" for name in ("python", "quantum-exec", "numpy", "astropy", "pipelines")}
VERSIONS["platform"] = "Linux-6.12.41-amd64-x86_64-with-glibc2.41"
STEPS = list(enumerate(("staged_in", "registry_seeded", "task_began", "task_ended", "recorded")))


ONE_IN = 50
"""So many deltas to one that is damaged, or in conflict."""

_WRITTEN_AT_ONCE = 2500
_LAST_MADE = 3000


@dataclass(frozen=True)
class Workload:
    """Deltas of a run of this many quanta, in a directory.

    Attributes
    ----------
    are_damaged
        One in fifty is cut short.
    are_in_conflict
        One in fifty claims the data ID of a dataset of the quantum before.
    """

    n_quanta: int
    run: str = RUN
    are_damaged: bool = False
    are_in_conflict: bool = False

    @property
    def graph_id(self) -> str:
        """Id of the graph."""
        return derived_id(self.run, "graph")

    def write(self, directory: Path) -> None:
        """Write graph record and deltas; without syncing, which nothing here depends on."""
        (directory / names.delta_prefix(self.run)).mkdir(parents=True)
        starts = range(0, self.n_quanta, _WRITTEN_AT_ONCE)
        # Not forked: a child's peak of memory would begin at what this process has.
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            parts = pool.map(partial(self._write_part, directory), starts)
            quanta = list(chain.from_iterable(parts))
        record = GraphRecord(
            GRAPH_RECORD_FORMAT, self.graph_id, "benchmark", self.run, TYPES, [], len(quanta)
        )
        store = DirectoryObjectStore(directory)
        key = names.predicted_quanta_key(self.run, self.graph_id)
        store.put(key, write_predicted_quanta(quanta))
        store.put(names.graph_record_key(self.run, self.graph_id), write_graph_record(record))

    def _write_part(self, directory: Path, start: int) -> list[PredictedQuantum]:
        quanta = []
        for number, delta in self._deltas(start, min(start + _WRITTEN_AT_ONCE, self.n_quanta)):
            content = write_delta(delta)
            if self.are_damaged and number % ONE_IN == 0:
                content = content[:-100]
            key = names.delta_key(self.run, delta.quantum_id, delta.attempt_id)
            (directory / key).write_bytes(content)
            outputs = [row.dataset_id for row in delta.rows.dataset]
            quanta.append(
                PredictedQuantum(delta.quantum_id, delta.task_label, delta.data_id, outputs)
            )
        return quanta

    def _deltas(self, start: int, stop: int) -> Iterator[tuple[int, Delta]]:
        """Give deltas with their numbers; made from some before on, whose outputs are read."""
        made: list[ReadInput] = []
        before: DatasetRow | None = None
        for number in range(max(0, start - _LAST_MADE // 2), stop):
            delta = _make_delta(self.run, number, made)
            made += [
                ReadInput(r.dataset_id, delta.attempt_id, r.object_key, r.size_bytes, r.checksum)
                for r in delta.rows.datastore_record
            ]
            del made[:-_LAST_MADE]
            rows = delta.rows.dataset
            if self.are_in_conflict and number % ONE_IN == ONE_IN - 1 and rows and before:
                claimed = replace(rows[0], dataset_type=before.dataset_type, data_id=before.data_id)
                delta = replace(delta, rows=replace(delta.rows, dataset=[claimed, *rows[1:]]))
            before = rows[0] if rows else None
            if number >= start:
                yield number, delta


def _make_delta(run: str, number: int, made: list[ReadInput]) -> Delta:
    data_id: DataId = {
        "instrument": "HSC",
        "visit": 1200 + 2 * (number // 103),
        "detector": number % 103,
    }
    quantum_id = derived_id(run, "quantum", number)
    value = (1_760_000_000_000 + number * 7) << 80 | 0x7 << 76 | 0x2 << 62
    attempt_id = str(uuid.UUID(int=value | uuid.UUID(quantum_id).int & 0x3FFFFFFFFFFFFFFF))
    n_outputs = _share(number, N_DATASETS)
    outputs = [_output(run, number, place, data_id, attempt_id) for place in range(n_outputs)]
    n_raw, n_inputs = _share(number, N_RAW), _share(number, N_INPUTS)
    # Inputs made in the RUN come from the last few thousand datasets, as tasks follow each other.
    window = made[-_LAST_MADE::375][: n_inputs - n_raw]
    return Delta(
        format=DELTA_FORMAT,
        graph_id=derived_id(run, "graph"),
        run=run,
        quantum_id=quantum_id,
        task_label=TYPES[number % 6].name + "Task",
        data_id=data_id,
        attempt_id=attempt_id,
        status=AttemptStatus.SUCCESSFUL,
        no_work=False,
        started="2026-01-02T03:04:05.000006+00:00",
        finished="2026-01-02T03:05:05.250000+00:00",
        host=f"node{number % 37:03}.example.org",
        resources=ResourceUse(
            60.25 + number % 9, 55.5, 1.75, 1_234_567_890, 54_000_000, 24_000_000, 2**27
        ),
        exit_code=0,
        signal=None,
        error=None,
        log_key=names.log_key(run, quantum_id, attempt_id),
        inputs=[_raw_input(number * 4 + place) for place in range(n_raw)] + window,
        rows=AddedRows(
            dataset=[row for row, _ in outputs],
            datastore_record=[record for _, record in outputs],
            metric=[MetricRow("n_sources", float(number % 5000))],
        ),
        requested=ResourceRequest(cpus=1, memory_mib=4096, wall_s=7200.0),
        versions=VERSIONS,
        wrapper_log=[LogEntry(place * 0.125, step, {"n": place}) for place, step in STEPS],
    )


def _share(number: int, total: int) -> int:
    """How many of ``total`` things this quantum has, if they are spread evenly."""
    return total * (number + 1) // N_QUANTA - total * number // N_QUANTA


def _output(
    run: str, number: int, place: int, data_id: DataId, attempt_id: str
) -> tuple[DatasetRow, DatastoreRow]:
    kind = TYPES[(number + place * 4) % len(TYPES)]
    dataset_id = derived_id(run, kind.name, number)
    path = names.dataset_path(run, kind.name, data_id, kind.extension)
    record = DatastoreRow(
        dataset_id=dataset_id,
        object_key=names.dataset_key(path, kind.extension, attempt_id),
        size_bytes=8_000_000 + number,
        checksum=f"sha256:{number * 11 + place:064x}",
        storage_class=kind.storage_class,
    )
    return DatasetRow(dataset_id, kind.name, data_id), record


def _raw_input(number: int) -> ReadInput:
    return ReadInput(
        dataset_id=derived_id("raw", number),
        attempt_id=None,
        key=f"HSC/raw/all/{number // 103}/{number % 103}/raw_{number}.fits",
        size_bytes=18_000_000,
        checksum=f"sha256:{number:064x}",
    )
