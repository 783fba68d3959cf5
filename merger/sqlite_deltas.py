# SPDX-License-Identifier: BSD-3-Clause
"""Attempts of a whole repository in SQLite, as the deltas that they were merged from.

So they go by the rules of a merge: the ledger decides who is merged, newer attempts supersede, and
conflicts follow from content. All tables are read side by side in the order of attempt ids.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from merger.delta_checks import GoodDelta
from merger.sqlite_rows import RegistryTables, Row
from merger.sqlite_source import SqliteSource, SqliteSourceError
from registry import typed_json
from registry.attempt import AttemptStatus
from registry.delta import (
    DELTA_FORMAT,
    AddedRows,
    DatasetRow,
    DatastoreRow,
    Delta,
    MetricRow,
    ReadInput,
    ResourceUse,
)
from registry.errors import FormatError
from registry.job import ResourceRequest
from registry.model import DimensionRecord
from registry.names import delta_key

_BATCH = 1000
_BY_ATTEMPT = "ORDER BY attempt_id"
_RESOURCES = ("wall_s", "cpu_user_s", "cpu_system_s", "max_rss_bytes")
_NO_RECORD: Row = {"object_key": None, "size_bytes": None, "checksum": None}
_SINCE_FORMAT_2 = ("read_bytes", "write_bytes", "scratch_bytes")
NOT_FORGOTTEN = "attempt_id IN (SELECT attempt_id FROM attempt)"
"""Attempts of the file's ledger whose rows are there: those of the others were taken out."""


