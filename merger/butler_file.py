# SPDX-License-Identifier: BSD-3-Clause
"""What the registry of an LSST Butler (``gen3.sqlite3``) holds for an import.

RUN and CHAINED collections, dataset types, datasets with the required part of their data IDs, and
the datastore records of whole datasets. Its other tables have no place here and are told.
"""

import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from merger.collation import dataset_tables
from merger.collection_chains import Chains
from merger.delta_checks import GoodDelta
from merger.outside_entries import BATCH_SIZE, OutsideBatch
from merger.sqlite_source import SqliteSource, SqliteSourceError, quoted
from registry.errors import InvalidNameError
from registry.model import DatasetType, DimensionRecord, check_identifier
from registry.names import check_key, check_run
from registry.typed_json import canonical

_RUN, _CHAINED = 1, 3
_NO_COMPONENT = "__NULL_STRING__"
_NOT_DIMENSIONS = frozenset({"dataset_type_id", "dataset_id", "collection_id"})
_HEX = re.compile(r"[0-9a-f]{32}\Z")
_NEEDED = {
    "collection": ("collection_id", "name", "type"),
    "collection_chain": ("parent", "position", "child"),
    "dataset_type": ("id", "name", "storage_class", "tag_association_table"),
    "dataset": ("id", "dataset_type_id", "run_id"),
    "file_datastore_records": ("dataset_id", "path", "storage_class", "component", "file_size"),
}
_SOURCE_OF = {"run": "collection", "datastore_record": "file_datastore_records"}


def is_butler(source: SqliteSource) -> bool:
    """Tell whether a file is the registry of a Butler."""
    return "tag_association_table" in source.columns.get("dataset_type", ())


