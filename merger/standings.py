# SPDX-License-Identifier: BSD-3-Clause
"""What the central registry knows of predicted quanta; asked only about what may have changed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from psycopg import Cursor

from merger import standings_statements as statements
from merger.central_registry import CentralRegistry
from merger.delta_checks import Reason
from merger.delta_listing import DeltaListing
from merger.packed_ids import PackedIds, pack_ids, unpack_ids
from merger.predicted_ids import Places, PredictedIds
from merger.quantum_states import Known
from merger.quarantine import Quarantined
from registry import names

_AT_ONCE = 20_000
_OF_STRANGERS = {
    *(Reason.WRONG_KEY, Reason.UNKNOWN_GRAPH, Reason.UNPREDICTED_QUANTUM),
    *(Reason.QUANTUM_OF_OTHER_RUN, Reason.ATTEMPT_OF_OTHER_RUN),
}
"""What is bad about deltas that only carry the id of a quantum: no attempt of it made them."""


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The attempt that counts of a quantum without success, and the number of all."""

    exit_code: int | None
    signal: int | None
    n_attempts: int


def learn(
    known: Known, predicted: PredictedIds, registry: CentralRegistry, listing: DeltaListing | None
) -> None:
    """Ask how the quanta stand that are not merged yet.

    Parameters
    ----------
    listing
        Only quanta with a delta in it can have changed; None asks about all, from the beginning.
    """
    if listing is None:
        known.is_merged[:], known.is_tried[:], known.n_failed[:] = False, False, 0
    places = np.flatnonzero(~known.is_merged).astype(np.int32)
    if listing is not None:
        is_listed = np.zeros(len(predicted), bool)
        is_listed[predicted.places(listing.quanta)] = True
        places = places[is_listed[places]]

    def ask(cursor: Cursor) -> None:
        for asked in _parts(predicted.quanta[places]):
            rows = cursor.execute(statements.READ_STANDINGS, (_array(asked),)).fetchall()
            found = predicted.places(pack_ids([quantum_id for quantum_id, _, _ in rows]))
            known.is_tried[found] = True
            known.is_merged[found] = [is_successful for _, is_successful, _ in rows]
            known.n_failed[found] = [n_failed for _, _, n_failed in rows]

    registry.read_snapshot(ask)


def learn_bad(known: Known, predicted: PredictedIds, found: Iterable[Quarantined]) -> None:
    """Count the deltas of each quantum that are in quarantine, and are not somebody else's."""
    keys = (bad.key for bad in found if bad.reason not in _OF_STRANGERS)
    quanta = [named[0] for named in map(names.parse_delta_key, keys) if named]
    known.n_bad[:] = 0
    np.add.at(known.n_bad, predicted.places(pack_ids(quanta)), 1)


def learn_waiting(
    known: Known, predicted: PredictedIds, left_alone: Iterable[str], forgotten: PackedIds
) -> None:
    """Mark quanta whose deltas this merge leaves alone: these keys, and what is forgotten."""
    found = [named[0] for named in map(names.parse_delta_key, left_alone) if named]
    known.is_waiting[:] = False
    known.is_waiting[predicted.places(pack_ids(found))] = True
    known.is_forgotten[:] = False
    known.is_forgotten[predicted.places(forgotten)] = True


def learn_pending(
    known: Known,
    predicted: PredictedIds,
    registry: CentralRegistry,
    listing: DeltaListing,
    missing: Places,
    bad: Iterable[str],
) -> None:
    """Mark those of some quanta that have a delta listed which nobody has merged yet."""
    known.is_pending = np.zeros(len(predicted), bool)
    listed = listing.attempts[np.isin(listing.quanta, predicted.quanta[missing])]
    attempts = [named[1] for named in map(names.parse_delta_key, bad) if named]
    settled = np.concatenate([pack_ids(attempts), read_merged(registry, listed)])
    left = listing.only(listed).without(settled)
    known.is_pending[predicted.places(left.quanta)] = True


def read_last_attempts(registry: CentralRegistry, quanta: PackedIds) -> dict[str, LastAttempt]:
    """Return how quanta without success ended last, by id; those never tried are left out."""

    def ask(cursor: Cursor) -> dict[str, LastAttempt]:
        return {
            quantum_id: LastAttempt(exit_code, signal, n_attempts)
            for asked in _parts(quanta)
            for quantum_id, exit_code, signal, n_attempts in cursor.execute(
                statements.READ_LAST_ATTEMPTS, (_array(asked),)
            )
        }

    return registry.read_snapshot(ask)


def read_forgotten(registry: CentralRegistry, run: str) -> PackedIds:
    """Return the quanta of a RUN with attempts that were taken out and are not to come back."""

    def ask(cursor: Cursor) -> PackedIds:
        found = cursor.execute(statements.READ_FORGOTTEN, (run,)).fetchone()
        return np.frombuffer(found[0] if found and found[0] else b"", "S16")

    return registry.read_snapshot(ask)


def read_merged(
    registry: CentralRegistry, attempts: PackedIds, *, but_forgotten: bool = False
) -> PackedIds:
    """Return those of some attempts that the ledger has; needs no right but to read.

    Parameters
    ----------
    but_forgotten
        Leave out those that were taken out again.
    """

    def ask(cursor: Cursor) -> list[PackedIds]:
        merged = []
        for asked in _parts(attempts):
            rows = cursor.execute(statements.READ_MERGED, (_array(asked),)).fetchall()
            merged.append(
                pack_ids([a for a, forgotten in rows if not (forgotten and but_forgotten)])
            )
        return merged

    # Without a listing the schema is checked all the same.
    return np.concatenate([np.zeros(0, "S16"), *registry.read_snapshot(ask)])


def _parts(ids: PackedIds) -> Iterator[PackedIds]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


def _array(ids: PackedIds) -> str:
    """Return ids as PostgreSQL writes an array; one text is cheaper than thousands."""
    return "{" + ",".join(unpack_ids(ids)) + "}"
