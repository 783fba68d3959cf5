# SPDX-License-Identifier: BSD-3-Clause
"""Finding the attempt of a quantum that counts, from a listing of its deltas."""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from registry import names
from registry.attempt import AttemptStatus
from registry.delta import Delta, names_only_predicted, read_delta
from registry.errors import FormatError
from transfer_plugins.object_store import ObjectStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a quantum stands: the delta that counts, if any, and its newest attempt id."""

    counting: Delta | None
    newest_attempt: str | None


def standing_of(
    store: ObjectStore, run: str, quantum_id: str, outputs: Collection[str] | None = None
) -> Standing:
    """Ask the bucket how a quantum stands.

    Of several successful attempts the one with the highest id counts. A delta that cannot be
    verified counts as nothing, and so does one that names other datasets than ``outputs``, the
    ids of the predicted ones, if they are given: the merger puts both into quarantine.
    """
    listed = store.list_objects(names.delta_prefix(run, quantum_id))
    return standing_among(store, [stored.key for stored in listed], outputs)


def standing_among(
    store: ObjectStore, keys: list[str], outputs: Collection[str] | None = None
) -> Standing:
    """Tell how a quantum stands from the keys of all its deltas; reads as few as it can."""
    attempts = {parsed[1]: key for key in keys if (parsed := names.parse_delta_key(key))}
    newest_first = sorted(attempts, reverse=True)
    for attempt_id in newest_first:
        key = attempts[attempt_id]
        try:
            delta = read_delta(store.get(key), key)
        except FormatError as error:
            _log.warning("%s", error)
            continue
        if outputs is not None and not names_only_predicted(delta, outputs):
            _log.warning("delta %r: names outputs that are not predicted, and does not count", key)
        elif delta.status is AttemptStatus.SUCCESSFUL:
            return Standing(delta, newest_first[0])
    return Standing(None, newest_first[0] if newest_first else None)
