# SPDX-License-Identifier: BSD-3-Clause
"""Sweep: objects of a RUN that nothing names, listed, and deleted if wanted."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import LiteralString

import numpy as np

from merger import sweep_statements as statements
from merger.bucket_comparison import run_of_control_object
from merger.central_registry import CentralRegistry
from merger.delta_listing import DeltaListing
from merger.exit_codes import ExitCode
from merger.left_objects import KnownAttempts, reason_of
from merger.listed_objects import ListedObject, ListedObjects, short_attempt_in
from merger.predictions import GraphNotFoundError
from merger.progress import Progress
from merger.protection import Protection, Snapshot
from registry import names
from registry.errors import InvalidNameError, QuantumExecError
from transfer_plugins.object_store import (
    NotDeleted,
    ObjectNotFoundError,
    ObjectStore,
    StoredObject,
    TransferError,
    TransferRefusedError,
    UnfinishedUpload,
)

DEFAULT_AGE_S = 86_400.0

_SECOND_LOOK_EVERY = 50_000
"""Objects that are deleted after one more look; the listing of deltas takes a while."""

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]

_TOLD = 1000
"""Failures that are told one by one."""


class SweepRefusedError(QuantumExecError):
    """Deleting is refused, because what must not be deleted cannot be known here."""

    error_type = "sweep_refused"


@dataclass(frozen=True, slots=True)
class SweptObject:
    """An object that nothing names; age in seconds by the clock of the datastore."""

    key: str
    size_bytes: int
    age_s: float
    attempt_id: str | None
    quantum_id: str | None
    reason: str
    is_deleted: bool


@dataclass(slots=True)
class SweepReport:
    """What was looked at, what was found, and what became of it."""

    run: str
    is_delete: bool
    older_than_s: float
    n_objects: int = 0
    """Datasets and logs below the RUN."""
    n_young: int = 0
    """Named by nothing, but younger than the age asked for."""
    n_left: int = 0
    left_bytes: int = 0
    n_deleted: int = 0
    deleted_bytes: int = 0
    n_unreadable: int = 0
    """Deltas and jobs that could not be read, and protect what they may be about."""
    unfinished: list[UnfinishedUpload] = field(default_factory=list)
    not_listed: str | None = None
    """Why unfinished uploads could not be listed."""
    n_not_deleted: int = 0
    not_deleted: list[NotDeleted] = field(default_factory=list)
    """The first of them."""
    wall_s: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """0, or why something could not be deleted: 5 for rights, 3 for what may pass."""
        if not self.n_not_deleted:
            return ExitCode.OK
        is_refused = any(isinstance(one.error, TransferRefusedError) for one in self.not_deleted)
        return ExitCode.NOT_PERMITTED if is_refused else ExitCode.UNAVAILABLE


class Sweep:
    """One sweep of a RUN: a context manager, because the listing lies on disk."""

    def __init__(
        self,
        registry: CentralRegistry,
        store: ObjectStore,
        run: str,
        *,
        older_than_s: float = DEFAULT_AGE_S,
        delete: bool = False,
        threads: int | None = None,
    ) -> None:
        names.check_run(run)
        self.report = SweepReport(run, delete, older_than_s)
        self._registry = registry
        self._store = store
        self._run = run
        self._objects = ListedObjects()
        self._protection = Protection(registry, store, run, self._objects, threads)
        self._runs_below: set[str] = set()
        self._before_s = self._now_s = 0.0
        self._is_deleted = np.zeros(0, bool)
        self._left = np.zeros(0, np.int64)
        self._seen: tuple[list[DeltaListing], Snapshot]

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, *_: object) -> None:
        self._objects.__exit__(None, None, None)

    def run(self, progress: Progress | None = None) -> SweepReport:
        """Look, and delete if that was asked for.

        May be killed and run again: what is deleted is gone, the rest is found again.

        Raises
        ------
        SweepRefusedError, GraphNotFoundError
            If this is not the place to delete, or the RUN has no graph here.
        registry.errors.QuantumExecError
            If datastore or registry cannot be read.
        """
        began = time.monotonic()
        self._protection.progress = progress or Progress()
        self._check()
        # Before the listing: no object may look older than it is.
        self._now_s = self._store.now_s()
        is_any_age = self.report.older_than_s == 0
        # S3 dates its answers by whole seconds, which would make what is new too young for 0.
        self._before_s = math.inf if is_any_age else self._now_s - self.report.older_than_s
        self._list()
        self._seen = self._protection.look()
        self._check_known()
        self._find_left()
        if self._need_jobs(self._left):
            self._protection.look_at_jobs()
            self._find_left()
        self._count()
        if self.report.is_delete:
            self._delete()
        self.report.n_unreadable = self._protection.n_unreadable
        self.report.wall_s = time.monotonic() - began
        return self.report

    def left(self) -> Iterator[SweptObject]:
        """Give the objects that were found, by key."""
        listings, snapshot = self._seen
        known = KnownAttempts([*listings, snapshot.ledger])
        for found in self._objects.read(self._left):
            yield self._swept(found, known, snapshot)

    def age_s(self, modified_s: float) -> float:
        """Return an age in seconds, by the clock of the datastore."""
        return self._now_s - modified_s

    def _check(self) -> None:
        prefix = names.graph_prefix(self._run)
        if next(iter(self._store.list_objects(prefix)), None) is None:
            raise GraphNotFoundError(
                f"RUN {self._run!r}: expected a graph record below {self._store.uri}/{prefix}, "
                "found none; check the names of datastore and RUN"
            )
        if self.report.is_delete and self._asked(statements.IS_STANDBY):
            raise SweepRefusedError(
                "sweep --delete: expected the primary server, found a standby, which may not know "
                "yet what was registered; connect to the primary, or sweep without --delete"
            )

    def _check_known(self) -> None:
        """Refuse to delete by what another registry says; one without deltas none has to know."""
        deltas = self._seen[0][0]
        n_deltas = len(deltas) + len(deltas.strangers)
        if self.report.is_delete and n_deltas and not self._asked(statements.KNOWS_RUN):
            raise SweepRefusedError(
                f"sweep --delete: expected a central registry that knows RUN {self._run!r}, found "
                f"one that has none of its {n_deltas} deltas; check --database, or merge the RUN "
                "first"
            )

    def _asked(self, question: LiteralString) -> bool:
        told = {"run": self._run}
        return self._registry.read_snapshot(
            lambda cursor: cursor.execute(question, told).fetchone() == (True,)
        )

    def _list(self) -> None:
        control, logs = names.control_prefix(self._run), names.log_prefix(self._run)
        for stored in self._store.list_objects(f"{self._run}/"):
            if stored.key.startswith(control):
                if stored.key.startswith(logs):
                    self._objects.add(stored, is_log=True)
            elif (other := run_of_control_object(stored.key)) is not None:
                self._runs_below.add(other)
            else:
                self._objects.add(stored)
        self.report.n_objects = len(self._objects)
        self._list_unfinished()
        self._objects.seal()
        self._is_deleted = np.zeros(len(self._objects), bool)

    def _list_unfinished(self) -> None:
        """Where an upload leaves a file, that is looked at as objects are: a record may name it."""
        try:
            for upload in self._store.list_unfinished(f"{self._run}/"):
                if upload.began_s > self._before_s:
                    continue
                self.report.unfinished.append(upload)
                if self._store.is_local:
                    left = StoredObject(upload.key, upload.size_bytes, upload.began_s)
                    self._objects.add(left, is_upload=True)
        except (TransferRefusedError, ObjectNotFoundError) as error:
            self.report.not_listed = str(error)

    def _find_left(self) -> None:
        """Choose what is neither protected nor young; RUNs below this one protect their own."""
        objects = self._objects
        others = self._prefixes_below()
        unprotected = np.flatnonzero(~objects.is_protected)
        if others:
            for found in objects.read(unprotected):
                objects.is_protected[found.number] = found.key.startswith(others)
        is_old = objects.older_than(self._before_s)
        is_free = ~objects.is_protected & ~objects.are_uploads()
        self._left = np.flatnonzero(is_free & is_old)
        self.report.n_young = int((is_free & ~is_old).sum())
        named = np.flatnonzero(objects.is_protected & objects.are_uploads())
        kept = {found.key for found in objects.read(named)}
        self.report.unfinished = [
            upload
            for upload in self.report.unfinished
            if upload.key not in kept and not upload.key.startswith(others)
        ]

    def _need_jobs(self, left: Numbers) -> bool:
        """Tell whether a job may have something as its input that is about to go."""
        is_nameless = self._objects.without_attempt()
        is_free_upload = self._objects.are_uploads() & ~self._objects.is_protected
        return bool(is_nameless[left].any() or is_nameless[is_free_upload].any())

    def _prefixes_below(self) -> tuple[str, ...]:
        _, snapshot = self._seen
        return tuple(f"{other}/" for other in {*self._runs_below, *snapshot.runs_below})

    def _count(self) -> None:
        self.report.n_left = len(self._left)
        self.report.left_bytes = int(self._objects.sizes()[self._left].sum())

    def _check_archives(self) -> None:
        """Refuse to delete while deltas may lie in an archive that cannot be read."""
        bad = [one for store in self._protection.stores.values() for one in store.bad_archives()]
        if bad:
            raise SweepRefusedError(
                f"sweep --delete: expected archives that can be read whole, found {bad[0].message} "
                f"({len(bad)} in all); what their deltas name is not known: put a whole archive in "
                "its place, remove it if all its deltas are objects, or upgrade registry-merge"
            )

    def _delete(self) -> None:
        found = self._left
        n_to_look_at = len(found) or len(self.report.unfinished)
        for start in range(0, n_to_look_at, _SECOND_LOOK_EVERY):
            self._seen = self._protection.look()
            self._check_archives()
            some = found[start : start + _SECOND_LOOK_EVERY]
            if self._need_jobs(some):
                self._protection.look_at_jobs()
            self._find_left()
            if not self._delete_some(some[~self._objects.is_protected[some]]):
                break
        self._count()
        for upload in self.report.unfinished:
            try:
                self._store.abort(upload)
            except TransferError as error:
                self._fail([NotDeleted(upload.key, error)])

    def _delete_some(self, numbers: Numbers) -> bool:
        """Delete objects; tells whether it makes sense to go on."""
        places, odd = {}, []
        for found in self._objects.read(numbers):
            try:
                places[names.check_key(found.key, "object")] = found.number
            except InvalidNameError as error:
                odd.append(NotDeleted(found.key, TransferRefusedError(str(error))))
        failed = self._store.delete_many(list(places))
        self._fail([*odd, *failed])
        deleted = [places[key] for key in places.keys() - {one.key for one in failed}]
        self._is_deleted[deleted] = True
        self.report.n_deleted += len(deleted)
        self.report.deleted_bytes += int(self._objects.sizes()[deleted].sum()) if deleted else 0
        return bool(deleted) or not failed

    def _fail(self, failed: list[NotDeleted]) -> None:
        self.report.n_not_deleted += len(failed)
        self.report.not_deleted += failed[: _TOLD - len(self.report.not_deleted)]

    def _swept(self, found: ListedObject, known: KnownAttempts, snapshot: Snapshot) -> SweptObject:
        if found.is_log:
            quantum_id, attempt_id = names.parse_log_key(found.key) or (None, None)
            short = None
        else:
            short = short_attempt_in(found.key)
            quantum_id, attempt_id = known.of_short(short)
        delta_keys = [
            names.delta_key(run, quantum_id, attempt_id)
            for run in self._protection.stores
            if quantum_id and attempt_id
        ]
        reason = reason_of(
            attempt_id,
            short,
            has_delta=attempt_id in known,
            is_dropped=not snapshot.dropped.isdisjoint(delta_keys),
            superseded_by=snapshot.superseded.get(attempt_id or ""),
        )
        age_s = 0.0 if found.modified_s is None else self.age_s(found.modified_s)
        is_deleted = bool(self._is_deleted[found.number])
        return SweptObject(
            names.printable(found.key),
            found.size_bytes,
            age_s,
            attempt_id,
            quantum_id,
            reason,
            is_deleted,
        )
