# SPDX-License-Identifier: BSD-3-Clause
"""The ways of a batch beside those of other mergers: plain, and sifted.

The *plain* way COPYs every row where it belongs, and ends as soon as it meets anything that other
attempts brought. The *sifted* way finds what does and leaves out the quanta that it concerns;
they go the careful way, alone in the registry.
"""

from dataclasses import dataclass, field

import psycopg
from psycopg import Cursor

from merger import sifting_statements as sifting
from merger import statements
from merger.conflict_records import NeedsCareError
from merger.copy_format import CopyRows
from merger.dimension_conflicts import insert_dimensions
from merger.merge_counts import MergeCounts
from merger.prepared_batch import PreparedBatch
from merger.quarantine import release

Rows = dict[str, CopyRows]


class AttemptsMergedError(Exception):
    """The ledger has some attempts of a batch already; nothing of the batch was inserted."""


@dataclass(slots=True)
class Sifted:
    """What a batch came to that was sifted.

    Attributes
    ----------
    deferred
        Attempts that need care; nothing of them was inserted.
    elsewhere
        Attempts whose quantum the registry has in another RUN: the ids of both.
    """

    counts: MergeCounts
    deferred: list[str] = field(default_factory=list)
    elsewhere: dict[str, tuple[str, str]] = field(default_factory=dict)


def insert_plain(cursor: Cursor, batch: PreparedBatch, run: str) -> MergeCounts:
    """Insert a batch that meets nothing of other attempts.

    Raises
    ------
    NeedsCareError
        If it does meet something.
    AttemptsMergedError
    """
    rows = _rows(batch)
    _claim(cursor, rows)
    n_released = release(cursor, run, batch.keys)
    n_quanta = rows["quantum"].n_rows
    if not _copy_quanta(cursor, rows["quantum"]):
        n_quanta = _stage_quanta(cursor, rows["quantum"], run)
    for table in ("attempt", "quantum_input", "metric"):
        rows[table].copy_into(cursor, table)
    dimensions = insert_dimensions(cursor, rows["dimension_source"], careful=False)
    if _touches_conflict(cursor, rows["dataset"]):
        raise NeedsCareError
    try:
        # Straight into the table: staging first costs half as much again, and a key that is
        # taken ends the plain way whichever way it is found.
        rows["dataset"].copy_into(cursor, "dataset")
    except psycopg.errors.UniqueViolation as error:
        raise NeedsCareError from error
    rows["datastore_record"].copy_into(cursor, "datastore_record")
    counts = _count(cursor, batch, rows)
    counts.rows.update(dimensions.rows)
    counts.rows.update({"quantum": n_quanta, "quarantine": -n_released})
    return counts


def insert_sifted(cursor: Cursor, batch: PreparedBatch, run: str) -> Sifted:
    """Insert what of a batch meets nothing of other attempts.

    Raises
    ------
    NeedsCareError
        If other mergers brought something meanwhile; sifted again it is found.
    AttemptsMergedError
    """
    rows = _rows(batch)
    _claim(cursor, rows)
    _stage(cursor, rows)
    n_quanta = _sift(cursor, run)
    sifted = Sifted(MergeCounts())
    for attempt_id, quantum_id, other_run in cursor.execute(sifting.READ_SIFTED).fetchall():
        if other_run is None:
            sifted.deferred.append(attempt_id)
        else:
            sifted.elsewhere[attempt_id] = (quantum_id, other_run)
    left_out = {*sifted.deferred, *sifted.elsewhere}
    kept = [a for a in batch.attempt_ids if a not in left_out]
    _unstage(cursor, list(left_out))
    n_released = release(
        cursor,
        run,
        (k for k, a in zip(batch.keys, batch.attempt_ids, strict=True) if a not in left_out),
    )
    sifted.counts = _insert_staged(cursor, rows, list(left_out))
    sifted.counts.n_deltas = len(kept)
    sifted.counts.rows.update(
        {"merged_attempt": len(kept), "quantum": n_quanta, "quarantine": -n_released}
    )
    sifted.counts.n_superseded = _count_superseded(cursor, kept)
    return sifted


def _rows(batch: PreparedBatch) -> Rows:
    assert batch.rows is not None, "a batch with rows that fit no column is split before"
    return batch.rows


def _claim(cursor: Cursor, rows: Rows) -> None:
    """Whoever inserts the ledger row merges the delta."""
    try:
        rows["merged_attempt"].copy_into(cursor, "merged_attempt")
    except psycopg.errors.UniqueViolation as error:
        raise AttemptsMergedError from error


def _copy_quanta(cursor: Cursor, quanta: CopyRows) -> bool:
    """Insert quanta that are all new; tells whether they were."""
    try:
        with cursor.connection.transaction():
            quanta.copy_into(cursor, "quantum")
    except psycopg.errors.UniqueViolation:
        return False
    return True


