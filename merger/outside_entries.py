# SPDX-License-Identifier: BSD-3-Clause
"""Datasets that come from outside, not from a delta: inserted by the rules of a merge.

Mostly they have no quantum and no attempt, so for the rules they *were there before any merge*.
What is there with the same content is skipped; what another dataset claims, too, is a conflict.
Unknown sizes and checksums contradict nothing, and are completed when they become known.

Those of a private registry have both. They stand until their own delta or a success of their
quantum is merged, and are skipped if that has happened: the outcome does not depend on what came
first, and no attempt that was forgotten comes back. Nobody knows whether their attempt was
successful, so a merged one always counts more.

As for deltas there are two ways. The *plain* way COPYs beside other writers and stops at the first
key that is taken; the *careful* one compares the batch with what is there, alone in the registry.
"""

from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Cursor

from merger import collection_chains, outside_statements, statements
from merger.central_registry import CentralRegistry
from merger.collation import dimension_table
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.conflict_records import ConflictCounts, ConflictsRefusedError, NeedsCareError, Refusal
from merger.copy_format import CopyRows
from merger.database_errors import describe
from merger.dataset_conflicts import settle_datasets, side_from_row
from merger.dataset_types import ensure_dataset_type
from merger.dimension_conflicts import insert_dimensions
from merger.exit_codes import ExitCode, lowest
from merger.progress import Progress
from registry.errors import QuantumExecError
from registry.model import DatasetType, DimensionRecord

BATCH_SIZE = 20_000
"""Datasets in one transaction."""
_SHOWN = 20


class OutsideEntryError(QuantumExecError):
    """Something from outside cannot be entered into the central registry."""

    error_type = "outside_entry"


