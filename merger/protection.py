# SPDX-License-Identifier: BSD-3-Clause
"""What protects an object from sweep: the registry, and deltas whose rows are not all in it."""

import itertools
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from psycopg import Cursor

from merger import sweep_statements as statements
from merger.archived_deltas import ArchivedDeltaStore, with_archives
from merger.central_registry import CentralRegistry
from merger.delta_listing import DeltaListing, list_deltas
from merger.listed_objects import ListedObjects
from merger.named_keys import LinkedPaths, keys_named
from merger.packed_ids import PackedIds, pack_ids
from merger.progress import Progress
from merger.whole_deltas import decode_delta, fetch
from registry import names
from registry.attempt import short_attempt
from registry.delta import Delta, check_consistent
from registry.errors import FormatError, InvalidNameError
from registry.job import read_job
from transfer_plugins.object_store import DirectoryObjectStore, ObjectStore, TransferError

_log = logging.getLogger(__name__)

_AT_ONCE = 10_000
_TOLD = 20
"""Messages about what cannot be read; of a newer format, it may be every delta."""
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one look at the central registry told about a RUN and those around it."""

    ledger: DeltaListing
    """Attempts with their quanta; all of those that were merged, forgotten ones too."""
    of_run: dict[str, PackedIds]
    """The attempts of each RUN."""
    forgotten: PackedIds
    dropped: frozenset[str]
    """Keys of deltas that a person gave up."""
    quarantined: frozenset[str]
    """Keys of the other deltas in the quarantine."""
    superseded: dict[str, str]
    """The attempt that counts, by attempt that does not."""
    runs_below: list[str]


@dataclass(slots=True)
class Protection:
    """Marks objects of a RUN as protected, and again before they are deleted.

    The order matters: objects were listed first, then deltas are, then the registry is read. So
    what is uploaded and merged meanwhile is either not listed, or named by a delta, or by the
    registry.
    """

    registry: CentralRegistry
    store: ObjectStore
    """Without archives."""
    run: str
    objects: ListedObjects
    threads: int | None = None
    progress: Progress = field(default_factory=Progress)
    n_unreadable: int = 0
    """Deltas and jobs that could not be read; they protect what they may be about."""
    stores: dict[str, ArchivedDeltaStore] = field(init=False)
    """The datastore with the archives of each RUN that may have objects below this one.

    That is the RUN itself, and those whose names are the beginning of its name up to a slash:
    ``u/me`` with a dataset type ``night1`` has objects below a RUN ``u/me/night1``.
    """
    _read: dict[str, PackedIds] = field(default_factory=dict)
    _strangers: set[str] = field(default_factory=set)
    _jobs: set[str] = field(default_factory=set)
    _linked: LinkedPaths | None = None

    def __post_init__(self) -> None:
        parts = self.run.split("/")
        runs = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
        self.stores = {run: with_archives(self.store, run) for run in runs}
        if isinstance(self.store, DirectoryObjectStore):
            self._linked = LinkedPaths(self.store.root, self.run)

    def look(self) -> tuple[list[DeltaListing], Snapshot]:
        """Mark everything that is named now; returns the deltas that there are, and the registry.

        The first listing is that of the RUN itself.

        Raises
        ------
        registry.errors.QuantumExecError
            If deltas or registry cannot be read; then nothing is known.
        """
        listings = [list_deltas(store, run) for run, store in self.stores.items()]
        snapshot = self.registry.read_snapshot(self._read_registry)
        self._protect_attempts(_listing_of(snapshot.forgotten).attempt_ids())
        self.objects.protect_logs_of(snapshot.ledger.attempt_ids())
        self._protect_lost(listings, snapshot)
        for deltas in listings:
            self.objects.protect_logs_of(deltas.attempt_ids())
            self._protect_unmerged(deltas, snapshot)
        return listings, snapshot

    def _protect_unmerged(self, deltas: DeltaListing, snapshot: Snapshot) -> None:
        store, read = self.stores[deltas.run], self._read.get(deltas.run, pack_ids([]))
        unmerged = deltas.without(_merged(deltas, snapshot)).without(read)
        if len(unmerged):
            self.progress.start(len(unmerged))
        keys = (key for key in unmerged.all_keys() if key not in snapshot.dropped)
        self._protect_by_deltas(store, keys)
        strangers = set(deltas.strangers) - self._strangers - snapshot.dropped
        self._protect_by_deltas(store, sorted(strangers))
        self._read[deltas.run] = np.concatenate([read, unmerged.attempts])
        self._strangers |= strangers

    def look_at_jobs(self) -> None:
        """Mark what jobs have as inputs; they say nothing about objects that an attempt made.

        A job that cannot be read may have anything as input.
        """
        prefixes = map(names.job_prefix, self.stores)
        listed = itertools.chain.from_iterable(map(self.store.list_objects, prefixes))
        new = (stored.key for stored in listed if stored.key not in self._jobs)
        for key, content in fetch(self.store, new, self.threads):
            self._jobs.add(key)
            try:
                if not isinstance(content, bytes):
                    raise content
                job = read_job(content, f"job file {key!r}")
            except (FormatError, InvalidNameError, TransferError) as error:
                self._note(f"{error}; no object without an attempt is swept")
                self.objects.protect_without_attempt()
                continue
            inputs = (read.key for read in job.inputs if read.key is not None)
            self.objects.protect_keys(self._named(inputs))

    def _read_registry(self, cursor: Cursor) -> Snapshot:
        told = {"runs": list(self.stores), "below": f"{self.run}/"}
        with cursor.copy(statements.COPY_NAMED, told) as copy:
            self.objects.protect_keys(self._named(str(row[0]) for row in copy.rows() if row[0]))
        attempts, quanta, forgotten = [pack_ids([])], [pack_ids([])], [pack_ids([])]
        of_run = {run: pack_ids([]) for run in self.stores}
        with cursor.copy(statements.COPY_LEDGER, told) as copy:
            rows = copy.rows()
            while some := list(itertools.islice(rows, _AT_ONCE)):
                attempts.append(pack_ids([row[0] for row in some]))
                quanta.append(pack_ids([row[1] for row in some]))
                forgotten.append(pack_ids([row[0] for row in some if row[2] == "t"]))
                for run, known in of_run.items():
                    new = pack_ids([row[0] for row in some if row[3] == run])
                    of_run[run] = np.concatenate([known, new])
        all_attempts, all_quanta = np.concatenate(attempts), np.concatenate(quanta)
        order = np.argsort(all_attempts)
        quarantine = cursor.execute(statements.READ_QUARANTINE, told).fetchall()
        return Snapshot(
            ledger=DeltaListing(self.run, all_attempts[order], all_quanta[order]),
            of_run=of_run,
            forgotten=np.concatenate(forgotten),
            dropped=frozenset(key for key, is_dropped in quarantine if is_dropped),
            quarantined=frozenset(key for key, is_dropped in quarantine if not is_dropped),
            superseded=dict(cursor.execute(statements.READ_SUPERSEDED, told).fetchall()),
            runs_below=[r for (r,) in cursor.execute(statements.READ_RUNS_BELOW, told).fetchall()],
        )

    def _note(self, message: str) -> None:
        self.n_unreadable += 1
        if self.n_unreadable <= _TOLD:
            _log.warning("%s", message)

    def _named(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            yield from keys_named(text, self.run)
            if self._linked is not None:
                yield from self._linked.keys_named(text)

    def _protect_attempts(self, attempts: Iterable[str]) -> None:
        self.objects.protect_attempts(short_attempt(attempt_id) for attempt_id in attempts)

    def _protect_lost(self, listings: list[DeltaListing], snapshot: Snapshot) -> None:
        """Protect what deltas in the quarantine may have named that are no longer there."""
        named = filter(None, map(names.parse_delta_key, snapshot.quarantined))
        lost = [
            attempt_id
            for _, attempt_id in named
            if all(deltas.find(attempt_id) is None for deltas in listings)
        ]
        self._protect_attempts(lost)

    def _protect_by_deltas(self, store: ObjectStore, keys: Iterable[str]) -> None:
        """Protect what deltas name; of those that cannot be read, what carries their attempt."""
        for key, content in fetch(store, keys, self.threads):
            self.progress.advance(1)
            try:
                if not isinstance(content, bytes):
                    raise content
                delta, _ = decode_delta(content, key)
                self.objects.protect_keys(self._named(_keys_in(delta)))
                check_consistent(delta, key)
            except (FormatError, TransferError) as error:
                self._note(f"{error}; nothing of its attempt is swept")
                attempts = _UUID.findall(key)
                self._protect_attempts(attempts)
                self.objects.protect_logs_of(attempts)


def _keys_in(delta: Delta) -> list[str]:
    made = [record.object_key for record in delta.rows.datastore_record]
    log = [] if delta.log_key is None else [delta.log_key]
    return [*made, *(read.key for read in delta.inputs), *log]


def _merged(deltas: DeltaListing, snapshot: Snapshot) -> PackedIds:
    """Return the attempts whose deltas were merged, under the same quantum, and not forgotten."""
    ledger = snapshot.ledger.only(snapshot.of_run[deltas.run])
    listed = deltas.only(ledger.attempts)
    recorded = ledger.only(deltas.attempts)
    # Both are the same attempts, in the same order.
    merged: PackedIds = listed.attempts[listed.quanta == recorded.quanta]
    return merged[~np.isin(merged, snapshot.forgotten)]


def _listing_of(attempts: PackedIds) -> DeltaListing:
    return DeltaListing("", attempts, attempts)
