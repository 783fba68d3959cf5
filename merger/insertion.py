# SPDX-License-Identifier: BSD-3-Clause
"""One batch of deltas into the registry: the way it goes, and who in it is to blame."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import psycopg
from psycopg import Cursor

from merger import lease_statements
from merger.careful_way import CarefulBatch, RowsRefusedError, insert_alone, quantum_elsewhere
from merger.central_registry import CentralRegistry
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.conflict_records import ConflictsRefusedError, NeedsCareError, Refusal
from merger.delta_checks import BadDelta, GoodDelta, Reason
from merger.graph_rows import GraphRows
from merger.leases import give_back
from merger.merge_counts import MergeCounts
from merger.plain_way import AttemptsMergedError, insert_plain, insert_sifted
from merger.predictions import Predictions
from merger.prepared import DeltaReader
from merger.prepared_batch import PreparedBatch
from merger.refused_rows import REFUSALS, find_refused, refusal

T = TypeVar("T")

_SIFTED_AGAIN = 3
"""Times that other mergers may bring something in the middle of it."""

_FEW = 8
"""As many are tried one by one, when some of them is refused."""


@dataclass(slots=True)
class Inserted:
    """What was merged of a batch, and what could not be."""

    counts: MergeCounts = field(default_factory=MergeCounts)
    bad: list[BadDelta] = field(default_factory=list)
    """Deltas that PostgreSQL refused."""
    refused: list[Refusal] = field(default_factory=list)
    """Attempts left unmerged by policy ``fail``."""


class Insertion:
    """Inserts batches of one RUN through one connection, each in one transaction if all is well.

    A batch goes the plain way; if it meets something, sifted. After a batch of which anything
    was left out so do the following ones, until one is clean: conflicts seldom come alone, and a
    batch that is tried twice costs twice. What was left out goes the careful way at once.
    """

    def __init__(
        self,
        registry: CentralRegistry,
        reader: DeltaReader,
        predictions: Predictions,
        graph_rows: GraphRows,
        policies: ConflictPolicies = DEFER_ALL,
    ) -> None:
        self._registry = registry
        self._reader = reader
        self._predictions = predictions
        self._graph_rows = graph_rows
        self._policies = policies
        self._sifts = False

    def insert(self, batch: PreparedBatch, lease_id: str | None = None) -> Inserted:
        """Insert deltas; those that PostgreSQL refuses are found by halving.

        Parameters
        ----------
        lease_id
            Is given back with the rows.

        Raises
        ------
        merger.central_registry.CentralRegistryError
        transfer_plugins.object_store.TransferError
            If deltas have to be read again, and cannot be.
        """
        done = Inserted()
        with done.counts.timed("insert"):
            leases = [lease_id] if lease_id else []
            if batch.keys:
                self._graph_rows.ensure(self._registry)
                self._insert_or_split(batch, done, leases)
            if leases:
                self._registry.transact(lambda cursor: give_back(cursor, leases))
        return done

    def _insert_or_split(self, batch: PreparedBatch, done: Inserted, leases: list[str]) -> None:
        if batch.rows is None:
            self._insert_read_again(self._load(batch.keys), done)
            return
        try:
            self._insert(batch, done, leases)
        except RowsRefusedError as error:
            self._split(self._load(batch.keys), error, done)

    def _insert_read_again(self, deltas: list[GoodDelta], done: Inserted) -> None:
        try:
            self._insert(_prepared(deltas), done, [])
        except RowsRefusedError as error:
            self._split(deltas, error, done)

    def _split(self, deltas: list[GoodDelta], error: RowsRefusedError, done: Inserted) -> None:
        """Insert the parts of a batch that was refused as a whole."""
        for part in self._parts(deltas, error, done):
            self._insert_read_again(part, done)

    def _parts(
        self, deltas: list[GoodDelta], error: RowsRefusedError, done: Inserted
    ) -> Iterator[list[GoodDelta]]:
        """Give what may be inserted of deltas that were refused: all but those to blame.

        Nobody is to blame whose rows are refused only beside others that are there; then two
        halves, or single deltas if there are few.
        """
        n_deltas = len(deltas)
        if n_deltas == 1:
            done.bad.append(_bad(deltas[0].key, error.reason, str(error)))
            return
        found = self._registry.transact(lambda cursor: find_refused(cursor, deltas))
        for each in deltas:
            if message := found.get(each.delta.attempt_id):
                done.bad.append(_bad(each.key, Reason.REFUSED_BY_DATABASE, message))
        left = [each for each in deltas if each.delta.attempt_id not in found]
        size = len(left) if found else ((n_deltas + 1) // 2 if n_deltas > _FEW else 1)
        for start in range(0, len(left), max(size, 1)):
            yield left[start : start + size]

    def _insert(self, batch: PreparedBatch, done: Inserted, leases: list[str]) -> None:
        """Insert a batch as a whole, but for what goes the careful way.

        Raises
        ------
        RowsRefusedError
            If nothing of it was inserted.
        """
        n_sifted = 0
        while batch.keys:
            try:
                if self._sifts:
                    self._finish_sifted(batch, done)
                else:
                    self._insert_plain(batch, done, leases)
                return
            except AttemptsMergedError:
                batch = self._without_merged(batch, done)
            except NeedsCareError:
                n_sifted += self._sifts
                self._sifts = True
                if n_sifted == _SIFTED_AGAIN:
                    return self._insert_alone(self._load(batch.keys), done)

    def _insert_plain(self, batch: PreparedBatch, done: Inserted, leases: list[str]) -> None:
        run = self._predictions.run

        def insert(cursor: Cursor) -> MergeCounts:
            counts = insert_plain(cursor, batch, run)
            give_back(cursor, leases)
            return counts

        counts = self._transact(insert)
        leases.clear()
        done.counts.add(counts)

    def _finish_sifted(self, batch: PreparedBatch, done: Inserted) -> None:
        run = self._predictions.run
        sifted = self._transact(lambda cursor: insert_sifted(cursor, batch, run))
        done.counts.add(sifted.counts)
        self._sifts = bool(sifted.deferred)
        keys = dict(zip(batch.attempt_ids, batch.keys, strict=True))
        for attempt_id, (quantum_id, found_run) in sifted.elsewhere.items():
            message = quantum_elsewhere(quantum_id, run, found_run)
            done.bad.append(_bad(keys[attempt_id], Reason.QUANTUM_OF_OTHER_RUN, message))
        if sifted.deferred:
            self._insert_alone(self._load([keys[a] for a in sifted.deferred]), done)

    def _insert_alone(self, deltas: list[GoodDelta], done: Inserted) -> None:
        """Insert deltas on the careful way; those that cannot be are found."""
        if not deltas:
            return
        try:
            batch = CarefulBatch.of(deltas)
            with done.counts.timed("careful"):
                counts = self._transact(
                    lambda cursor: insert_alone(cursor, batch, self._predictions, self._policies),
                    alone=True,
                )
            done.counts.add(counts)
        except ConflictsRefusedError as error:
            done.refused += error.refusals
            refused = {refusal.attempt_id for refusal in error.refusals}
            self._insert_alone([d for d in deltas if d.delta.attempt_id not in refused], done)
        except RowsRefusedError as error:
            for part in self._parts(deltas, error, done):
                self._insert_alone(part, done)

    def _without_merged(self, batch: PreparedBatch, done: Inserted) -> PreparedBatch:
        """Prepare again what another merger has not merged meanwhile."""

        def read(cursor: Cursor) -> dict[str, str]:
            cursor.execute(lease_statements.READ_MERGED, (batch.attempt_ids,))
            return dict(cursor.fetchall())

        run, merged, rest = self._predictions.run, self._registry.transact(read), []
        for key, attempt_id in zip(batch.keys, batch.attempt_ids, strict=True):
            found = merged.get(attempt_id)
            if found is None:
                rest.append(key)
            elif found != run:
                message = (
                    f"expected an attempt of RUN {run!r}, found {attempt_id!r} in the ledger as "
                    f"one of RUN {found!r}; run the quantum again, or give the delta up"
                )
                done.bad.append(_bad(key, Reason.ATTEMPT_OF_OTHER_RUN, message))
        return _prepared(self._load(rest))

    def _load(self, keys: Sequence[str]) -> list[GoodDelta]:
        return self._reader.load(keys) if keys else []

    def _transact(self, work: Callable[[Cursor], T], *, alone: bool = False) -> T:
        """Run a transaction that inserts rows.

        Raises
        ------
        RowsRefusedError
            If PostgreSQL does not take the rows.
        """
        try:
            try:
                return self._registry.transact(work, alone=alone)
            except psycopg.errors.ForeignKeyViolation:
                # The RUN may have been forgotten since its rows were ensured.
                self._graph_rows.ensure(self._registry, again=True)
                return self._registry.transact(work, alone=alone)
        except REFUSALS as error:
            raise RowsRefusedError(Reason.REFUSED_BY_DATABASE, refusal(error)) from error


def _prepared(deltas: list[GoodDelta]) -> PreparedBatch:
    """Encode deltas that were read again.

    Raises
    ------
    RowsRefusedError
        If a value does not fit its column.
    """
    batch = CarefulBatch.of(deltas)
    keys = [good.key for good in batch.deltas]
    attempt_ids = [good.delta.attempt_id for good in batch.deltas]
    return PreparedBatch(keys, attempt_ids, batch.rows, [], [], len(keys))


def _bad(key: str, reason: Reason, message: str) -> BadDelta:
    return BadDelta(key, reason, f"delta {key!r}: {message}")
