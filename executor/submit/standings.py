# SPDX-License-Identifier: BSD-3-Clause
"""Which quanta of a RUN have a valid successful delta: the only thing that *done* means."""

from collections import defaultdict

from registry import names
from registry.delta import Delta
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.deltas import standing_among
from transfer_plugins.object_store import ObjectStore


def counting_deltas(store: ObjectStore, run: str) -> dict[str, Delta]:
    """Return the delta that counts, by quantum id, of every quantum that succeeded."""
    keys: dict[str, list[str]] = defaultdict(list)
    for stored in store.list_objects(names.delta_prefix(run)):
        parsed = names.parse_delta_key(stored.key)
        if parsed:
            keys[parsed[0]].append(stored.key)
    standings = map_concurrently(lambda q: (q, standing_among(store, keys[q])), keys)
    return {quantum_id: s.counting for quantum_id, s in standings if s.counting}