@dataclass(slots=True)
class EntryCounts:
    """What became of datasets from outside; every one is counted once, but for new conflicts."""

    n_inserted: int = 0
    n_skipped: int = 0
    n_completed: int = 0
    """Of those that were skipped: size or checksum became known."""
    n_adopted: int = 0
    """Of those that were skipped: an attempt had made them; forget leaves them from now on."""
    n_of_attempts: int = 0
    """Of those that were skipped: their attempt is in the ledger, or does not count."""
    n_conflicting: int = 0
    n_open: int = 0
    """Conflicting keys with a side that was not on record: a person is asked."""
    n_settled: int = 0
    """The same where a policy or an earlier decision settles it."""
    n_refused: int = 0
    """Of those that conflict: left out by policy ``fail``."""

    @property
    def exit_code(self) -> ExitCode:
        """The lowest code that applies."""
        return lowest({ExitCode.CONFLICTS: self.n_open, ExitCode.CONFLICTS_REFUSED: self.n_refused})

    def add(self, other: "EntryCounts") -> None:
        """Add the counts of another batch."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclass(frozen=True, slots=True)
class OutsideBatch:
    """Datasets ready for COPY, sorted by id; a datastore record may be missing."""

    dataset: CopyRows
    datastore_record: CopyRows
    has_attempts: bool = False
    """Whether some of them were made by attempts."""

    @property
    def n_rows(self) -> int:
        """Rows of both tables."""
        return self.dataset.n_rows + self.datastore_record.n_rows

    @classmethod
    def encode(cls, dataset: pa.Table, datastore_record: pa.Table) -> "OutsideBatch":
        """Sort and encode tables with the columns of `collation.SCHEMAS`."""
        rows = [CopyRows.encode(_by_id(table)) for table in (dataset, datastore_record)]
        return cls(rows[0], rows[1], dataset["attempt_id"].null_count < dataset.num_rows)


def _by_id(table: pa.Table) -> pa.Table:
    return table.take(pc.sort_indices(table["dataset_id"].combine_chunks()))


class OutsideEntries:
    """Inserts batches, each in one transaction; may be killed, repeated, or run twice at once.

    Parameters
    ----------
    policies
        For conflicts that nobody has decided about.
    is_dry
        Only count what would be done.
    adopts
        What an attempt made with the same content is from outside from now on, as if it had been
        there before: so ``forget`` leaves it.
    """

    def __init__(
        self,
        registry: CentralRegistry,
        *,
        policies: ConflictPolicies = DEFER_ALL,
        is_dry: bool = False,
        adopts: bool = False,
    ) -> None:
        self._registry = registry
        self._policies = policies
        self._is_dry = is_dry
        self._adopts = adopts
        self._careful = False
        self.counts = EntryCounts()
        self.refusals: list[str] = []
        """What policy ``fail`` left out, the first of it."""

    def ensure(self, runs: Iterable[str], dataset_types: Iterable[DatasetType]) -> None:
        """Ensure what datasets refer to; a dry run takes it back.

        Raises
        ------
        dataset_types.DatasetTypeConflictError
            If the central registry defines a dataset type in another way.
        collection_chains.CollectionError
            If a chain has the name of a RUN.
        """

        def ensure(cursor: Cursor) -> None:
            with cursor.connection.transaction(force_rollback=self._is_dry):
                for run in sorted(runs):
                    collection_chains.ensure_run(cursor, run)
                for dataset_type in sorted(dataset_types, key=lambda t: t.name):
                    ensure_dataset_type(cursor, dataset_type, "what comes from outside")

        self._registry.transact(ensure)

    def insert_all(self, batches: Iterable[OutsideBatch], progress: Progress) -> None:
        """Insert batches; the next one is made while PostgreSQL works on the last.

        Raises
        ------
        OutsideEntryError
            If PostgreSQL refuses a row; batches before stay inserted.
        """
        made = iter(batches)
        with ThreadPoolExecutor(1, "outside-batch") as pool:
            following: Future[OutsideBatch | None] = pool.submit(next, made, None)
            while (batch := following.result()) is not None:
                following = pool.submit(next, made, None)
                self.insert(batch)
                progress.advance(batch.dataset.n_rows, batch.n_rows)

    def insert(self, batch: OutsideBatch) -> None:
        """Insert one batch; raises as `insert_all`."""
        try:
            self.counts.add(self._insert(batch))
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.OperationalError) as error:
            if isinstance(error, psycopg.OperationalError) and error.sqlstate != "54000":
                raise
            raise OutsideEntryError(f"central registry refuses a row: {describe(error)}") from error

    def _insert(self, batch: OutsideBatch) -> EntryCounts:
        if self._is_dry:
            counts, contended = self._registry.transact(lambda cursor: self._look(cursor, batch))
            return self._insert_with_care(batch) if contended else counts
        if not (self._careful or batch.has_attempts):
            try:
                return self._registry.transact(lambda cursor: _plain(cursor, batch))
            except NeedsCareError:
                self._careful = True
        counts = self._insert_with_care(batch)
        # The rest of a table that was ingested in part meets nothing.
        self._careful = bool(counts.n_skipped or counts.n_conflicting)
        return counts

    def _look(self, cursor: Cursor, batch: OutsideBatch) -> tuple[EntryCounts, list[str]]:
        with cursor.connection.transaction(force_rollback=True):
            counts, contended = _compare(cursor, batch, adopts=self._adopts)
        counts.n_inserted = batch.dataset.n_rows - counts.n_skipped
        return counts, contended

    def _insert_with_care(self, batch: OutsideBatch) -> EntryCounts:
        refused: list[Refusal] = []

        def insert(cursor: Cursor) -> EntryCounts:
            with cursor.connection.transaction(force_rollback=self._is_dry):
                return self._alone(cursor, batch, refused)

        while True:
            try:
                counts = self._registry.transact(insert, alone=True)
            except ConflictsRefusedError as error:
                refused += error.refusals
                continue
            n_room = _SHOWN - len(self.refusals)
            self.refusals += [refusal.message for refusal in refused[:n_room]]
            return counts

    def _alone(
        self, cursor: Cursor, batch: OutsideBatch, refused: Collection[Refusal]
    ) -> EntryCounts:
        """Insert a batch, skipping what is there and settling what is there with other content."""
        counts, contended = _compare(cursor, batch, adopts=self._adopts)
        counts.n_inserted = cursor.execute(statements.INSERT_DATASETS, (contended,)).rowcount
        cursor.execute(statements.INSERT_DATASTORE_RECORDS, (contended,))
        counts.n_conflicting = len(contended)
        left_out = {refusal.dataset_id for refusal in refused}
        counts.n_refused = len(left_out)
        if settled := [dataset_id for dataset_id in contended if dataset_id not in left_out]:
            cursor.execute(outside_statements.READ_STAGED_SIDES, (settled,))
            brought = [side_from_row(row) for row in cursor.fetchall()]
            conflicts = settle_datasets(cursor, brought, (), (), self._policies)
            counts.n_open, counts.n_settled = conflicts.n_open, conflicts.n_settled
        return counts


def _plain(cursor: Cursor, batch: OutsideBatch) -> EntryCounts:
    """Insert a batch that meets nothing that is there; raises `NeedsCareError` if it does."""
    if cursor.execute(statements.HAS_DATASET_CONFLICTS).fetchone() == (True,):
        raise NeedsCareError
    try:
        batch.dataset.copy_into(cursor, "dataset")
    except psycopg.errors.UniqueViolation as error:
        raise NeedsCareError from error
    batch.datastore_record.copy_into(cursor, "datastore_record")
    return EntryCounts(n_inserted=batch.dataset.n_rows)


def _compare(cursor: Cursor, batch: OutsideBatch, *, adopts: bool) -> tuple[EntryCounts, list[str]]:
    """Stage a batch and leave out what is there; returns the ids that something contends with."""
    cursor.execute(statements.STAGE_DATASETS)
    batch.dataset.copy_into(cursor, "staged_dataset")
    batch.datastore_record.copy_into(cursor, "staged_record")
    cursor.execute(outside_statements.ANALYZE_STAGED)
    counts = EntryCounts()
    if batch.has_attempts:
        counts.n_of_attempts = cursor.execute(outside_statements.SKIP_OF_ATTEMPTS).rowcount
        cursor.execute(outside_statements.DELETE_OLDER)
    counted = cursor.execute(outside_statements.COUNT_SAME).fetchall()
    ((n_same, n_more_known, n_made),) = counted
    counts.n_skipped = counts.n_of_attempts + n_same
    if adopts and n_made:
        adopted = cursor.execute(outside_statements.ADOPT_RECORDS).fetchall()
        cursor.execute(outside_statements.ADOPT_DATASETS, ([i for (i,) in adopted],))
        counts.n_adopted = len(adopted)
    if n_more_known:
        counts.n_completed = cursor.execute(outside_statements.COMPLETE_RECORDS).rowcount
    if counts.n_skipped == batch.dataset.n_rows:
        cursor.execute(outside_statements.CLEAR_STAGE)
        return counts, []
    if counts.n_skipped:
        cursor.execute(outside_statements.SKIP_SAME)
        cursor.execute(outside_statements.SKIP_RECORDS)
    cursor.execute(statements.READ_CONTENDED_DATASETS)
    return counts, sorted(dataset_id for (dataset_id,) in cursor.fetchall())


def insert_records(
    registry: CentralRegistry,
    records: Iterable[DimensionRecord],
    policies: ConflictPolicies,
    *,
    is_dry: bool = False,
) -> ConflictCounts:
    """Insert dimension records by the rules of a merge, in one transaction.

    Their source is their content, as for those of a graph. Policy ``fail`` counts as ``defer``.
    """
    rows = CopyRows.encode(dimension_table((record, None) for record in records))
    policies = policies.without_fail()

    def insert(cursor: Cursor, *, careful: bool) -> ConflictCounts:
        with cursor.connection.transaction(force_rollback=is_dry):
            return insert_dimensions(cursor, rows, careful=careful, policies=policies)

    try:
        return registry.transact(partial(insert, careful=False))
    except NeedsCareError:
        return registry.transact(partial(insert, careful=True), alone=True)
