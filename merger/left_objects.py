# SPDX-License-Identifier: BSD-3-Clause
"""Objects that are in the bucket and in no datastore record: whose they are, and why, for verify.

Nothing here is a difference. An attempt that was overtaken, or that died before its delta was
there, leaves objects behind; they harm nobody and cost space.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np

from merger.dataset_conflicts import Side
from merger.delta_listing import DeltaListing
from merger.findings import LeftObject, SupersededAttempt
from merger.listed_objects import short_attempt_in, without_attempt
from merger.packed_ids import unpack_ids
from merger.registry_comparison import ExpectedRows, Made
from merger.registry_rows import RegistryRows
from registry import names
from registry.attempt import short_attempt


class KnownAttempts:
    """Attempts that left a delta or a row in the ledger, by what keys of datasets have of them.

    Parameters
    ----------
    listings
        Attempts with their quanta.
    """

    def __init__(self, listings: Sequence[DeltaListing]) -> None:
        attempts = np.concatenate([listing.attempts for listing in listings])
        quanta = np.concatenate([listing.quanta for listing in listings])
        digits = np.ascontiguousarray(attempts).view(np.uint8).reshape(-1, 16)
        shorts = np.concatenate([digits[:, :6], digits[:, 12:]], axis=1).reshape(-1).view("S10")
        order = np.argsort(shorts, kind="stable")
        self._shorts, self._attempts, self._quanta = shorts[order], attempts[order], quanta[order]

    def __contains__(self, attempt_id: object) -> bool:
        if not isinstance(attempt_id, str):
            return False
        return self.of_short(short_attempt(attempt_id))[1] == attempt_id

    def of_short(self, short: str | None) -> tuple[str | None, str | None]:
        """Return quantum and attempt of a short form; None for each if it is not known."""
        if short is None:
            return None, None
        wanted = np.frombuffer(bytes.fromhex(short), "S10")
        place = int(np.searchsorted(self._shorts, wanted)[0])
        if place == len(self._shorts) or self._shorts[place] != wanted[0]:
            return None, None
        one = slice(place, place + 1)
        return unpack_ids(self._quanta[one])[0], unpack_ids(self._attempts[one])[0]


def reason_of(
    attempt_id: str | None,
    short: str | None,
    *,
    has_delta: bool,
    is_bad: bool = False,
    is_dropped: bool = False,
    superseded_by: str | None = None,
) -> str:
    """Return why an object is left, for people: verify and sweep say the same.

    Parameters
    ----------
    attempt_id, short
        The attempt that the key names, if it is known; what the key has of it.
    has_delta
        Whether the attempt has a delta, or is in the ledger.
    """
    if superseded_by is not None:
        return f"superseded by attempt {superseded_by}"
    if attempt_id is None and short is None:
        return "its key names no attempt"
    if is_dropped:
        return f"the delta of attempt {attempt_id} was given up"
    if is_bad:
        return f"the delta of attempt {attempt_id} is bad"
    if has_delta:
        return f"the delta of attempt {attempt_id} does not name it"
    return f"no delta of attempt {attempt_id or short}: it died before, or is under way"


class LeftObjects:
    """Sorts what a listing has and the registry does not name.

    Parameters
    ----------
    keys
        Keys of all objects of datasets below the RUN.
    logs
        Keys of all logs below the RUN.
    deltas
        All deltas of the RUN.
    """

    def __init__(
        self,
        keys: set[str],
        logs: Iterable[str],
        deltas: DeltaListing,
        rows: RegistryRows,
        expected: ExpectedRows,
    ) -> None:
        self._keys = keys
        self._logs = {key: names.parse_log_key(key) for key in logs}
        self._quanta = dict(zip(deltas.attempt_ids(), unpack_ids(deltas.quanta), strict=True))
        logged = {named[1]: named[0] for named in self._logs.values() if named}
        self._all_quanta = logged | self._quanta
        self._rows = rows
        self._expected = expected
        self._newest = expected.newest_successes()
        waiting = expected.waiting.items()
        self._superseded = expected.superseded | {
            attempt_id: made for attempt_id, made in waiting if not self._counts(attempt_id, made)
        }
        self._waiting = {
            key
            for attempt_id, made in waiting
            if self._counts(attempt_id, made)
            for key in made.keys
        }

    def superseded_attempts(self) -> Iterator[SupersededAttempt]:
        """Give the successful attempts that a newer one displaced, merged or not."""
        for attempt_id, made in sorted(self._superseded.items()):
            yield SupersededAttempt(attempt_id, made.quantum_id, self._newest[made.quantum_id])

    def superseded(self) -> Iterator[LeftObject]:
        """Give the datasets of superseded attempts that are still in the bucket."""
        left = self._keys - self._named
        for attempt in self.superseded_attempts():
            ids, other = attempt.attempt_id, attempt.superseded_by
            reason = reason_of(ids, None, has_delta=True, superseded_by=other)
            for key in sorted(left.intersection(self._superseded[attempt.attempt_id].keys)):
                yield LeftObject(key, attempt.attempt_id, attempt.quantum_id, reason)

    def orphaned(self) -> Iterator[LeftObject]:
        """Give the datasets that no delta names which counts, counted or is still to be merged."""
        known = self._named | self._waiting | self._expected.forgotten
        known |= {key for made in self._superseded.values() for key in made.keys}
        for key in sorted(self._keys - known):
            short = short_attempt_in(key)
            attempt_id = self._by_short_form.get(short) if short else None
            if attempt_id in self._expected.newer:
                continue
            quantum_id = self._all_quanta.get(attempt_id or "") or self._quanta_by_path.get(
                without_attempt(key)
            )
            reason = self._reason(attempt_id, short)
            yield LeftObject(key, attempt_id, quantum_id, reason)

    def orphaned_logs(self) -> Iterator[LeftObject]:
        """Give the logs of attempts that left no delta."""
        for key, named in sorted(self._logs.items()):
            quantum_id, attempt_id = named or (None, None)
            if attempt_id not in self._quanta and attempt_id not in self._rows.ledger:
                yield LeftObject(key, attempt_id, quantum_id, self._reason(attempt_id, None))

    def _counts(self, attempt_id: str, made: Made) -> bool:
        return self._newest[made.quantum_id] == attempt_id

    @cached_property
    def _kept(self) -> list[Side]:
        """Datasets that have an object."""
        return [side for side in self._rows.datasets.values() if side.object_key is not None]

    @cached_property
    def _named(self) -> set[str]:
        """Keys that the registry names, those of datasets that lost a conflict too."""
        named = {str(side.object_key) for side in self._kept}
        return named | {str(s.content["object_key"]) for s in self._rows.lost_datasets()}

    @cached_property
    def _by_short_form(self) -> dict[str, str]:
        """Attempts that left a delta, or a log at least, by what keys of datasets have of them."""
        return {short_attempt(attempt_id): attempt_id for attempt_id in self._all_quanta}

    @cached_property
    def _quanta_by_path(self) -> dict[str, str | None]:
        """What other attempts made at a path tells the quantum of an object without a delta."""
        return {without_attempt(str(side.object_key)): side.quantum_id for side in self._kept}

    def _reason(self, attempt_id: str | None, short: str | None) -> str:
        is_bad, has_delta = attempt_id in self._expected.bad, attempt_id in self._quanta
        return reason_of(attempt_id, short, has_delta=has_delta, is_bad=is_bad)
