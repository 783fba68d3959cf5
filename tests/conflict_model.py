# SPDX-License-Identifier: BSD-3-Clause
"""The rules for conflicts between datasets, written down once more in the plainest way.

Slow, without a database, and on purpose not the code of the merger: it predicts what must be in
``dataset``, ``merge_conflict`` and ``conflict_decision`` from what was brought and decided.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.typed_json import canonical


@dataclass(frozen=True, order=True)
class Claim:
    """A dataset that somebody brought; no attempt: it was there before any merge."""

    attempt_id: str
    dataset_id: str
    natural: str
    content: tuple[object, ...]

    @property
    def keys(self) -> tuple[str, str]:
        return canonical({"dataset_id": self.dataset_id}), self.natural


@dataclass(frozen=True)
class Predicted:
    """Rows by what tells them apart."""

    datasets: set[tuple[str, str]]
    """Id and attempt."""
    sides: set[tuple[str, str, str, bool]]
    """Key, id, attempt, and whether it is in the table."""
    by_policy: dict[str, str]
    """Decisions that the policy made."""


def claims_of(deltas: Iterable[Delta]) -> set[Claim]:
    """Give what the newest success of every quantum brought."""
    counts: dict[str, Delta] = {}
    for delta in deltas:
        other = counts.get(delta.quantum_id)
        is_newer = other is None or delta.attempt_id > other.attempt_id
        if delta.status is AttemptStatus.SUCCESSFUL and is_newer:
            counts[delta.quantum_id] = delta
    claims = set()
    for delta in counts.values():
        records = {record.dataset_id: record for record in delta.rows.datastore_record}
        for row in delta.rows.dataset:
            key = {"run": delta.run, "dataset_type": row.dataset_type, "data_id": row.data_id}
            record = records.get(row.dataset_id)  # none: it was not kept
            content = (record.size_bytes, record.checksum) if record else (None, None)
            claims.add(Claim(delta.attempt_id, row.dataset_id, canonical(key), content))
    return claims


def predict(
    brought: set[Claim], policy: str, decided: Mapping[str, tuple[str, str | None]]
) -> Predicted:
    """Predict the tables.

    Parameters
    ----------
    policy
        For keys that nobody decided about.
    decided
        By key: keep, replace, or chosen with the id and attempt of the side as one text.
    """
    before = {(c.keys, c.content) for c in brought if not c.attempt_id}
    claims = {c for c in brought if not c.attempt_id or (c.keys, c.content) not in before}
    claimants = {key: {c for c in claims if key in c.keys} for c in claims for key in c.keys}
    contended = {key: sides for key, sides in claimants.items() if len(sides) > 1}
    rules = {key: (policy, None) for key in contended if policy != "defer"} | dict(decided)
    kept = stay(claims, rules)
    assert not any(set(a.keys) & set(b.keys) for a, b in combinations(kept, 2))
    return Predicted(
        {(c.dataset_id, c.attempt_id) for c in kept},
        {
            (key, c.dataset_id, c.attempt_id, c in kept)
            for key, sides in contended.items()
            for c in sides
        },
        {key: kind for key, (kind, _) in rules.items() if key not in decided},
    )


def stay(claims: set[Claim], rules: Mapping[str, tuple[str, str | None]]) -> set[Claim]:
    """Take whoever nobody beats, remove whom it beats, and so on."""
    left, kept = set(claims), set()
    while left:
        unbeaten = {c for c in left if all(c == first(left, key, rules) for key in c.keys)}
        if not unbeaten:
            of_rules = {first(left, key, rules) for key in rules} - {None}
            unbeaten = {best(of_rules or left, "defer", None)}
        kept |= unbeaten
        left = {c for c in left if not any(set(c.keys) & set(one.keys) for one in unbeaten)}
    return kept


def first(left: set[Claim], key: str, rules: Mapping[str, tuple[str, str | None]]) -> Claim | None:
    """Give the one among those that are left to whom a key belongs."""
    sides = {c for c in left if key in c.keys}
    return best(sides, *rules.get(key, ("defer", None))) if sides else None


def best(sides: Iterable[Claim | None], kind: str, chosen: str | None) -> Claim:
    """Give the side that a rule prefers."""
    ordered = sorted(side for side in sides if side is not None)
    before = [side for side in ordered if not side.attempt_id]
    later = [side for side in ordered if side.attempt_id]
    for side in ordered:
        if kind == "chosen" and f"{side.dataset_id} {side.attempt_id}" == chosen:
            return side
    if kind == "keep":
        return (before + later)[0]
    if kind == "replace":
        return (later[::-1] + before)[0]
    return (before + later[::-1])[0]
