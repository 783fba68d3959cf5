# SPDX-License-Identifier: BSD-3-Clause
"""Which quanta of a RUN have a valid successful delta: the only thing that *done* means."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from registry import names
from registry.delta import Delta
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.deltas import IsTrusted, Standing, standing_among
from transfer_plugins.object_store import ObjectStore

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
    keys = delta_keys(store, run)
    wanted = keys if quantum_ids is None else [q for q in quantum_ids if q in keys]
    standings = standings_among(store, keys, wanted, rule_of)
    return {quantum_id: s.counting for quantum_id, s in standings.items() if s.counting}


def delta_keys(store: ObjectStore, run: str) -> dict[str, list[str]]:
    """List the keys of all deltas of a RUN, by quantum id."""
    keys: dict[str, list[str]] = defaultdict(list)
    for stored in store.list_objects(names.delta_prefix(run)):
        parsed = names.parse_delta_key(stored.key)
        if parsed:
            keys[parsed[0]].append(stored.key)
    return dict(keys)


def standings_among(
    store: ObjectStore,
    keys: Mapping[str, list[str]],
    quantum_ids: Iterable[str],
    rule_of: RuleOf | None = None,
) -> dict[str, Standing]:
    """Tell how some quanta stand from the keys of all deltas; many are read at once."""

    def stand(quantum_id: str) -> tuple[str, Standing]:
        rule = rule_of(quantum_id) if rule_of else None
        return quantum_id, standing_among(store, keys.get(quantum_id, []), is_trusted=rule)

    return dict(map_concurrently(stand, quantum_ids))
