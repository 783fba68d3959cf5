# SPDX-License-Identifier: BSD-3-Clause
"""Values of dimensions by which quanta are put together, with dimensions that stand for others."""

from collections.abc import Sequence

from executor.submit.configuration import ConfigurationError
from registry.model import DataId, DataIdValue

Values = tuple[DataIdValue | None, ...]
"""Of the dimensions of a cluster, then of those by which it is partitioned."""


def natural_order(data_id: DataId) -> tuple[tuple[str, bool, DataIdValue], ...]:
    """A key that sorts data IDs as people would: visit 9 before visit 10."""
    return tuple((name, isinstance(value, str), value) for name, value in data_id.items())


class DimensionValues:
    """The dimensions of a cluster.

    Parameters
    ----------
    where
        The place in the configuration, for messages.
    equal
        Pairs such as ``visit:exposure``.

    Raises
    ------
    ConfigurationError
        If a pair is none.
    """

    def __init__(
        self, where: str, dimensions: Sequence[str], partitions: Sequence[str], equal: Sequence[str]
    ) -> None:
        self.where = where
        self.names = [*dimensions, *partitions]
        self._equal: dict[str, list[str]] = {name: [name] for name in self.names}
        for pair in equal:
            words = [word.strip() for word in pair.split(":")]
            if len(words) != 2 or not all(words):
                raise ConfigurationError(
                    f"{where}: equalDimensions: expected pairs such as visit:exposure, found "
                    f"{pair!r}"
                )
            for one, other in (words, words[::-1]):
                if one in self._equal:
                    self._equal[one].append(other)

    def values(self, data_id: DataId) -> Values:
        """The values that a data ID has; None where it has none."""
        return tuple(
            next((data_id[n] for n in self._equal[name] if n in data_id), None)
            for name in self.names
        )

    def complete(self, data_id: DataId, what: str) -> Values:
        """The same of a data ID that must have them all.

        Raises
        ------
        ConfigurationError
            If it has not.
        """
        found = self.values(data_id)
        if None in found:
            missing = [n for n, v in zip(self.names, found, strict=True) if v is None]
            raise ConfigurationError(
                f"{self.where}: expected values of {', '.join(self.names)}, found none of "
                f"{', '.join(missing)} in {what}; name an equal dimension in equalDimensions, let "
                "findDependencyMethod take it from the quanta beside it, or take the task out"
            )
        return found
