# SPDX-License-Identifier: BSD-3-Clause
"""Objects that are in the bucket and in no datastore record: whose they are, and why, for verify.

Nothing here is a difference. An attempt that was overtaken, or that died before its delta was
there, leaves objects behind; they harm nobody and cost space.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property

from merger.findings import LeftObject, SupersededAttempt
from merger.registry_comparison import ExpectedRows, Made
from merger.registry_rows import RegistryRows
from registry import names
from registry.attempt import short_attempt

_SHORT_ATTEMPT = re.compile(r"\.([0-9a-f]{20})(?=\.|\Z)")


class LeftObjects:
    """Sorts what a listing has and the registry does not name.

    Parameters
    ----------
    keys
        Keys of all objects of datasets below the RUN.
    logs
        Keys of all logs below the RUN.
    deltas
        Keys of all deltas below the RUN.
    """

    def __init__(
        self,
        keys: Iterable[str],
        logs: Iterable[str],
        deltas: Iterable[str],
        rows: RegistryRows,
        expected: ExpectedRows,
    ) -> None:
        self._keys = set(keys)
        self._logs = {key: names.parse_log_key(key) for key in logs}
        self._quanta = {
            named[1]: named[0] for key in deltas if (named := names.parse_delta_key(key))
        }
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
            reason = f"superseded by attempt {attempt.superseded_by}"
            for key in sorted(left.intersection(self._superseded[attempt.attempt_id].keys)):
                yield LeftObject(key, attempt.attempt_id, attempt.quantum_id, reason)

    def orphaned(self) -> Iterator[LeftObject]:
        """Give the datasets that no delta names which counts, counted or is still to be merged."""
        known = self._named | self._waiting
        known |= {key for made in self._superseded.values() for key in made.keys}
        for key in sorted(self._keys - known):
            found = _SHORT_ATTEMPT.findall(key.rpartition("/")[2])
            attempt_id = self._by_short_form.get(found[-1]) if found else None
            if attempt_id in self._expected.newer:
                continue
            quantum_id = self._all_quanta.get(attempt_id or "") or self._quanta_by_path.get(
                _path_of(key)
            )
            reason = self._reason(attempt_id, found[-1] if found else None)
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
    def _named(self) -> set[str]:
        """Keys that the registry names, those of datasets that lost a conflict too."""
        named = {str(side.object_key) for side in self._rows.datasets.values()}
        return named | {str(s.content["object_key"]) for s in self._rows.lost_datasets()}

    @cached_property
    def _by_short_form(self) -> dict[str, str]:
        """Attempts that left a delta, or a log at least, by what keys of datasets have of them."""
        return {short_attempt(attempt_id): attempt_id for attempt_id in self._all_quanta}

    @cached_property
    def _quanta_by_path(self) -> dict[str, str | None]:
        """What other attempts made at a path tells the quantum of an object without a delta."""
        return {
            _path_of(str(side.object_key)): side.quantum_id for side in self._rows.datasets.values()
        }

    def _reason(self, attempt_id: str | None, short: str | None) -> str:
        if attempt_id is None and short is None:
            return "its key names no attempt"
        if attempt_id in self._expected.bad:
            return f"the delta of attempt {attempt_id} is bad"
        if attempt_id in self._quanta:
            return f"the delta of attempt {attempt_id} does not name it"
        return f"no delta of attempt {attempt_id or short}: it died before, or is under way"


def _path_of(key: str) -> str:
    """The key of an object without its attempt."""
    directory, slash, name = key.rpartition("/")
    return directory + slash + _SHORT_ATTEMPT.sub("", name)
