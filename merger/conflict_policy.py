# SPDX-License-Identifier: BSD-3-Clause
"""What a merge is to do about conflicts that it meets: the policies of a command line.

Policies speak of keys that nobody has decided about yet. What is on record in
``conflict_decision`` goes before them, so that no later merge turns an outcome over.
"""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from merger.settings import SettingsError

_DIMENSION = "dimension:"
_NONE: Mapping[str, "Policy"] = MappingProxyType({})


class Policy(enum.StrEnum):
    """Which of several sides of a new conflict stays."""

    DEFER = "defer"
    """A side from before any merge, else the newest; a person is asked (exit code 10)."""
    KEEP = "keep"
    """A side from before any merge, else the oldest attempt; the conflict is settled."""
    REPLACE = "replace"
    """The newest attempt, also over what was there before any merge; the conflict is settled."""
    FAIL = "fail"
    """What is in the registry; the delta that comes later is left unmerged (exit code 15)."""


class PolicyError(SettingsError):
    """A policy is not written as policies are."""

    error_type = "conflict_policy"


@dataclass(frozen=True, slots=True)
class ConflictPolicies:
    """A policy for everything, and others for some dataset types and dimensions."""

    default: Policy = Policy.DEFER
    by_dataset_type: Mapping[str, Policy] = field(default_factory=lambda: _NONE)
    by_dimension: Mapping[str, Policy] = field(default_factory=lambda: _NONE)

    def of_datasets(self, dataset_types: Collection[str]) -> Policy:
        """Return the policy for a key that datasets of these types claim.

        Types that want different things can only meet in a dataset id: then ``fail`` if one
        wants that, else ``defer``.
        """
        wanted = {self.by_dataset_type.get(name, self.default) for name in dataset_types}
        if len(wanted) == 1:
            return wanted.pop()
        return Policy.FAIL if Policy.FAIL in wanted else Policy.DEFER

    def of_dimension(self, dimension: str) -> Policy:
        """Return the policy for records of a dimension."""
        return self.by_dimension.get(dimension, self.default)

    @property
    def may_fail(self) -> bool:
        """Whether any policy is ``fail``."""
        policies = (self.default, *self.by_dataset_type.values(), *self.by_dimension.values())
        return Policy.FAIL in policies

    def without_fail(self) -> "ConflictPolicies":
        """Return the same with ``defer`` for ``fail``: for rows that no delta brings."""
        return ConflictPolicies(
            _not_fail(self.default),
            {name: _not_fail(policy) for name, policy in self.by_dataset_type.items()},
            {name: _not_fail(policy) for name, policy in self.by_dimension.items()},
        )


def _not_fail(policy: Policy) -> Policy:
    return Policy.DEFER if policy is Policy.FAIL else policy


DEFER_ALL = ConflictPolicies()


def parse(texts: Sequence[str]) -> ConflictPolicies:
    """Read policies as they stand on a command line or in a configuration file.

    Parameters
    ----------
    texts
        ``POLICY`` for everything, ``DATASET_TYPE=POLICY``, ``dimension:NAME=POLICY``.

    Raises
    ------
    PolicyError
        If a policy is none of the four, or one thing has two.
    """
    found: dict[str, Policy] = {}
    for text in texts:
        subject, _, word = text.rpartition("=")
        if word not in set(Policy) or text.startswith("=") or subject == _DIMENSION:
            raise PolicyError(
                f"conflict policy {text!r}: expected defer, keep, replace or fail, alone or as "
                "DATASET_TYPE=POLICY or dimension:NAME=POLICY"
            )
        if found.setdefault(subject, Policy(word)) != word:
            what = repr(subject) if subject else "everything"
            raise PolicyError(
                f"conflict policy {text!r}: expected one policy for {what}, "
                f"found {found[subject].value!r} before it"
            )
    default = found.pop("", Policy.DEFER)
    dimensions = {name for name in found if name.startswith(_DIMENSION)}
    return ConflictPolicies(
        default,
        {name: policy for name, policy in found.items() if name not in dimensions},
        {name.removeprefix(_DIMENSION): found[name] for name in dimensions},
    )
