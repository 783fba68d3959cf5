# SPDX-License-Identifier: BSD-3-Clause
"""Which of several sides stay: a function of the sides and of what was decided, of nothing else.

Every key ranks the sides that claim it. Without a decision, sides from before any merge come
first, then the newest attempt; ``keep`` puts the oldest attempt in its place, ``replace`` the
newest before everything, ``chosen`` the side that a person chose. A side that is first in all its
keys stays, whoever shares a key with it goes, and so on with the rest. Where no side is first in
all its keys (decisions may contradict each other), one that a decision puts first goes before the
others.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from merger.conflict_policy import ConflictPolicies, Policy
from merger.conflict_records import Decision, Refusal

if TYPE_CHECKING:
    from merger.dataset_conflicts import Side

Rank = tuple[bool, bool, int, str]


def claims_of(sides: Iterable["Side"]) -> dict[str, list["Side"]]:
    """Return who claims each key."""
    claims: dict[str, list[Side]] = defaultdict(list)
    for side in sides:
        for key in side.keys:
            claims[key].append(side)
    return claims


def choose(
    claims: Mapping[str, Collection["Side"]],
    decisions: Mapping[str, Decision],
    checksums: Mapping["Side", str],
) -> set["Side"]:
    """Choose the sides that stay.

    Parameters
    ----------
    checksums
        Of all sides, if any decision names one.
    """
    queues = {
        key: deque(sorted(sides, key=lambda side: _rank(side, decisions.get(key), checksums)))
        for key, sides in claims.items()
    }
    remaining = {side for sides in claims.values() for side in sides}
    candidates, kept = set(remaining), set()

    def first(key: str) -> "Side | None":
        queue = queues[key]
        while queue and queue[0] not in remaining:
            queue.popleft()
        return queue[0] if queue else None

    while remaining:
        winners = {s for s in candidates if all(first(key) == s for key in s.keys)}
        if not winners:
            decided = {first(key) for key in queues.keys() & decisions.keys()}
            winners = {min(remaining, key=lambda s: (s not in decided, _rank(s, None, {})))}
        kept |= winners
        losers = {s for w in winners for key in w.keys for s in queues[key] if s in remaining}
        remaining -= losers
        behind = (first(key) for side in losers for key in side.keys)
        candidates = {side for side in behind if side is not None}
    return kept


def _rank(side: "Side", decision: Decision | None, checksums: Mapping["Side", str]) -> Rank:
    """Lower is better; the content makes the order total."""
    kind = decision.kind if decision else None
    is_from_before = side.attempt_id is None
    time = 0 if side.attempt_id is None else int(side.attempt_id.replace("-", ""), 16)
    is_other = False
    if decision is not None and decision.kind == "chosen":
        is_other = checksums[side] != decision.content_checksum
    place = is_from_before if kind == "replace" else not is_from_before
    return is_other, place, time if kind == "keep" else -time, side.content


def refuse(
    new: Iterable["Side"],
    others: Iterable["Side"],
    decisions: Collection[str],
    policies: ConflictPolicies,
) -> list[Refusal]:
    """Find the attempts whose sides conflict where the policy is ``fail``, oldest first.

    Parameters
    ----------
    new
        Sides that are being brought.
    others
        Sides that were there.
    decisions
        Keys with a decision on record, which holds instead.
    """
    holders = {key: side for side in sorted(others, key=_place) for key in side.keys}
    refusals = []
    for _, group in groupby(sorted(new, key=_place), key=lambda side: _place(side)[:2]):
        sides = list(group)
        clash = next(
            (
                (side, holders[key], key)
                for side in sides
                for key in side.keys
                if key in holders
                and key not in decisions
                and policies.of_datasets({side.dataset_type, holders[key].dataset_type})
                is Policy.FAIL
            ),
            None,
        )
        if clash is None:
            holders.update({key: side for side in sides for key in side.keys})
        else:
            refusals.append(_refusal(*clash))
    return refusals


def _place(side: "Side") -> tuple[str, str, str]:
    """Attempts in time; what comes from outside is one by one."""
    if side.attempt_id is None:
        return "", side.content, ""
    return side.attempt_id, "", side.content


def _refusal(side: "Side", other: "Side", key: str) -> Refusal:
    return Refusal(
        side.attempt_id,
        f"{describe(side)} left unmerged: policy 'fail', and {key} is claimed by "
        f"{describe(other)}; settle it with another policy, or forget one of the two",
        side.dataset_id if side.attempt_id is None else None,
    )


def describe(side: "Side") -> str:
    """Name a side: its dataset, quantum and attempt."""
    made_by = (
        f"of quantum {side.quantum_id!r}, attempt {side.attempt_id!r}"
        if side.attempt_id
        else "from outside"
    )
    return f"dataset {side.dataset_id!r} ({side.dataset_type}) {made_by}"
