# SPDX-License-Identifier: BSD-3-Clause
"""One batch of deltas in one transaction: claim, insert, and nothing half."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import psycopg
import pyarrow as pa
from psycopg import Cursor

from merger import statements
from merger.central_registry import CentralRegistry, describe
from merger.collation import collate
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.conflict_records import ConflictsRefusedError, NeedsCareError, Refusal
from merger.copy_format import CopyRows
from merger.dataset_conflicts import settle_datasets, sides_of
from merger.delta_checks import BadDelta, GoodDelta, Reason
from merger.dimension_conflicts import insert_dimensions
from merger.predictions import Predictions
from registry.attempt import AttemptStatus
from registry.delta import Delta

_REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)


class RowsRefusedError(Exception):
    """Some delta of a batch cannot be inserted; if the batch has one only, it is known which."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Batch:
    """Deltas in the order of their attempt ids, and their rows ready for COPY by table."""

    deltas: list[GoodDelta]
    rows: dict[str, CopyRows]
    outranked: frozenset[str] = frozenset()


@dataclass(slots=True)
class MergeCounts:
    """What was merged; datasets are those of attempts that count."""

    n_deltas: int = 0
    n_datasets: int = 0
    n_conflicts: int = 0
    n_settled: int = 0
    """Conflicts that a policy or an earlier decision settled."""

    def add(self, other: "MergeCounts") -> None:
        """Add the counts of another batch."""
        self.n_deltas += other.n_deltas
        self.n_datasets += other.n_datasets
        self.n_conflicts += other.n_conflicts
        self.n_settled += other.n_settled


def make_batch(deltas: Iterable[GoodDelta], outranked: Collection[str] = frozenset()) -> Batch:
    """Collate and encode deltas.

    Raises
    ------
    RowsRefusedError
        If a value does not fit its column.
    """
    ordered = sorted(deltas, key=lambda good: good.delta.attempt_id)
    try:
        tables = collate(ordered, outranked)
        rows = {name: CopyRows.encode(table) for name, table in tables.items()}
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise RowsRefusedError(Reason.REFUSED_BY_DATABASE, str(error)) from error
    return Batch(ordered, rows, frozenset(outranked))


class Insertion:
    """Inserts batches of one RUN, each in one transaction.

    After the first batch that needed care all go the careful way: conflicts seldom come alone,
    and a batch that is tried twice costs twice.
    """

    def __init__(
        self,
        registry: CentralRegistry,
        predictions: Predictions,
        policies: ConflictPolicies = DEFER_ALL,
    ) -> None:
        self._registry = registry
        self._predictions = predictions
        self._policies = policies
        self._careful = False

    def insert(self, deltas: list[GoodDelta], batch: Batch | None = None) -> "Inserted":
        """Insert deltas; those that PostgreSQL refuses are found by halving.

        Parameters
        ----------
        batch
            The same deltas, if they are encoded already.
        """
        try:
            counts = self._insert_whole(batch or make_batch(deltas))
            return Inserted(counts, [])
        except ConflictsRefusedError as error:
            return self._insert_rest(deltas, error.refusals)
        except RowsRefusedError as error:
            if len(deltas) == 1:
                message = f"delta {deltas[0].key!r}: {error}"
                return Inserted(MergeCounts(), [BadDelta(deltas[0].key, error.reason, message)])
        middle = len(deltas) // 2
        first, second = self.insert(deltas[:middle]), self.insert(deltas[middle:])
        first.counts.add(second.counts)
        return Inserted(first.counts, first.bad + second.bad, first.refused + second.refused)

    def _insert_rest(self, deltas: list[GoodDelta], refused: list[Refusal]) -> "Inserted":
        """Insert what remains when the attempts are left out that policy ``fail`` refuses."""
        attempt_ids = {refusal.attempt_id for refusal in refused}
        inserted = self.insert([d for d in deltas if d.delta.attempt_id not in attempt_ids])
        return Inserted(inserted.counts, inserted.bad, refused + inserted.refused)

    def _insert_whole(self, batch: Batch) -> MergeCounts:
        try:
            if not self._careful:
                try:
                    return self._registry.transact(lambda cursor: self._plain(cursor, batch))
                except NeedsCareError:
                    self._careful = True
            return self._registry.transact(lambda cursor: self._alone(cursor, batch), alone=True)
        except _REFUSALS as error:
            message = f"PostgreSQL refuses its rows: {describe(error)} ({error.sqlstate})"
            raise RowsRefusedError(Reason.REFUSED_BY_DATABASE, message) from error

    def _plain(self, cursor: Cursor, batch: Batch) -> MergeCounts:
        """Insert a batch that meets nothing of other attempts.

        Raises
        ------
        NeedsCareError
            If it does.
        """
        batch, retired = self._begin(cursor, batch)
        if retired:
            raise NeedsCareError
        insert_dimensions(cursor, batch.rows["dimension_source"], careful=False)
        datasets = batch.rows["dataset"]
        if _touches_conflict(cursor, datasets):
            raise NeedsCareError
        try:
            # Straight into the table: staging first costs half as much again, and a key that is
            # taken ends the plain way whichever way it is found.
            datasets.copy_into(cursor, "dataset")
        except psycopg.errors.UniqueViolation as error:
            raise NeedsCareError from error
        batch.rows["datastore_record"].copy_into(cursor, "datastore_record")
        return MergeCounts(len(batch.deltas), datasets.n_rows)

    def _alone(self, cursor: Cursor, batch: Batch) -> MergeCounts:
        """Insert a batch, settling what it has to do with rows of other attempts."""
        batch, retired = self._begin(cursor, batch)
        dimensions = batch.rows["dimension_source"]
        conflicts = insert_dimensions(cursor, dimensions, careful=True, policies=self._policies)
        cursor.execute(statements.SUPERSEDE, (list(retired),))
        contended = _insert_uncontended(cursor, batch)
        brought = [side for side in sides_of(_counting(batch)) if side.dataset_id in contended]
        if brought or retired:
            made = self._predictions.outputs_of(retired.values())
            conflicts.add(settle_datasets(cursor, brought, retired.keys(), made, self._policies))
        n_datasets = batch.rows["dataset"].n_rows
        return MergeCounts(len(batch.deltas), n_datasets, conflicts.n_open, conflicts.n_settled)

    def _begin(self, cursor: Cursor, batch: Batch) -> tuple[Batch, dict[str, str]]:
        """Claim deltas and insert what only they can bring.

        Returns
        -------
        batch, retired
            The deltas that are ours to merge; attempts that counted and no longer do, each with
            its quantum.
        """
        cursor.execute(statements.STAGE_BATCH)
        batch = _claim(cursor, batch)
        self._release(cursor, batch)
        quanta = batch.rows["quantum"]
        quanta.copy_into(cursor, "staged_quantum")
        retired: dict[str, str] = {}
        if cursor.execute(statements.INSERT_QUANTA).rowcount < quanta.n_rows:
            batch, retired = self._meet_quanta(cursor, batch)
        for table in ("attempt", "quantum_input", "metric"):
            batch.rows[table].copy_into(cursor, table)
        return batch, retired

    def _release(self, cursor: Cursor, batch: Batch) -> None:
        """Let deltas that became good leave the quarantine."""
        cursor.execute(statements.READ_QUARANTINE, (self._predictions.run,))
        if quarantined := {key for (key,) in cursor.fetchall()}:
            merged = quarantined.intersection(good.key for good in batch.deltas)
            cursor.execute(statements.DELETE_QUARANTINE, (list(merged),))

    def _meet_quanta(self, cursor: Cursor, batch: Batch) -> tuple[Batch, dict[str, str]]:
        """Compare the batch with the attempts that count so far of quanta that were there."""
        successes: dict[str, list[str]] = {}
        for good in batch.deltas:
            if good.delta.status is AttemptStatus.SUCCESSFUL:
                successes.setdefault(good.delta.quantum_id, []).append(good.delta.attempt_id)
        outranked: set[str] = set()
        retired: dict[str, str] = {}
        cursor.execute(statements.LOCK_QUANTA)
        for quantum_id, run, status, attempt_id in cursor.fetchall():
            if run != self._predictions.run:
                raise RowsRefusedError(
                    Reason.QUANTUM_OF_OTHER_RUN,
                    f"expected quantum {quantum_id!r} in RUN {self._predictions.run!r}, "
                    f"found it in RUN {run!r}",
                )
            if status == AttemptStatus.SUCCESSFUL and quantum_id in successes:
                outranked.update(a for a in successes[quantum_id] if a < attempt_id)
                if max(successes[quantum_id]) > attempt_id:
                    retired[attempt_id] = quantum_id
        cursor.execute(statements.RAISE_QUANTA)
        return (make_batch(batch.deltas, outranked) if outranked else batch), retired