class _Followed:
    """Rows in the order of attempt ids, given attempt by attempt."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._row = next(rows, None)

    def of(self, attempt_id: str) -> list[Row]:
        """Return the rows of an attempt; attempts have to be asked for in their order."""
        found = []
        while self._row is not None and (self._row["attempt_id"] or "") <= attempt_id:
            if self._row["attempt_id"] == attempt_id:
                found.append(self._row)
            self._row = next(self._rows, None)
        return found


class FileLedger:
    """The attempts that the ledger of a file has; empty if there is no ledger."""

    def __init__(self, source: SqliteSource, tables: RegistryTables) -> None:
        self._source, self._tables = source, tables
        self.is_there = bool(source.count("merged_attempt"))
        if self.is_there:
            source.expect_tables(["attempt", "quantum"])

    def check(self) -> None:
        """See that what is in the ledger can be made a delta.

        Raises
        ------
        SqliteSourceError
        """
        for deltas in self.batches():
            del deltas

    def batches(self) -> Iterator[list[GoodDelta]]:
        """Give the deltas of the file in the order of their attempt ids, some at a time."""
        if not self.is_there:
            return
        kept = f"WHERE {NOT_FORGOTTEN} {_BY_ATTEMPT}"
        attempts = _Followed(self._tables.rows("attempt", _BY_ATTEMPT))
        lost = f"WHERE table_name = 'dataset' AND NOT kept AND attempt_id IS NOT NULL {_BY_ATTEMPT}"
        followed = {
            name: _Followed(self._tables.rows(name, _BY_ATTEMPT))
            for name in ("quantum_input", "metric", "dimension_source", "dataset")
        } | {"merge_conflict": _Followed(self._tables.rows("merge_conflict", lost))}
        batch: list[dict[str, Any]] = []
        for ledger in self._tables.rows("merged_attempt", kept):
            (attempt,) = attempts.of(ledger["attempt_id"])
            rows = {name: those.of(ledger["attempt_id"]) for name, those in followed.items()}
            batch.append({"ledger": ledger, "attempt": attempt} | rows)
            if len(batch) == _BATCH:
                yield self._deltas(batch)
                batch = []
        if batch:
            yield self._deltas(batch)

    def _deltas(self, batch: Sequence[dict[str, Any]]) -> list[GoodDelta]:
        quanta = self._by_key("quantum", "quantum_id", {b["attempt"]["quantum_id"] for b in batch})
        datasets = {row["dataset_id"] for b in batch for row in b["dataset"]}
        records = self._by_key("datastore_record", "dataset_id", datasets)
        return [self._delta(b, quanta, records) for b in batch]

    def _by_key(self, table: str, key: str, wanted: set[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        ordered = sorted(wanted)
        for start in range(0, len(ordered), _BATCH):
            some = ordered[start : start + _BATCH]
            marks = ",".join("?" * len(some))
            rows = self._tables.rows(table, f"WHERE {key} IN ({marks})", *some)
            found |= {row[key]: row for row in rows}
        return found

    def _delta(
        self, rows: dict[str, Any], quanta: dict[str, Row], records: dict[str, Row]
    ) -> GoodDelta:
        attempt, ledger = rows["attempt"], rows["ledger"]
        quantum = quanta[attempt["quantum_id"]]
        attempt_id = attempt["attempt_id"]
        if (ledger["run"], ledger["quantum_id"]) != (quantum["run"], quantum["quantum_id"]):
            raise self._error(attempt_id, "one RUN and quantum in all tables, found several")
        if attempt["status"] not in list(AttemptStatus):
            raise self._error(attempt_id, f"a status, found {attempt['status']!r}")
        datasets = [row | records.get(row["dataset_id"], _NO_RECORD) for row in rows["dataset"]]
        datasets += _lost(rows["merge_conflict"])
        for row in datasets:
            told = [row.get(name) for name in ("object_key", "size_bytes", "checksum")]
            # None of them: what was not kept has no record.
            if None in told and any(value is not None for value in told):
                raise self._error(
                    attempt_id,
                    f"a datastore record with size and checksum for dataset {row['dataset_id']!r}",
                )
        delta = self._made(attempt, quantum, rows, datasets)
        key = delta_key(delta.run, delta.quantum_id, attempt_id)
        return GoodDelta(key, ledger["delta_checksum"], delta)

    def _made(self, attempt: Row, quantum: Row, rows: dict[str, Any], datasets: list[Row]) -> Delta:
        return Delta(
            format=DELTA_FORMAT,
            graph_id=quantum["graph_id"],
            run=quantum["run"],
            task_label=quantum["task_label"],
            data_id=json.loads(quantum["data_id"]),
            status=AttemptStatus(attempt["status"]),
            resources=ResourceUse(*(attempt[name] for name in (*_RESOURCES, *_SINCE_FORMAT_2))),
            inputs=[_input(row) for row in rows["quantum_input"]],
            rows=AddedRows(
                [
                    DatasetRow(d["dataset_id"], d["dataset_type"], json.loads(d["data_id"]))
                    for d in datasets
                ],
                [_record(d) for d in datasets if d["object_key"] is not None],
                [
                    DimensionRecord(
                        d["dimension"], json.loads(d["data_id"]), json.loads(d["record"])
                    )
                    for d in rows["dimension_source"]
                ],
                [MetricRow(m["name"], m["value"]) for m in rows["metric"]],
            ),
            requested=self._requested(attempt),
            versions=json.loads(attempt["versions"] or "{}"),
            not_kept=[d["dataset_id"] for d in datasets if d["object_key"] is None],
            **{
                name: attempt[name]
                for name in (
                    *("quantum_id", "attempt_id", "no_work", "started", "finished", "host"),
                    *("exit_code", "signal", "error", "log_key"),
                )
            },
        )

    def _requested(self, attempt: Row) -> ResourceRequest | None:
        if attempt["requested"] is None:
            return None
        try:
            return typed_json.decode(ResourceRequest, attempt["requested"], "requested")
        except FormatError as error:
            raise self._error(attempt["attempt_id"], f"a request; {error}") from error

    def _error(self, attempt_id: str, expected: str) -> SqliteSourceError:
        return SqliteSourceError(
            f"{self._source.where}, attempt {attempt_id!r}: expected {expected}"
        )


def _lost(sides: Sequence[Row]) -> list[Row]:
    """Datasets of an attempt that lost a conflict: they conflict again where they are imported."""
    contents = {row["content"]: json.loads(row["content"]) for row in sides}
    return [c | {"data_id": typed_json.canonical(c["data_id"])} for c in contents.values()]


def _input(row: Row) -> ReadInput:
    return ReadInput(
        row["dataset_id"],
        row["input_attempt_id"],
        row["object_key"],
        row["size_bytes"],
        row["checksum"],
    )


def _record(row: Row) -> DatastoreRow:
    return DatastoreRow(
        row["dataset_id"],
        row["object_key"],
        row["size_bytes"],
        row["checksum"],
        row["storage_class"],
    )


def renamed(good: GoodDelta, renames: Mapping[str, str]) -> GoodDelta:
    """Return a delta as one of a RUN with another name."""
    run = renames.get(good.delta.run, good.delta.run)
    return good if run == good.delta.run else replace(good, delta=replace(good.delta, run=run))
