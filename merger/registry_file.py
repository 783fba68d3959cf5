# SPDX-License-Identifier: BSD-3-Clause
"""What an SQLite file with our tables holds for an import, in batches."""

import json
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from merger.collation import dataset_tables
from merger.collection_chains import Chains
from merger.delta_checks import GoodDelta
from merger.outside_entries import BATCH_SIZE, OutsideBatch
from merger.sqlite_deltas import FileLedger, renamed
from merger.sqlite_rows import RegistryTables, Row
from merger.sqlite_source import SqliteSource, SqliteSourceError, quoted
from registry.errors import InvalidNameError
from registry.model import DatasetType, DimensionRecord
from registry.names import check_key
from registry.typed_json import canonical

T = TypeVar("T")

_RECORDS_AT_ONCE = 500
_KEYS = {
    "run": ("run",),
    "dataset_type": ("dataset_type",),
    "dimension_record": ("dimension", "data_id"),
    "dataset": ("dataset_id",),
    "datastore_record": ("dataset_id",),
    "merged_attempt": ("attempt_id",),
    "quantum": ("quantum_id",),
    "attempt": ("attempt_id",),
    "quantum_input": ("attempt_id", "dataset_id"),
    "metric": ("attempt_id", "name"),
    "collection_chain": ("chain", "child"),
}
_NOT_OF_ATTEMPT = "attempt_id NOT IN (SELECT attempt_id FROM merged_attempt)"
_SOURCES = (
    "SELECT 1 FROM dimension_source s WHERE s.dimension = dimension_record.dimension "
    "AND s.data_id = dimension_record.data_id"
)
_PRIVATE = ("run", "dataset_type", "dataset", "datastore_record")


