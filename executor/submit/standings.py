# SPDX-License-Identifier: BSD-3-Clause
"""Which quanta of a RUN have a valid successful delta: the only thing that *done* means."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from registry import names
from registry.delta import Delta
from registry.structs import read_delta_fast
from transfer_plugins.concurrency import CONCURRENT_TRANSFERS, map_concurrently
from transfer_plugins.deltas import IsTrusted, Standing, standing_among
from transfer_plugins.object_store import ObjectStore
from transfer_plugins.s3_bulk_reading import for_bulk_reading

# A thread is told several: that costs more than a delta, once it is here.
_MOST_TOLD = 32
_THREADS_FOR_FILES = 4

RuleOf = Callable[[str], IsTrusted]
"""Gives the rule by which deltas of a quantum count."""


def counting_deltas(
    store: ObjectStore,
    run: str,
    quantum_ids: Iterable[str] | None = None,
    rule_of: RuleOf | None = None,
) -> dict[str, Delta]:
    """Return the delta that counts, by quantum id, of every quantum that succeeded.

    Parameters
    ----------
    quantum_ids
        The quanta to look at, if not all that have deltas.
    rule_of
        What is predicted of them, if it is known: other deltas do not count.
    """
    store = for_bulk_reading(store)
    keys = delta_keys(store, run)
    wanted = keys if quantum_ids is None else [q for q in quantum_ids if q in keys]
    standings = standings_among(store, keys, wanted, rule_of)
    return {quantum_id: s.counting for quantum_id, s in standings.items() if s.counting}


def delta_keys(store: ObjectStore, run: str) -> dict[str, list[str]]:
    """List the keys of all deltas of a RUN, by quantum id."""
    keys: dict[str, set[str]] = defaultdict(set)
    for key in for_bulk_reading(store).list_keys(names.delta_prefix(run)):
        parsed = names.parse_delta_key(key)
        if parsed:
            keys[parsed[0]].add(key)
    return {quantum_id: sorted(found) for quantum_id, found in keys.items()}


def standings_among(
    store: ObjectStore,
    keys: Mapping[str, list[str]],
    quantum_ids: Iterable[str],
    rule_of: RuleOf | None = None,
) -> dict[str, Standing]:
    """Tell how some quanta stand from the keys of all deltas; many are read at once."""
    wanted, reading = list(quantum_ids), for_bulk_reading(store)
    threads = _THREADS_FOR_FILES if store.is_local else CONCURRENT_TRANSFERS

    def stand(quantum_id: str) -> Standing:
        rule = rule_of(quantum_id) if rule_of else None
        found = keys.get(quantum_id, [])
        return standing_among(reading, found, is_trusted=rule, read=read_delta_fast)

    def stand_some(told: tuple[str, ...]) -> list[Standing]:
        return [stand(quantum_id) for quantum_id in told]

    found = map_concurrently(stand_some, _divided(wanted, threads), threads)
    return dict(zip(wanted, itertools.chain.from_iterable(found), strict=True))


def _divided(wanted: list[str], threads: int) -> Iterator[tuple[str, ...]]:
    """Some quanta for each thread at a time, so that all have some if there are few."""
    size = max(1, min(_MOST_TOLD, len(wanted) // (threads * 4)))
    for start in range(0, len(wanted), size):
        yield tuple(wanted[start : start + size])