@dataclass(frozen=True, slots=True)
class Inserted:
    """What was merged of a batch, and the deltas that PostgreSQL refused."""

    counts: MergeCounts
    bad: list[BadDelta]
    refused: list[Refusal] = field(default_factory=list)
    """Attempts left unmerged by policy ``fail``."""


def _touches_conflict(cursor: Cursor, datasets: CopyRows) -> bool:
    """Tell whether a dataset claims a key that a recorded conflict is about."""
    if (False,) == cursor.execute(statements.HAS_DATASET_CONFLICTS).fetchone():
        return False
    cursor.execute(statements.STAGE_DATASETS)
    datasets.copy_into(cursor, "staged_dataset")
    return (True,) == cursor.execute(statements.TOUCHES_DATASET_CONFLICT).fetchone()


def _insert_uncontended(cursor: Cursor, batch: Batch) -> set[str]:
    """Insert the datasets that have nothing to do with any other; returns the ids of the rest."""
    cursor.execute(statements.STAGE_DATASETS)
    batch.rows["dataset"].copy_into(cursor, "staged_dataset")
    batch.rows["datastore_record"].copy_into(cursor, "staged_record")
    cursor.execute(statements.ANALYZE_DATASETS)
    cursor.execute(statements.READ_CONTENDED_DATASETS)
    contended = {dataset_id for (dataset_id,) in cursor.fetchall()}
    cursor.execute(statements.INSERT_DATASETS, (list(contended),))
    cursor.execute(statements.INSERT_DATASTORE_RECORDS, (list(contended),))
    return contended


def _claim(cursor: Cursor, batch: Batch) -> Batch:
    """Insert ledger rows and keep the deltas whose rows are ours."""
    batch.rows["merged_attempt"].copy_into(cursor, "staged_ledger")
    claimed = {attempt_id for (attempt_id,) in cursor.execute(statements.CLAIM).fetchall()}
    if len(claimed) == len(batch.deltas):
        return batch
    return make_batch(good for good in batch.deltas if good.delta.attempt_id in claimed)


def _counting(batch: Batch) -> list[Delta]:
    """The deltas whose datasets are to be in the registry, as `collate` chooses them."""
    best: dict[str, Delta] = {}
    for good in batch.deltas:
        if good.delta.status is AttemptStatus.SUCCESSFUL:
            best[good.delta.quantum_id] = good.delta
    return [delta for delta in best.values() if delta.attempt_id not in batch.outranked]
