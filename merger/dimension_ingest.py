# SPDX-License-Identifier: BSD-3-Clause
"""``ingest-dimensions``: rows of a table become dimension records.

Their source is their content (`statements.INSERT_DIMENSION_SOURCES`), as for records that a graph
brings: no attempt of the ledger has it, so ``forget`` never takes them away. The rules are those
of a merge: several contents of one record are a conflict.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Cursor

from merger import outside_statements
from merger.central_registry import CentralRegistry
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.conflict_records import ConflictCounts
from merger.data_id_columns import (
    INTEGER_TEXT,
    MAX_DATA_ID_BYTES,
    DataIdColumns,
)
from merger.duplicate_rows import Claims
from merger.exit_codes import ExitCode
from merger.known_kinds import kinds_of_records
from merger.outside_entries import insert_records
from merger.progress import Progress
from merger.source_table import BadRows, Numbers, Rows, SourceTable, SourceTableError
from registry.model import DimensionRecord, check_identifier
from registry.typed_json import canonical

# With leading zeros it is a name, which would not come back from a number.
_NUMBER_TEXT = (
    r"^[+-]?(?:(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,2})?$"
)


@dataclass(frozen=True, slots=True)
class DimensionIngest:
    """What is to be ingested, and how."""

    dimension: str
    key: Sequence[str]
    """Columns of the data ID: the dimension, and those without which it means nothing."""
    as_text: Sequence[str] = ()
    policies: ConflictPolicies = DEFER_ALL
    is_dry: bool = False


@dataclass(slots=True)
class DimensionReport:
    """What an ingest of dimension records found and did."""

    dimension: str
    n_rows: int = 0
    n_skipped: int = 0
    """Records that are there with the same content."""
    n_conflicting: int = 0
    """Records that are there with other content."""
    conflicts: ConflictCounts = field(default_factory=ConflictCounts)
    columns: dict[str, str] = field(default_factory=dict)
    """What the values of each column are."""

    @property
    def n_inserted(self) -> int:
        """Records that were not there."""
        return self.n_rows - self.n_skipped - self.n_conflicting

    @property
    def exit_code(self) -> ExitCode:
        """Conflicts, or nothing to tell."""
        return ExitCode.CONFLICTS if self.conflicts.n_open else ExitCode.OK


def ingest_dimensions(
    registry: CentralRegistry,
    table: SourceTable,
    ingest: DimensionIngest,
    progress: Progress | None = None,
) -> DimensionReport:
    """Ingest a table of dimension records; may be repeated, killed, or run twice at once.

    Raises
    ------
    source_table.SourceTableError
        If the table cannot be read, or has bad rows; nothing is ingested then.
    """
    return _DimensionIngestion(registry, table, ingest).run(progress or Progress())


class _DimensionIngestion:
    def __init__(
        self, registry: CentralRegistry, table: SourceTable, ingest: DimensionIngest
    ) -> None:
        self._registry, self._table, self._ingest = registry, table, ingest
        for name in [ingest.dimension, *ingest.key]:
            check_identifier(name, "dimension")
        key = set(ingest.key)
        where = f"table {table.name!r}"
        if missing := sorted(key - set(table.columns)):
            raise SourceTableError(
                f"{where}: expected columns {sorted(key)}, missing are {missing}"
            )
        if strange := sorted(set(ingest.as_text) - set(table.columns)):
            raise SourceTableError(f"{where}: --text: expected columns, found {strange}")
        known, texts = registry.read_snapshot(
            lambda cursor: kinds_of_records(cursor, ingest.dimension, ingest.key)
        )
        self._data_ids = DataIdColumns(table, ingest.key, key & set(ingest.as_text), known)
        self._facts = [name for name in table.columns if name not in key]
        self._kinds = dict.fromkeys(self._facts, "" if table.is_parquet else "integers")
        if not table.is_parquet:
            # What is text in a record that is there is text here, though it looks like a number.
            self._kinds |= {name: "text" for name in texts if name in self._kinds}
        self._kinds |= {name: "text" for name in ingest.as_text if name in self._kinds}
        self.report = DimensionReport(ingest.dimension)

    def run(self, progress: Progress) -> DimensionReport:
        """Check, then insert."""
        bad, claims = BadRows(), Claims()
        for rows in self._table.batches(self._table.columns):
            values, _ = self._data_ids.check(rows, bad)
            self._meet_facts(rows, bad)
            texts = [column.cast(pa.string()).to_pylist() for column in values.values()]
            keys = list(zip(*texts, strict=True))
            for number, key in zip(rows.numbers, keys, strict=True):
                if len(str(key)) > MAX_DATA_ID_BYTES // 4:
                    bad.add(int(number), None, "a data ID of at most 500 characters", "more")
            columns = [rows.columns[name].to_pylist() for name in self._facts]
            claims.add(rows.numbers, keys, zip(*columns, strict=True) if columns else keys)
        self._data_ids.decide()
        repeated, contradicting = claims.compare()
        for first, second in contradicting:
            bad.add(
                second, None, f"another data ID than in row {first}, or the same facts", "neither"
            )
        problems = bad.messages + self._table.bad.messages
        if problems:
            bad.numbers.extend(self._table.bad.numbers)
            bad.messages, bad.n_problems = (
                problems[:20],
                bad.n_problems + self._table.bad.n_problems,
            )
            raise SourceTableError(f"{bad.text(self._table.name)}\nnothing was ingested; mend them")
        self.report.n_rows = len(claims.numbers) - len(repeated)
        kinds = {name: kind.value for name, kind in self._data_ids.kinds.items()}
        self.report.columns = kinds | self._kinds
        progress.start(self.report.n_rows)
        for records in self._records(repeated):
            self._insert(records)
            progress.advance(len(records), 2 * len(records))
        return self.report

    def _meet_facts(self, rows: Rows, bad: BadRows) -> None:
        """Find out of each column of facts what it has; a CSV column is what all values are."""
        for name in self._facts:
            column, kind = rows.columns[name], self._kinds[name]
            if self._table.is_parquet:
                self._kinds[name] = _kind_of(self._table.name, name, column.type)
            else:
                for pattern, wider in ((INTEGER_TEXT, "numbers"), (_NUMBER_TEXT, "text")):
                    is_kind = kind == ("integers" if wider == "numbers" else "numbers")
                    if is_kind and not pc.all(pc.match_substring_regex(column, pattern)).as_py():
                        kind = wider
                self._kinds[name] = kind
            if pa.types.is_string(column.type):
                wrong = pc.match_substring(column, "\0")
            elif pa.types.is_floating(column.type):
                wrong = pc.invert(pc.is_finite(column))
            else:
                continue
            is_wrong = pc.fill_null(wrong, False).to_numpy(zero_copy_only=False)
            bad.add_all(is_wrong, rows.numbers, name, "a finite number or text without NUL", column)

    def _records(self, repeated: Numbers) -> Iterator[list[DimensionRecord]]:
        """Read the table again."""
        for rows in self._table.batches(self._table.columns):
            values, _ = self._data_ids.check(rows, BadRows())
            rows = rows.kept(~np.isin(rows.numbers, repeated))
            kinds = {n: kind.value for n, kind in self._data_ids.kinds.items()} | self._kinds
            typed = {name: _values(rows.columns[name], kinds[name]) for name in kinds}
            names = list(typed)
            records = []
            for row in zip(*typed.values(), strict=True):
                record = dict(zip(names, row, strict=True))
                data_id = {name: record.pop(name) for name in values}
                records.append(DimensionRecord(self._ingest.dimension, data_id, record))
            yield sorted(records, key=lambda r: canonical(r.data_id))

    def _insert(self, records: list[DimensionRecord]) -> None:
        data_ids = [canonical(record.data_id) for record in records]
        texts = [canonical(record.record) for record in records]

        def count(cursor: Cursor) -> tuple[int, int]:
            values = (data_ids, texts, self._ingest.dimension)
            cursor.execute(outside_statements.COUNT_RECORDS, values)
            return cursor.fetchone() or (0, 0)

        there = self._registry.read_snapshot(count)
        wanted = self._ingest
        self.report.conflicts.add(
            insert_records(self._registry, records, wanted.policies, is_dry=wanted.is_dry)
        )
        self.report.n_skipped += there[0]
        self.report.n_conflicting += there[1]


def _kind_of(table: str, name: str, kind: pa.DataType) -> str:
    if pa.types.is_string(kind) or pa.types.is_null(kind):
        return "text"
    if pa.types.is_int64(kind):
        return "integers"
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_floating(kind):
        return "numbers"
    raise SourceTableError(
        f"table {table!r}, column {name!r}: expected numbers, text or true and false, found {kind}"
    )


def _values(column: pa.Array, kind: str) -> list[object]:
    """The values of a column as JSON has them."""
    values: list[object] = column.to_pylist()
    if pa.types.is_string(column.type) and kind in ("integers", "numbers"):
        read = int if kind == "integers" else float
        return [None if value is None else read(str(value)) for value in values]
    if kind == "text" and not pa.types.is_string(column.type):
        return [None if value is None else str(value) for value in values]
    return values
