# SPDX-License-Identifier: BSD-3-Clause
"""The careful way: deltas alone in the registry, where every row they meet is looked at."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa
from psycopg import Cursor

from merger import outside_statements, statements
from merger import sifting_statements as sifting
from merger.conflict_policy import ConflictPolicies
from merger.copy_format import CopyRows
from merger.dataset_conflicts import settle_datasets, sides_of
from merger.delta_checks import GoodDelta, Reason
from merger.dimension_conflicts import insert_dimensions
from merger.merge_counts import MergeCounts
from merger.predictions import Predictions
from merger.prepared_batch import encode_deltas, in_order
from merger.quarantine import release
from registry.attempt import AttemptStatus
from registry.delta import Delta


class RowsRefusedError(Exception):
    """Some delta of a batch cannot be inserted; if the batch has one only, it is known which."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CarefulBatch:
    """Deltas in the order of their attempt ids, and their rows ready for COPY by table."""

    deltas: list[GoodDelta]
    rows: dict[str, CopyRows]
    outranked: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, deltas: Iterable[GoodDelta], outranked: Collection[str] = frozenset()
    ) -> "CarefulBatch":
        """Collate and encode deltas.

        Raises
        ------
        RowsRefusedError
            If a value does not fit its column.
        """
        ordered = in_order(list(deltas))
        try:
            rows = encode_deltas(ordered, outranked)
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise RowsRefusedError(Reason.REFUSED_BY_DATABASE, str(error)) from error
        return cls(ordered, rows, frozenset(outranked))


def insert_alone(
    cursor: Cursor, batch: CarefulBatch, predictions: Predictions, policies: ConflictPolicies
) -> MergeCounts:
    """Insert deltas, settling what they have to do with rows of other attempts.

    Raises
    ------
    RowsRefusedError
        If a quantum is in the registry in another RUN.
    merger.conflict_records.ConflictsRefusedError
    """
    cursor.execute(statements.STAGE_BATCH)
    batch = _claim(cursor, batch)
    n_released = release(cursor, predictions.run, (good.key for good in batch.deltas))
    quanta = batch.rows["quantum"]
    quanta.copy_into(cursor, "staged_quantum")
    retired: dict[str, str] = {}
    n_quanta = cursor.execute(statements.INSERT_QUANTA).rowcount
    if n_quanta < quanta.n_rows:
        batch, retired = _meet_quanta(cursor, batch, predictions.run)
    for table in ("attempt", "quantum_input", "metric"):
        batch.rows[table].copy_into(cursor, table)
    records = batch.rows["dimension_source"]
    conflicts = insert_dimensions(cursor, records, careful=True, policies=policies)
    cursor.execute(statements.SUPERSEDE, (list(retired),))
    contended, n_datasets = _insert_uncontended(cursor, batch)
    brought = [side for side in sides_of(_counting(batch)) if side.dataset_id in contended]
    gone = retired | _displaced(cursor, contended)
    if brought or gone:
        made = predictions.outputs_of(gone.values())
        conflicts.add(settle_datasets(cursor, brought, gone.keys(), made, policies))
    counts = _count(cursor, batch)
    counts.n_superseded += len(retired)
    counts.n_conflicts, counts.n_settled = conflicts.n_open, conflicts.n_settled
    counts.rows.update(n_datasets)
    counts.rows.update(conflicts.rows)
    counts.rows.update({"quantum": n_quanta, "quarantine": -n_released})
    return counts


def _claim(cursor: Cursor, batch: CarefulBatch) -> CarefulBatch:
    """Insert ledger rows and keep the deltas whose rows are ours."""
    batch.rows["merged_attempt"].copy_into(cursor, "staged_ledger")
    claimed = {attempt_id for (attempt_id,) in cursor.execute(statements.CLAIM).fetchall()}
    if len(claimed) == len(batch.deltas):
        return batch
    return CarefulBatch.of(good for good in batch.deltas if good.delta.attempt_id in claimed)


