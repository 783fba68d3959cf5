# SPDX-License-Identifier: BSD-3-Clause
"""Which deltas a merger takes next, so that several mergers of a RUN do not do the same work.

A lease says that a merger works on the unmerged deltas of a range of attempts, for a while by the
clock of the database. It only saves work: correctness lies in the ledger alone, so a lease may be
lost, expire, or be held twice. That of a merger that was killed ends by itself.
"""

import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import psycopg
from psycopg import Cursor

from merger import lease_statements as statements
from merger.central_registry import CentralRegistry
from merger.delta_listing import DeltaListing, PackedIds, pack_ids, unpack_ids
from registry.errors import QuantumExecError

DEFAULT_LEASE_S = 60.0
"""Long enough to read and insert a batch; it is renewed while that lasts."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Deltas that a merger has leased, in the order of their attempts."""

    lease_id: str
    keys: list[str]


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking for deltas: a claim, or how long to wait at most, or nothing is left."""

    claim: Claim | None = None
    wait_s: float | None = None


class Leases:
    """The unmerged deltas of a listing, and the leases that this merger has on them.

    May be used by several threads, each with its own connection.
    """

    def __init__(self, unmerged: DeltaListing, *, lease_s: float = DEFAULT_LEASE_S) -> None:
        self.run = unmerged.run
        self._left = unmerged
        self._lease_s = lease_s
        self._held: dict[str, float] = {}
        self._lock = threading.Lock()
        self.n_taken_over = 0
        """Leases of other mergers that had expired."""
        self.n_by_others = 0
        """Deltas that another merger merged meanwhile."""

    @property
    def n_left(self) -> int:
        """Deltas that nobody has taken, or that are not known to be taken by others."""
        return len(self._left)

    def take(self, registry: CentralRegistry, size: int) -> Taken:
        """Lease the next deltas that nobody else has leased or merged."""
        with self._lock:
            if not len(self._left):
                return Taken()
            started = time.monotonic()
            # Named before: if the answer to a COMMIT is lost, the lease is found to be ours.
            lease_id = str(uuid.uuid4())
            chosen = registry.transact(lambda cursor: self._choose(cursor, lease_id, size))
            self.n_taken_over += chosen.n_expired
            self.n_by_others += len(self._left) - len(chosen.left) - len(chosen.taken)
            self._left = chosen.left
            if len(chosen.taken):
                self._held = dict.fromkeys([*self._held, lease_id], started)
                return Taken(Claim(lease_id, chosen.taken.keys()))
            return Taken(wait_s=chosen.wait_s) if len(self._left) else Taken()

    def renew(self, registry: CentralRegistry) -> None:
        """Keep all leases for some more time, if that is getting short."""
        with self._lock:
            started = time.monotonic()
            if self._held and started - min(self._held.values()) > self._lease_s / 3:
                held = list(self._held)
                registry.transact(lambda cursor: self._renew(cursor, held))
                self._held = dict.fromkeys(held, started)

    def returned(self, lease_id: str) -> None:
        """A transaction that gave a lease back was committed."""
        with self._lock:
            self._held.pop(lease_id, None)

    def give_back(self, registry: CentralRegistry) -> None:
        """Give all leases back, or let them expire if that is not possible at once."""
        with self._lock:
            held = list(self._held)
            self._held = {}
            if held:
                with suppress(psycopg.Error, QuantumExecError):
                    registry.transact(lambda cursor: give_back(cursor, held), once=True)

    def _choose(self, cursor: Cursor, lease_id: str, size: int) -> "_Chosen":
        cursor.execute(statements.BEGIN_LEASING)
        cursor.execute(statements.LOCK_LEASES, (self.run,))
        ours = [*self._held, lease_id]
        n_expired = cursor.execute(statements.DELETE_EXPIRED, (self.run, ours)).rowcount
        self._renew(cursor, ours)
        others = cursor.execute(statements.READ_LEASES, (self.run, ours)).fetchall()
        left = self._left
        while len(left):
            start, stop = _free(left, [(o[0].bytes, o[1].bytes) for o in others], size)
            if start == stop:
                break
            first, last = unpack_ids(left.attempts[[start, stop - 1]])
            cursor.execute(statements.READ_MERGED_BETWEEN, (self.run, first, last))
            merged = pack_ids([attempt_id for (attempt_id,) in cursor.fetchall()])
            taken = _part(left, start, stop).without(merged)
            left = _without_part(left, start, stop)
            if len(taken):
                row = (lease_id, self.run, first, last, self._lease_s)
                cursor.execute(statements.INSERT_LEASE, row)
                return _Chosen(left, taken, n_expired)
        nothing = _part(left, 0, 0)
        return _Chosen(left, nothing, n_expired, min((o[2] for o in others), default=0.0))

    def _renew(self, cursor: Cursor, held: list[str]) -> None:
        if held:
            cursor.execute(statements.RENEW_LEASES, (self._lease_s, held))


@dataclass(frozen=True, slots=True)
class _Chosen:
    left: DeltaListing
    taken: DeltaListing
    n_expired: int
    wait_s: float = 0.0


def give_back(cursor: Cursor, lease_ids: Sequence[str]) -> None:
    """Give leases back in the transaction that inserted what they were for."""
    cursor.execute(statements.DELETE_LEASES, (list(lease_ids),))


def read_unmerged(registry: CentralRegistry, listing: DeltaListing) -> DeltaListing:
    """Return the part of a listing that the ledger lacks; strangers are left out.

    Raises
    ------
    central_registry.CentralRegistryError
    """

    def read(cursor: Cursor) -> PackedIds:
        cursor.execute(statements.READ_MERGED_OF_RUN, (listing.run,), binary=True)
        (merged,) = cursor.fetchone() or (None,)
        return np.frombuffer(merged, "S16") if merged else pack_ids([])

    if not len(listing):
        return listing
    merged = registry.transact(read)
    # A RUN that is merged is the usual case, and told without looking for each attempt.
    is_all = merged.tobytes() == listing.attempts.tobytes()
    return _part(listing, 0, 0) if is_all else listing.without(merged)


def _free(left: DeltaListing, ranges: list[tuple[bytes, bytes]], size: int) -> tuple[int, int]:
    """Return the first part of a listing, of this size at most, that lies in no range."""
    start, limit = 0, len(left)
    for first, last in sorted(ranges):
        low = int(np.searchsorted(left.attempts, np.array(first, "S16"), "left"))
        high = int(np.searchsorted(left.attempts, np.array(last, "S16"), "right"))
        if low > start:
            limit = low
            break
        start = max(start, high)
    return start, min(start + size, limit)


def _part(listing: DeltaListing, start: int, stop: int) -> DeltaListing:
    part = slice(start, stop)
    return DeltaListing(listing.run, listing.attempts[part], listing.quanta[part])


def _without_part(listing: DeltaListing, start: int, stop: int) -> DeltaListing:
    if start == 0:
        return _part(listing, stop, len(listing))
    attempts, quanta = (
        np.concatenate((column[:start], column[stop:]))
        for column in (listing.attempts, listing.quanta)
    )
    return DeltaListing(listing.run, attempts, quanta)
