# SPDX-License-Identifier: BSD-3-Clause
"""The deltas of a RUN as they come: listed again and again, and each read once at most."""

import logging
from collections.abc import Iterable, Mapping

from executor.submit.standings import delta_keys
from registry.delta import Delta, read_delta
from registry.errors import FormatError
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import ObjectStore

_log = logging.getLogger(__name__)


class KnownDeltas:
    """Deltas by quantum; what is written once never changes, so it is kept."""

    def __init__(
        self, store: ObjectStore, run: str, keys: Mapping[str, list[str]] | None = None
    ) -> None:
        self.store = store
        self.run = run
        self._keys = keys or {}
        self._read: dict[str, Delta | None] = {}

    def list_again(self) -> None:
        """Look what deltas there are now; raises `TransferError`."""
        self._keys = delta_keys(self.store, self.run)

    def number_of(self, quantum_id: str) -> int:
        """How many attempts of a quantum left one."""
        return len(self._keys.get(quantum_id, ()))

    def newest_of(self, quantum_ids: Iterable[str]) -> dict[str, Delta]:
        """The newest delta of each quantum that has one which can be read."""
        keys = {q: max(self._keys[q]) for q in dict.fromkeys(quantum_ids) if q in self._keys}
        new = [key for key in keys.values() if key not in self._read]
        self._read.update(map_concurrently(self._fetch, new))
        return {q: delta for q, key in keys.items() if (delta := self._read[key]) is not None}

    def _fetch(self, key: str) -> tuple[str, Delta | None]:
        try:
            return key, read_delta(self.store.get(key), key)
        except FormatError as error:
            _log.warning("%s", error)
            return key, None
