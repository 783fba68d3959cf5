# SPDX-License-Identifier: BSD-3-Clause
"""Findings: what verify tells about a RUN, differences and notes."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from merger.exit_codes import ExitCode


class FindingKind(enum.StrEnum):
    """What was found; values are stable and machine-readable."""

    DELTA_NOT_MERGED = "delta_not_merged"
    """A good delta is in the bucket and its attempt is not in the ledger."""
    DELTA_BAD = "delta_bad"
    """A delta is in the bucket that a merge would put into the quarantine, or has put there."""
    DELTA_NEWER_FORMAT = "delta_newer_format"
    """A delta waits for an upgrade of this command."""
    DELTA_MISSING = "delta_missing"
    """The ledger has an attempt whose delta is not in the bucket."""
    DELTA_CHANGED = "delta_changed"
    """The delta in the bucket is not the one that was merged."""
    QUANTUM_DIFFERS = "quantum_differs"
    """The row of a quantum is missing, or names another attempt or status than its deltas."""
    ATTEMPT_DIFFERS = "attempt_differs"
    """The row of an attempt is missing or has another status, or its rows are not all there."""
    DIMENSION_DIFFERS = "dimension_differs"
    """A dimension record is missing, or is not as brought and no conflict is recorded."""
    DATASET_MISSING = "dataset_missing"
    """The attempt that counts made a dataset, and the registry does not have it."""
    DATASET_UNEXPECTED = "dataset_unexpected"
    """The registry has a dataset that no attempt made that counts."""
    DATASET_DIFFERS = "dataset_differs"
    """A dataset or its datastore record is not what the attempt that counts says."""
    OBJECT_MISSING = "object_missing"
    """The bucket has no object under the key of a dataset."""
    OBJECT_SIZE = "object_size"
    """The object of a dataset has another size."""
    OBJECT_CHECKSUM = "object_checksum"
    """The object of a dataset has other bytes; only looked at with ``--checksums``."""
    CONFLICT = "conflict"
    """A side of a recorded conflict that nobody has settled."""
    QUARANTINED = "quarantined"
    """A delta is in the quarantine, and no longer in the bucket."""
    SETTLED = "settled_conflict"
    """Note: a side of a conflict about which a person or a policy decided."""
    DROPPED = "dropped"
    """Note: a bad delta that a person gave up."""
    FORGOTTEN = "forgotten"
    """Note: what this attempt put in was taken out, and no merge brings it back."""
    INPUT_FORGOTTEN = "input_forgotten"
    """Note: a dataset that was read went when the attempt that made it was forgotten."""
    NOT_RUN = "not_run"
    """Note: a predicted quantum has no delta."""
    UNFINISHED = "unfinished"
    """Note: a quantum was tried, and no attempt was successful."""
    SUPERSEDED_OBJECT = "superseded_object"
    """Note: an object of a successful attempt that does not count."""
    ORPHAN = "orphan"
    """Note: an object that nothing names, as an attempt leaves it that dies while uploading."""
    ORPHAN_LOG = "orphan_log"
    """Note: the log of an attempt that left no delta."""


NOTES = frozenset(
    {
        FindingKind.SETTLED,
        FindingKind.DROPPED,
        FindingKind.FORGOTTEN,
        FindingKind.INPUT_FORGOTTEN,
        FindingKind.NOT_RUN,
        FindingKind.UNFINISHED,
        FindingKind.SUPERSEDED_OBJECT,
        FindingKind.ORPHAN,
        FindingKind.ORPHAN_LOG,
    }
)
"""Kinds that are told, but say of no two places that they disagree."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference or note; ``id`` is that of the dataset, attempt or quantum concerned."""

    kind: FindingKind
    id: str | None = None
    key: str | None = None
    expected: str | None = None
    found: str | None = None

    @property
    def is_difference(self) -> bool:
        """Whether the exit code depends on it."""
        return self.kind not in NOTES


@dataclass(frozen=True, slots=True)
class SupersededAttempt:
    """A successful attempt that does not count, because a newer one of its quantum does."""

    attempt_id: str
    quantum_id: str
    superseded_by: str


@dataclass(frozen=True, slots=True)
class LeftObject:
    """An object in the bucket that the registry does not name; ids are None if not known."""

    key: str
    attempt_id: str | None
    quantum_id: str | None
    reason: str

    def finding(self, kind: FindingKind) -> Finding:
        """Return the object as a finding."""
        return Finding(kind, self.attempt_id, self.key, None, self.reason)


@dataclass(slots=True)
class VerifyReport:
    """What verify looked at, and everything it found."""

    run: str
    n_quanta: int = 0
    n_deltas: int = 0
    n_datasets: int = 0
    n_not_kept: int = 0
    """Datasets of the registry that attempts made and deliberately left in the sandbox."""
    n_objects: int = 0
    findings: list[Finding] = field(default_factory=list)
    superseded_attempts: list[SupersededAttempt] = field(default_factory=list)
    superseded: list[LeftObject] = field(default_factory=list)
    """Datasets of superseded attempts."""
    orphaned: list[LeftObject] = field(default_factory=list)
    """Datasets and logs that no delta names."""
    wall_s: float = 0.0

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings."""
        self.findings.extend(findings)

    def add_left(self, kind: FindingKind, left: Iterable[LeftObject]) -> None:
        """Add objects that the registry does not name, as findings and in their list."""
        found = list(left)
        into = self.superseded if kind is FindingKind.SUPERSEDED_OBJECT else self.orphaned
        into.extend(found)
        self.add(one.finding(kind) for one in found)

    @property
    def n_differences(self) -> int:
        """Number of findings that are no notes."""
        return sum(finding.is_difference for finding in self.findings)

    @property
    def exit_code(self) -> ExitCode:
        """0, or 13 if there are differences."""
        return ExitCode.DIFFERENCES if self.n_differences else ExitCode.OK