class ButlerFile:
    """The registry of a Butler; has what `registry_file.RegistryFile` has."""

    kind = "LSST Butler"

    def __init__(
        self, source: SqliteSource, renames: Mapping[str, str], only_runs: Collection[str]
    ) -> None:
        self.source, self._renames = source, renames
        source.expect_tables(_NEEDED)
        for table, columns in _NEEDED.items():
            if missing := sorted(set(columns) - set(source.columns[table])):
                raise SqliteSourceError(
                    f"{source.where}, table {table!r}: expected columns {list(columns)} of a "
                    f"Butler, missing are {missing}"
                )
        self._is_whole = not only_runs
        self._read_collections(only_runs)
        self._read_types()
        ids = ", ".join(map(str, sorted(self._runs)))
        self._of_run = f"run_id IN ({ids})"

    def _read_collections(self, only_runs: Collection[str]) -> None:
        runs: dict[int, str] = {}
        self._chains: dict[int, str] = {}
        query = "SELECT collection_id, name, type FROM collection ORDER BY 1"
        for number, name, kind in self.source.query(query):
            if kind in (_RUN, _CHAINED) and type(number) is int:
                try:
                    (runs if kind == _RUN else self._chains)[number] = check_run(str(name))
                except InvalidNameError as error:
                    raise SqliteSourceError(
                        f"{self.source.where}, table 'collection', collection_id {number}: {error}"
                    ) from error
        if missing := sorted({*self._renames, *only_runs} - set(runs.values())):
            raise SqliteSourceError(
                f"{self.source.where}: expected RUNs {sorted(runs.values())[:20]}, found no "
                f"{missing}"
            )
        self._runs = {n: name for n, name in runs.items() if not only_runs or name in only_runs}

    def _read_types(self) -> None:
        self._types: dict[int, tuple[DatasetType, str]] = {}
        query = "SELECT id, name, storage_class, tag_association_table FROM dataset_type ORDER BY 1"
        for number, name, storage_class, tags in self.source.query(query):
            self.source.expect_tables([str(tags)])
            dimensions = [c for c in self.source.columns[tags] if c not in _NOT_DIMENSIONS]
            try:
                for one in (name, *dimensions):
                    check_identifier(str(one), "dataset type or dimension")
            except InvalidNameError as error:
                raise SqliteSourceError(
                    f"{self.source.where}, table 'dataset_type', id {number}: {error}"
                ) from error
            self._types[number] = (
                DatasetType(name, sorted(dimensions), str(storage_class), ""),
                tags,
            )

    def check(self) -> None:
        """Read every dataset and check it; raises `SqliteSourceError` for the first bad one."""
        n_read, n_wanted = sum(1 for _ in self._ids()), self.count_wanted("dataset")
        if n_read != n_wanted:
            raise SqliteSourceError(
                f"{self.source.where}: expected {n_wanted} datasets of the RUNs in the tables of "
                f"tags, found {n_read}"
            )

    def count(self, table: str) -> int:
        """Return the number of rows in the file that belong into one of our tables."""
        if table in ("run", "collection_chain"):
            wanted = _RUN if table == "run" else _CHAINED
            column = "collection_id" if table == "run" else "parent"
            return self._number(
                f"SELECT count(*) FROM {_SOURCE_OF.get(table, table)} WHERE {column} IN "
                f"(SELECT collection_id FROM collection WHERE type = {wanted})"
            )
        if table not in ("dataset_type", "dataset", "datastore_record"):
            return 0
        return self.source.count(_SOURCE_OF.get(table, table))

    def count_wanted(self, table: str) -> int:
        """Return the number of rows that are to be imported."""
        if table == "run":
            return len(self._runs)
        if table == "dataset":
            return self._number(f"SELECT count(*) FROM dataset WHERE {self._of_run}")
        if table == "datastore_record":
            return self._number(
                f"SELECT count(*) FROM file_datastore_records WHERE component = '{_NO_COMPONENT}' "
                f"AND dataset_id IN (SELECT id FROM dataset WHERE {self._of_run})"
            )
        if table == "collection_chain":
            return sum(map(len, self.chains().values()))
        return self.count(table)

    def _number(self, statement: str) -> int:
        ((number,),) = self.source.query(statement)
        return int(number)

    def notes(self) -> list[str]:
        """Tell what is left out."""
        components = (
            f"SELECT count(*) FROM file_datastore_records WHERE component <> '{_NO_COMPONENT}'"
        )
        others = f"SELECT count(*) FROM collection WHERE type NOT IN ({_RUN}, {_CHAINED})"
        left = {
            "records of components: a dataset has one object here": self._number(components),
            "TAGGED and CALIBRATION collections": self._number(others),
        }
        notes = [f"{number} {what}: left out" for what, number in left.items() if number]
        return [
            *notes,
            "checksums are of another kind than ours and left out; dimension records: see "
            "registry-merge ingest-dimensions",
        ]

    def runs(self) -> list[str]:
        """Return the RUNs that are imported, under their new names."""
        return sorted(self._renames.get(run, run) for run in self._runs.values())

    def dataset_types(self) -> Iterator[DatasetType]:
        """Give every dataset type."""
        for kind, _ in self._types.values():
            yield kind

    def dimension_records(self) -> Iterator[list[DimensionRecord]]:
        """Give nothing: facts about dimensions are spread over tables of their own."""
        yield from ()

    def outside_batches(self) -> Iterator[OutsideBatch]:
        """Give the datasets with their records."""
        for number in self._types:
            sides = self._sides(number)
            while batch := list(islice(sides, BATCH_SIZE)):
                has_record = [side for side in batch if side["object_key"] is not None]
                yield OutsideBatch.encode(
                    dataset_tables(batch)["dataset"],
                    dataset_tables(has_record)["datastore_record"],
                )

    def lost_sides(self) -> Iterator[OutsideBatch]:
        """Give nothing: a Butler has no conflicts."""
        yield from ()

    def deltas(self) -> Iterator[list[GoodDelta]]:
        """Give nothing: a Butler has no ledger."""
        yield from ()

    def chains(self) -> Chains:
        """Return the chains with those of their members that are imported, in search order."""
        chains: dict[str, list[str]] = {}
        new = {n: self._renames.get(run, run) for n, run in self._runs.items()} | self._chains
        query = "SELECT parent, child FROM collection_chain ORDER BY parent, position"
        for parent, child in self.source.query(query) if self._is_whole else ():
            if parent in self._chains and child in new:
                chains.setdefault(self._chains[parent], []).append(new[child])
        # A chain of nothing that is imported is none.
        while empty := {c for members in chains.values() for c in members} & (
            set(self._chains.values()) - chains.keys()
        ):
            kept = {c: [m for m in members if m not in empty] for c, members in chains.items()}
            chains = {chain: members for chain, members in kept.items() if members}
        return chains

    def keys(self, table: str) -> Iterator[list[tuple[Any, ...]]]:
        """Give the keys of the rows that are imported, as the central registry has them."""
        found: Iterator[tuple[Any, ...]]
        if table == "run":
            found = ((run,) for run in self.runs())
        elif table == "dataset_type":
            found = ((kind.name,) for kind, _ in self._types.values())
        elif table == "collection_chain":
            found = ((c, member) for c, members in self.chains().items() for member in members)
        elif table == "dataset":
            found = self._ids()
        else:
            sides = (side for number in self._types for side in self._sides(number))
            found = ((s["dataset_id"],) for s in sides if s["object_key"] is not None)
        while batch := list(islice(found, BATCH_SIZE)):
            yield batch

    def _ids(self) -> Iterator[tuple[str]]:
        for number in self._types:
            for side in self._sides(number):
                yield (side["dataset_id"],)

    def _sides(self, number: int) -> Iterator[dict[str, Any]]:
        """Give the datasets of a type, with the columns of both our tables."""
        kind, tags = self._types[number]
        columns = "".join(f", t.{quoted(name)}" for name in kind.dimensions)
        for rowid, raw_id, run_id, path, storage_class, size, *values in self.source.query(
            "SELECT d.rowid, d.id, d.run_id, r.path, r.storage_class, r.file_size"
            f"{columns} FROM dataset d JOIN {quoted(tags)} t "
            "ON t.dataset_id = d.id AND t.collection_id = d.run_id "
            "LEFT JOIN file_datastore_records r ON r.dataset_id = d.id "
            f"AND r.component = '{_NO_COMPONENT}' "
            f"WHERE d.dataset_type_id = {int(number)} AND d.{self._of_run} ORDER BY d.rowid"
        ):
            for name, value in zip(kind.dimensions, values, strict=True):
                if type(value) is not int and (type(value) is not str or not _is_text(value)):
                    raise self._wrong(tags, rowid, name, "an integer or text", value)
            if path is not None and not _is_place(path):
                raise self._wrong("file_datastore_records", rowid, "path", "a path", path)
            if size is not None and type(size) is not int:
                raise self._wrong("file_datastore_records", rowid, "file_size", "a number", size)
            run = self._runs[run_id]
            yield {
                "dataset_id": self._uuid(raw_id, rowid),
                "run": self._renames.get(run, run),
                "dataset_type": kind.name,
                "data_id": canonical(dict(zip(kind.dimensions, values, strict=True))),
                "quantum_id": None,
                "attempt_id": None,
                "object_key": path,
                "size_bytes": None if size is None or size < 0 else size,
                "checksum": None,
                "storage_class": storage_class,
            }

    def _uuid(self, raw: object, rowid: int) -> str:
        if isinstance(raw, str) and _HEX.match(raw):
            return str(uuid.UUID(hex=raw))
        if isinstance(raw, bytes) and len(raw) == 16:
            return str(uuid.UUID(bytes=raw))
        raise self._wrong("dataset", rowid, "id", "a UUID of 32 hexadecimal digits", raw)

    def _wrong(
        self, table: str, rowid: int, column: str, expected: str, found: object
    ) -> SqliteSourceError:
        return SqliteSourceError(
            f"{self.source.where}, table {table!r}, of rowid {rowid} in 'dataset', column "
            f"{column!r}: expected {expected}, found {str(found)[:80]!r}"
        )


def _is_text(value: str) -> bool:
    return "\0" not in value and value.encode(errors="replace").decode() == value


def _is_place(path: object) -> bool:
    if not isinstance(path, str) or not _is_text(path):
        return False
    try:
        return "://" in path or bool(check_key(path, ""))
    except InvalidNameError:
        return False
