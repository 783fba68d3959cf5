# SPDX-License-Identifier: BSD-3-Clause
"""``ingest-files``: a table of objects that exist becomes datasets with datastore records.

The table is read twice. The first reading checks every row, and nothing is inserted if one is bad;
the second inserts batches. Ids follow from RUN, dataset type and data ID, as in a graph, unless the
table has them: ingesting again finds everything there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Cursor

from merger.central_registry import CentralRegistry
from merger.collation import JSON, SCHEMAS
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.data_id_columns import (
    MAX_DATA_ID_BYTES,
    DataIdColumns,
    ValueKind,
    canonical_data_ids,
    derived_ids,
)
from merger.dataset_types import DatasetTypeConflictError, read_dataset_type
from merger.duplicate_rows import Claims, row_texts
from merger.exit_codes import ExitCode, lowest
from merger.file_columns import Places, check_checksums, check_ids, check_sizes
from merger.known_kinds import kinds_of_datasets
from merger.measured_files import Measured
from merger.outside_entries import EntryCounts, OutsideBatch, OutsideEntries, OutsideEntryError
from merger.progress import Progress
from merger.source_table import BadRows, Mask, Numbers, SourceTable, SourceTableError
from merger.uuid_arrays import UUID
from registry.model import DatasetType, check_identifier
from registry.names import check_run
from transfer_plugins.object_store import ObjectStore

_FACTS = {"size": check_sizes, "checksum": check_checksums, "dataset_id": check_ids}


@dataclass(frozen=True, slots=True)
class FileIngest:
    """What is to be ingested, and how."""

    dataset_type: str
    run: str
    dimensions: Sequence[str] | None = None
    storage_class: str | None = None
    """Both define the dataset type, if the central registry does not know it yet."""
    store: ObjectStore | None = None
    prefix: str = ""
    as_text: Sequence[str] = ()
    """Dimensions whose values in CSV are text, whatever they look like."""
    policies: ConflictPolicies = DEFER_ALL
    is_lenient: bool = False
    """Ingest the good rows though there are bad ones."""
    ignores_columns: bool = False
    measures: bool = False
    """Ask the store for sizes and checksums that the table does not have."""
    reads_bytes: bool = False
    """Read the objects whose checksum the store does not know."""
    is_dry: bool = False


@dataclass(slots=True)
class IngestReport:
    """What an ingest found and did."""

    table: str
    run: str
    dataset_type: str
    n_rows: int = 0
    n_repeated: int = 0
    """Rows that say the same as one before."""
    n_absolute: int = 0
    """Rows whose object lies outside of the datastore."""
    bad: BadRows = field(default_factory=BadRows)
    counts: EntryCounts = field(default_factory=EntryCounts)
    refusals: list[str] = field(default_factory=list)
    """What policy ``fail`` left out, the first of it."""
    kinds: dict[str, ValueKind] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """The lowest code that applies."""
        return lowest({ExitCode.ERROR: self.bad.n_problems, self.counts.exit_code: True})


@dataclass(frozen=True, slots=True)
class _Files:
    """Checked rows of a table."""

    numbers: Numbers
    values: dict[str, pa.Array]
    keys: pa.Array
    sizes: pa.Array
    checksums: pa.Array
    ids: pa.Array

    def kept(self, keep: Mask) -> "_Files":
        if keep.all():
            return self
        chosen = pa.array(keep)
        columns = (self.keys, self.sizes, self.checksums, self.ids)
        values = {name: column.filter(chosen) for name, column in self.values.items()}
        return _Files(self.numbers[keep], values, *(c.filter(chosen) for c in columns))


def ingest_files(
    registry: CentralRegistry,
    table: SourceTable,
    ingest: FileIngest,
    progress: Progress | None = None,
) -> IngestReport:
    """Ingest a table of files; may be repeated, killed, or run twice at once.

    Raises
    ------
    source_table.SourceTableError
        If the table cannot be read, or has bad rows and is not to be ingested without them.
    registry.errors.QuantumExecError
        If dataset type, RUN or datastore cannot be used.
    """
    return _FileIngestion(registry, table, ingest, progress or Progress()).run()


class _FileIngestion:
    def __init__(
        self, registry: CentralRegistry, table: SourceTable, ingest: FileIngest, progress: Progress
    ) -> None:
        self._registry, self._table, self._ingest = registry, table, ingest
        self._progress = progress
        check_identifier(ingest.dataset_type, "dataset type")
        check_run(ingest.run)
        self._type, known = registry.read_snapshot(self._read_definition)
        self._place = self._choose_columns()
        self._data_ids = DataIdColumns(table, self._type.dimensions, ingest.as_text, known)
        self._places = Places(ingest.store, ingest.prefix)
        self._measured = Measured(ingest.store, ingest.reads_bytes) if ingest.measures else None
        self.report = IngestReport(table.name, ingest.run, ingest.dataset_type)
        self._left_out: Numbers = np.empty(0, np.int64)

    def run(self) -> IngestReport:
        """Check, then insert."""
        self._check_all()
        if self.report.bad.numbers and not self._ingest.is_lenient:
            raise SourceTableError(
                f"{self.report.bad.text(self._table.name)}\n"
                "nothing was ingested; mend them, or leave them out with --skip-bad"
            )
        is_dry, policies = self._ingest.is_dry, self._ingest.policies
        entries = OutsideEntries(self._registry, policies=policies, is_dry=is_dry, adopts=True)
        entries.ensure([self._ingest.run], [self._type])
        self._progress.start(self.report.n_rows)
        entries.insert_all(self._batches(), self._progress)
        self.report.counts, self.report.refusals = entries.counts, entries.refusals
        self.report.kinds = self._data_ids.kinds
        return self.report

    def _read_definition(self, cursor: Cursor) -> tuple[DatasetType, dict[str, ValueKind]]:
        """The dataset type as the registry has it, or as it is given."""
        name, ingest = self._ingest.dataset_type, self._ingest
        found = read_dataset_type(cursor, name)
        if found is None:
            if ingest.dimensions is None or not ingest.storage_class:
                raise OutsideEntryError(
                    f"dataset type {name!r}: expected one of the central registry, found none; "
                    "define it with --dimensions and --storage-class"
                )
            for dimension in ingest.dimensions:
                check_identifier(dimension, "dimension")
            found = DatasetType(name, list(ingest.dimensions), ingest.storage_class, "")
        given = ingest.dimensions, ingest.storage_class
        has = found.dimensions, found.storage_class
        if (given[0] is not None and sorted(given[0]) != sorted(has[0])) or given[1] not in (
            None,
            has[1],
        ):
            raise DatasetTypeConflictError(
                f"dataset type {name!r}: the central registry has dimensions and storage class "
                f"{has}, the command line has {given}; leave these options out, or use another name"
            )
        return found, kinds_of_datasets(cursor, name, found.dimensions)

    def _choose_columns(self) -> str:
        """See that the table has the columns that it needs; returns the one of the place."""
        columns, dimensions = set(self._table.columns), self._type.dimensions
        places = sorted({"uri", "key"} & columns - set(dimensions))
        where = f"table {self._table.name!r}"
        if len(places) != 1:
            raise SourceTableError(
                f"{where}: expected one column 'uri' or 'key', found columns {sorted(columns)}"
            )
        if missing := sorted(set(dimensions) - columns):
            raise SourceTableError(
                f"{where}: expected a column for each dimension of {self._type.name!r}, "
                f"{sorted(dimensions)}; missing are {missing}"
            )
        if strange := sorted(set(self._ingest.as_text) - set(dimensions)):
            raise SourceTableError(f"{where}: --text: expected dimensions, found {strange}")
        wanted = {*places, *dimensions, *_FACTS}
        if (others := sorted(columns - wanted)) and not self._ingest.ignores_columns:
            raise SourceTableError(
                f"{where}: expected columns {sorted(wanted)}, found {others}, too; leave them out, "
                "or pass over them with --ignore-columns"
            )
        return places[0]

    def _rows(self, bad: BadRows) -> Iterator[_Files]:
        """Read and check the table; rows that are bad are left out and recorded."""
        facts = [name for name in _FACTS if name in self._table.columns]
        names = list(dict.fromkeys([self._place, *self._type.dimensions, *facts]))
        for rows in self._table.batches(names):
            n_rows = len(rows.numbers)
            values, is_bad = self._data_ids.check(rows, bad)
            keys, wrong = self._places.check(rows, self._place, bad)
            is_bad = is_bad | wrong
            nulls = {"size": pa.int64(), "checksum": pa.string(), "dataset_id": UUID}
            found = {name: pa.nulls(n_rows, kind) for name, kind in nulls.items()}
            for name in facts:
                found[name], wrong = _FACTS[name](rows, name, bad)
                is_bad |= wrong
            yield _Files(rows.numbers, values, keys, *found.values()).kept(~is_bad)

    def _check_all(self) -> None:
        """Read the table for the first time: what is bad, twice there, or not in the store?"""
        report, bad = self.report, self.report.bad
        claims, ids = Claims(), Claims()
        for files in self._rows(bad):
            data_ids = canonical_data_ids(files.values, {}, len(files.numbers))
            is_long = pc.greater(pc.binary_length(data_ids), MAX_DATA_ID_BYTES).to_numpy(
                zero_copy_only=False
            )
            for number in files.numbers[is_long]:
                bad.add(
                    int(number), None, f"a data ID of at most {MAX_DATA_ID_BYTES} bytes", "more"
                )
            files, data_ids = files.kept(~is_long), data_ids.filter(pa.array(~is_long))
            if self._measured is not None:
                self._measured.measure(files.numbers, files.keys, files.sizes, files.checksums, bad)
            contents = row_texts([files.keys, files.sizes, files.checksums, files.ids])
            texts = data_ids.to_pylist()
            claims.add(files.numbers, texts, contents)
            has_id = files.ids.is_valid().to_numpy(zero_copy_only=False)
            if has_id.any():
                given = [(i, t) for i, t in zip(files.ids.to_pylist(), texts, strict=True) if i]
                ids.add(files.numbers[has_id], *zip(*given, strict=True))
            is_absolute = pc.match_substring(files.keys, "://")
            report.n_absolute += pc.sum(is_absolute).as_py() or 0
        self._data_ids.decide()
        self._meet_bad(self._table.bad)
        report.n_rows = len(claims.numbers) + len(bad.sorted_numbers())
        repeated, contradicting = claims.compare()
        contradicting += ids.compare()[1]
        for first, second in contradicting:
            expected = f"another data ID and id than in row {first}, or the same content"
            bad.add(second, None, expected, "one of them with other content")
        report.n_repeated = len(repeated)
        self._left_out = np.union1d(repeated, bad.sorted_numbers())

    def _meet_bad(self, malformed: BadRows) -> None:
        bad = self.report.bad
        bad.numbers.extend(malformed.numbers)
        bad.messages = (malformed.messages + bad.messages)[:20]
        bad.n_problems += malformed.n_problems

    def _batches(self) -> Iterator[OutsideBatch]:
        """Read the table again and make batches."""
        ingest = self._ingest
        for files in self._rows(BadRows()):
            files = files.kept(~np.isin(files.numbers, self._left_out))
            n_rows = len(files.numbers)
            if n_rows == 0:
                continue
            data_ids = canonical_data_ids(files.values, self._data_ids.kinds, n_rows)
            ids = files.ids
            if ids.null_count:
                derived = derived_ids(ingest.run, ingest.dataset_type, data_ids)
                ids = (
                    derived
                    if ids.null_count == n_rows
                    else pc.if_else(ids.is_valid(), ids, derived)
                )
            sizes, checksums = files.sizes, files.checksums
            if self._measured is not None:
                sizes, checksums = self._measured.complete(files.numbers, sizes, checksums)
            run, kind = pa.scalar(ingest.run), pa.scalar(ingest.dataset_type)
            none = pa.nulls(n_rows, UUID)
            dataset = [ids, pa.repeat(run, n_rows), pa.repeat(kind, n_rows)]
            dataset += [data_ids.cast(JSON), none, none]
            storage_class = pa.repeat(pa.scalar(self._type.storage_class), n_rows)
            record = [ids, files.keys, sizes, checksums, storage_class]
            yield OutsideBatch.encode(
                pa.Table.from_arrays(dataset, schema=SCHEMAS["dataset"]),
                pa.Table.from_arrays(record, schema=SCHEMAS["datastore_record"]),
            )