def _meet_quanta(
    cursor: Cursor, batch: CarefulBatch, run: str
) -> tuple[CarefulBatch, dict[str, str]]:
    """Compare the batch with the attempts that count so far of quanta that were there.

    Returns
    -------
    batch, retired
        The batch as it counts; attempts that counted and no longer do, each with its quantum.
    """
    successes: dict[str, list[str]] = {}
    for good in batch.deltas:
        if good.delta.status is AttemptStatus.SUCCESSFUL:
            successes.setdefault(good.delta.quantum_id, []).append(good.delta.attempt_id)
    outranked: set[str] = set()
    retired: dict[str, str] = {}
    cursor.execute(statements.LOCK_QUANTA)
    for quantum_id, found_run, status, attempt_id in cursor.fetchall():
        if found_run != run:
            raise RowsRefusedError(
                Reason.QUANTUM_OF_OTHER_RUN, quantum_elsewhere(quantum_id, run, found_run)
            )
        if status == AttemptStatus.SUCCESSFUL and quantum_id in successes:
            outranked.update(a for a in successes[quantum_id] if a < attempt_id)
            if max(successes[quantum_id]) > attempt_id:
                retired[attempt_id] = quantum_id
    cursor.execute(statements.RAISE_QUANTA)
    return (CarefulBatch.of(batch.deltas, outranked) if outranked else batch), retired


def quantum_elsewhere(quantum_id: str, run: str, found_run: str) -> str:
    """Return the message for a quantum that the registry has in another RUN."""
    return f"expected quantum {quantum_id!r} in RUN {run!r}, found it in RUN {found_run!r}"


def _insert_uncontended(cursor: Cursor, batch: CarefulBatch) -> tuple[set[str], dict[str, int]]:
    """Insert the datasets that have nothing to do with any other.

    Returns
    -------
    contended, n_rows
        Ids of the others; rows inserted, by table.
    """
    cursor.execute(statements.STAGE_DATASETS)
    batch.rows["dataset"].copy_into(cursor, "staged_dataset")
    batch.rows["datastore_record"].copy_into(cursor, "staged_record")
    cursor.execute(statements.ANALYZE_DATASETS)
    cursor.execute(statements.READ_CONTENDED_DATASETS)
    contended = {dataset_id for (dataset_id,) in cursor.fetchall()}
    others = (list(contended),)
    return contended, {
        "dataset": cursor.execute(statements.INSERT_DATASETS, others).rowcount,
        "datastore_record": cursor.execute(statements.INSERT_DATASTORE_RECORDS, others).rowcount,
    }


def _displaced(cursor: Cursor, contended: Collection[str]) -> dict[str, str]:
    """Return attempts that do not count, with their quanta, that have some of these datasets."""
    if not contended:
        return {}
    cursor.execute(outside_statements.READ_DISPLACED, {"dataset_ids": list(contended)})
    return dict(cursor.fetchall())


def _counting(batch: CarefulBatch) -> list[Delta]:
    """The deltas whose datasets are to be in the registry, as `collate` chooses them."""
    best: dict[str, Delta] = {}
    for good in batch.deltas:
        if good.delta.status is AttemptStatus.SUCCESSFUL:
            best[good.delta.quantum_id] = good.delta
    return [delta for delta in best.values() if delta.attempt_id not in batch.outranked]


def _count(cursor: Cursor, batch: CarefulBatch) -> MergeCounts:
    n_datasets = batch.rows["dataset"].n_rows
    counts = MergeCounts(len(batch.deltas), n_datasets=n_datasets)
    as_they_are = ("merged_attempt", "attempt", "quantum_input", "metric")
    counts.rows.update({table: batch.rows[table].n_rows for table in as_they_are})
    if n_datasets:
        (counts.n_skipped,) = cursor.execute(sifting.COUNT_SKIPPED).fetchone() or (0,)
    attempts = [good.delta.attempt_id for good in batch.deltas]
    (counts.n_superseded,) = cursor.execute(sifting.COUNT_SUPERSEDED, (attempts,)).fetchone() or (
        0,
    )
    return counts