def _stage_quanta(cursor: Cursor, quanta: CopyRows, run: str) -> int:
    """Insert quanta of which some failed before; returns how many are new."""
    cursor.execute(sifting.STAGE_QUANTA)
    quanta.copy_into(cursor, "staged_quantum")
    n_new = cursor.execute(statements.INSERT_QUANTA).rowcount
    if n_new == quanta.n_rows:
        return n_new
    for _, found_run, has_success in cursor.execute(sifting.LOCK_MET_QUANTA).fetchall():
        if has_success or found_run != run:
            raise NeedsCareError
    cursor.execute(statements.RAISE_QUANTA)
    return n_new


def _touches_conflict(cursor: Cursor, datasets: CopyRows) -> bool:
    """Tell whether a dataset claims a key that a recorded conflict is about."""
    if (False,) == cursor.execute(statements.HAS_DATASET_CONFLICTS).fetchone():
        return False
    cursor.execute(statements.STAGE_DATASETS)
    datasets.copy_into(cursor, "staged_dataset")
    return (True,) == cursor.execute(statements.TOUCHES_DATASET_CONFLICT).fetchone()


def _count(cursor: Cursor, batch: PreparedBatch, rows: Rows) -> MergeCounts:
    counts = MergeCounts(len(batch.keys), n_datasets=rows["dataset"].n_rows)
    own = rows.keys() - {"quantum", "dimension_source"}
    counts.rows.update({table: rows[table].n_rows for table in own})
    if rows["quantum"].n_rows < len(batch.keys):
        # Only then has a quantum several attempts here.
        counts.n_superseded = _count_superseded(cursor, batch.attempt_ids)
    return counts


def _count_superseded(cursor: Cursor, attempt_ids: list[str]) -> int:
    (number,) = cursor.execute(sifting.COUNT_SUPERSEDED, (attempt_ids,)).fetchone() or (0,)
    return int(number)


def _stage(cursor: Cursor, rows: Rows) -> None:
    cursor.execute(sifting.STAGE)
    cursor.execute(statements.STAGE_DATASETS)
    cursor.execute(statements.STAGE_DIMENSIONS)
    rows["quantum"].copy_into(cursor, "staged_quantum")
    rows["attempt"].copy_into(cursor, "staged_attempt")
    rows["dataset"].copy_into(cursor, "staged_dataset")
    rows["datastore_record"].copy_into(cursor, "staged_record")
    rows["dimension_source"].copy_into(cursor, "staged_dimension")
    cursor.execute(sifting.ANALYZE)


def _sift(cursor: Cursor, run: str) -> int:
    """Insert the quanta, and find those that are to be left out; returns how many are new."""
    contended = cursor.execute(statements.READ_CONTENDED_DATASETS).fetchall()
    cursor.execute(sifting.SIFT_CONTENDED, ([dataset_id for (dataset_id,) in contended],))
    cursor.execute(sifting.UNSTAGE_QUANTA)
    n_new = cursor.execute(statements.INSERT_QUANTA).rowcount
    met = [
        (quantum_id, found_run if found_run != run else None)
        for quantum_id, found_run, has_success in cursor.execute(sifting.LOCK_MET_QUANTA)
        if has_success or found_run != run
    ]
    cursor.execute(sifting.SIFT_QUANTA, ([q for q, _ in met], [other for _, other in met]))
    cursor.execute(sifting.UNSTAGE_QUANTA)
    cursor.execute(statements.RAISE_QUANTA)
    return n_new


def _unstage(cursor: Cursor, left_out: list[str]) -> None:
    if left_out:
        cursor.execute(sifting.UNCLAIM, (left_out,))
        cursor.execute(sifting.UNSTAGE_RECORDS)
        cursor.execute(sifting.UNSTAGE_DATASETS)
        cursor.execute(sifting.UNSTAGE_DIMENSIONS)
        cursor.execute(sifting.UNSTAGE_ATTEMPTS)


def _insert_staged(cursor: Cursor, rows: Rows, left_out: list[str]) -> MergeCounts:
    counts = MergeCounts()
    counts.rows["attempt"] = cursor.execute(sifting.INSERT_ATTEMPTS).rowcount
    for table, delete in (
        ("quantum_input", sifting.DELETE_INPUTS),
        ("metric", sifting.DELETE_METRICS),
    ):
        rows[table].copy_into(cursor, table)
        n_deleted = cursor.execute(delete, (left_out,)).rowcount if left_out else 0
        counts.rows[table] = rows[table].n_rows - n_deleted
    counts.rows["dimension_source"] = cursor.execute(statements.INSERT_DIMENSION_SOURCES).rowcount
    counts.rows["dimension_record"] = cursor.execute(statements.INSERT_DIMENSIONS).rowcount
    if cursor.execute(statements.READ_CONTENDED_DIMENSIONS).fetchone() is not None:
        raise NeedsCareError
    try:
        counts.n_datasets = cursor.execute(sifting.INSERT_DATASETS).rowcount
    except psycopg.errors.UniqueViolation as error:
        raise NeedsCareError from error
    counts.rows["dataset"] = counts.n_datasets
    counts.rows["datastore_record"] = cursor.execute(sifting.INSERT_RECORDS).rowcount
    return counts