class RegistryFile:
    """A private registry, or the registry of a whole repository.

    Parameters
    ----------
    renames
        New names of RUNs, by the name in the file.
    only_runs
        Names in the file; all if empty.

    Raises
    ------
    SqliteSourceError
        If it is no registry, or has no such RUN.
    """

    kind = "registry"

    def __init__(
        self, source: SqliteSource, renames: Mapping[str, str], only_runs: Collection[str]
    ) -> None:
        source.expect_tables(_PRIVATE)
        self.source, self._renames = source, renames
        self._tables = RegistryTables(source)
        self._ledger = FileLedger(source, self._tables)
        there = {row["run"] for row in self._tables.rows("run")}
        if missing := sorted({*renames, *only_runs} - there):
            raise SqliteSourceError(
                f"{source.where}: expected RUNs {sorted(there)[:20]}, found no {missing}"
            )
        self._is_whole = not only_runs
        self._runs = sorted(only_runs or there)
        new = [renames.get(run, run) for run in self._runs]
        if len(set(new)) < len(new):
            raise SqliteSourceError(f"--run: expected a name of its own for each RUN, found {new}")
        self._conditions = self._make_conditions()

    def _make_conditions(self) -> dict[str, str]:
        """Which rows of each table are imported."""
        # Names of RUNs have been checked: none has a quote.
        runs = ", ".join(f"'{run}'" for run in self._runs)
        self._of_run = f"run IN ({runs})"
        self._merged = "(NULL)"
        if self._ledger.is_there:
            self._merged = (
                f"(SELECT attempt_id FROM merged_attempt WHERE {self._of_run} "
                "AND attempt_id IN (SELECT attempt_id FROM attempt))"
            )
        of_attempt = f"attempt_id IN {self._merged}"
        of_dataset = f"dataset_id IN (SELECT dataset_id FROM dataset WHERE {self._of_run})"
        record = "true"
        if self._ledger.is_there and "dimension_source" in self.source.columns:
            record = (
                f"NOT EXISTS ({_SOURCES}) OR "
                f"EXISTS ({_SOURCES} AND ({of_attempt} OR {_NOT_OF_ATTEMPT}))"
            )
        return {
            **{"run": self._of_run, "dataset_type": "true", "dimension_record": record},
            **{"dataset": self._of_run, "datastore_record": of_dataset},
            **dict.fromkeys(("merged_attempt", "attempt", "quantum_input", "metric"), of_attempt),
            "quantum": f"quantum_id IN (SELECT quantum_id FROM attempt WHERE {of_attempt})"
            if self._ledger.is_there
            else "false",
            "collection_chain": "true" if self._is_whole else "false",
        }

    def check(self) -> None:
        """Read everything and check it; raises `SqliteSourceError` for the first bad row."""
        for name in self._tables.names:
            for _ in self._tables.rows(name):
                pass
        self._tables.check_keys()
        types = {kind.name: set(kind.dimensions) for kind in self.dataset_types()}
        for row in self._tables.rows("dataset"):
            expected = types[row["dataset_type"]]
            if expected != set(json.loads(row["data_id"])):
                raise SqliteSourceError(
                    f"{self.source.where}, table 'dataset', dataset {row['dataset_id']!r}: "
                    f"expected a data ID with {sorted(expected)}, found {row['data_id']}"
                )
        for row in self._tables.rows("datastore_record"):
            if "://" not in (key := row["object_key"]):
                try:
                    check_key(key, f"table 'datastore_record', dataset {row['dataset_id']!r}")
                except InvalidNameError as error:
                    raise SqliteSourceError(f"{self.source.where}, {error}") from error
        self._ledger.check()

    def count(self, table: str) -> int:
        """Return the number of rows in the file."""
        return self.source.count(table)

    def count_wanted(self, table: str) -> int:
        """Return the number of rows that are to be imported."""
        if not self.count(table):
            return 0
        condition = self._conditions[table]
        ((number,),) = self.source.query(f"SELECT count(*) FROM {quoted(table)} WHERE {condition}")
        return int(number)

    def notes(self) -> list[str]:
        """Tell what is left out on purpose."""
        reasons = {
            "metric": "of attempts that no ledger has: their deltas bring them",
            "merged_attempt": "forgotten, or of other RUNs",
            "collection_chain": "chains come with whole files only",
            "quarantine": "about deltas, which a merge finds again",
            "conflict_decision": "decisions are made anew",
        }
        left = {
            name: self.count(name) - (self.count_wanted(name) if name in self._conditions else 0)
            for name in reasons
        }
        return [
            f"table {name!r}: {number} rows left out ({reasons[name]})"
            for name, number in left.items()
            if number
        ]

    def runs(self) -> list[str]:
        """Return the RUNs that are imported, under their new names."""
        return [self._renames.get(run, run) for run in self._runs]

    def dataset_types(self) -> Iterator[DatasetType]:
        """Give every dataset type."""
        for row in self._tables.rows("dataset_type"):
            dimensions = json.loads(row["dimensions"])
            yield DatasetType(row["dataset_type"], dimensions, row["storage_class"], "")

    def dimension_records(self) -> Iterator[list[DimensionRecord]]:
        """Give the records that no attempt brings which is imported."""
        for batch in _batches(self._outside_records()):
            yield [
                DimensionRecord(
                    row["dimension"], json.loads(row["data_id"]), json.loads(row["record"])
                )
                for row in batch
            ]

    def _outside_records(self) -> Iterator[Row]:
        if "dimension_source" not in self.source.columns:
            yield from self._tables.rows("dimension_record")
            return
        # Those of attempts come with their attempts.
        not_of_attempt = f"WHERE {_NOT_OF_ATTEMPT}" if self._ledger.is_there else ""
        yield from self._tables.rows("dimension_source", not_of_attempt)
        yield from self._tables.rows(
            "dimension_record",
            f"WHERE NOT EXISTS ({_SOURCES})",
        )

    def outside_batches(self) -> Iterator[OutsideBatch]:
        """Give the datasets that no attempt brings which is imported, with their records.

        They keep the ids of quantum and attempt: whoever merges the delta finds them as its own.
        """
        outside = "attempt_id IS NULL"
        if self._ledger.is_there:
            outside += f" OR attempt_id NOT IN {self._merged}"
        else:
            outside = "true"
        condition = f"WHERE {self._of_run} AND ({outside}) ORDER BY rowid"
        for batch in _batches(self._tables.rows("dataset", condition)):
            yield self._encoded(batch, self._records_of(batch))

    def lost_sides(self) -> Iterator[OutsideBatch]:
        """Give the datasets from outside that lost a conflict: they conflict again."""
        condition = "WHERE table_name = 'dataset' AND NOT kept"
        if self._ledger.is_there:
            condition += f" AND (attempt_id IS NULL OR attempt_id NOT IN {self._merged})"
        contents = {row["content"] for row in self._tables.rows("merge_conflict", condition)}
        sides = [json.loads(content) for content in sorted(contents)]
        sides = [side | {"data_id": canonical(side["data_id"])} for side in sides]
        wanted = [side for side in sides if side["run"] in self._runs]
        for batch in _batches(iter(wanted)):
            made_by_nobody = [side | {"quantum_id": None, "attempt_id": None} for side in batch]
            yield self._encoded(made_by_nobody, {side["dataset_id"]: side for side in batch})

    def deltas(self) -> Iterator[list[GoodDelta]]:
        """Give the attempts that are imported, as deltas of RUNs under their new names."""
        for batch in self._ledger.batches():
            yield [renamed(good, self._renames) for good in batch if good.delta.run in self._runs]

    def chains(self) -> Chains:
        """Return the chains with their members in search order, RUNs under their new names."""
        chains: dict[str, list[str]] = {}
        if self._is_whole:
            for row in self._tables.rows("collection_chain", "ORDER BY chain, position"):
                child = self._renames.get(row["child"], row["child"])
                chains.setdefault(row["chain"], []).append(child)
        return chains

    def keys(self, table: str) -> Iterator[list[tuple[Any, ...]]]:
        """Give the keys of the rows that are imported, as the central registry has them."""
        names = _KEYS[table]
        rows = self._tables.rows(table, f"WHERE {self._conditions[table]}")
        found = (tuple(self._new_name(name, row[name]) for name in names) for row in rows)
        yield from _batches(found)

    def _new_name(self, column: str, value: Any) -> Any:
        return self._renames.get(value, value) if column in ("run", "child") else value

    def _records_of(self, batch: list[Row]) -> dict[str, Row]:
        records: dict[str, Row] = {}
        for start in range(0, len(batch), _RECORDS_AT_ONCE):
            ids = [row["dataset_id"] for row in batch[start : start + _RECORDS_AT_ONCE]]
            condition = f"WHERE dataset_id IN ({','.join('?' * len(ids))})"
            rows = self._tables.rows("datastore_record", condition, *ids)
            records |= {row["dataset_id"]: row for row in rows}
        return records

    def _encoded(self, batch: list[Row], records: Mapping[str, Row]) -> OutsideBatch:
        kept = ("dataset_id", "dataset_type", "data_id", "quantum_id", "attempt_id")
        empty = dict.fromkeys(("object_key", "size_bytes", "checksum", "storage_class"))
        sides = [
            {
                **empty,
                **records.get(row["dataset_id"], {}),
                **{name: row[name] for name in kept},
                "run": self._new_name("run", row["run"]),
            }
            for row in batch
        ]
        has_record = [side for side in sides if side["object_key"] is not None]
        return OutsideBatch.encode(
            dataset_tables(sides)["dataset"], dataset_tables(has_record)["datastore_record"]
        )


def _batches(rows: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(rows, BATCH_SIZE)):
        yield batch
