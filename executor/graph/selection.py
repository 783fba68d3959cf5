# SPDX-License-Identifier: BSD-3-Clause
"""Which quanta are meant: by id, by task label, by data ID as a person types it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from registry.errors import QuantumExecError
from registry.model import DataIdValue


class SelectionError(QuantumExecError, ValueError):
    """A quantum, task label or data ID that was asked for is written wrongly or is not there."""

    error_type = "selection"


def parse_data_id(text: str) -> dict[str, DataIdValue]:
    """Read a data ID: ``exposure=3,detector=1``, or JSON: ``{"exposure": 3, "field": "a,b"}``.

    Values of the first form are text: `matches` compares what a value looks like, so that the
    dimensions need not be known.

    Raises
    ------
    SelectionError
        If it is neither, is empty, or names a dimension twice.
    """
    if text.lstrip().startswith("{"):
        return _parse_json(text)
    wanted: dict[str, DataIdValue] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier() or name in wanted:
            raise SelectionError(
                "data ID: expected dimensions and values such as exposure=3,detector=1, each "
                f"dimension once, found {text!r}"
            )
        wanted[name] = value.strip()
    return wanted


def _parse_json(text: str) -> dict[str, DataIdValue]:
    try:
        wanted = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SelectionError(f"data ID: expected JSON, {error}, found {text!r}") from error
    if not wanted or not all(type(value) in (int, str) for value in wanted.values()):
        raise SelectionError(
            f"data ID: expected dimensions with whole numbers or text, found {text!r}"
        )
    return dict(wanted)


def matches(data_id: Mapping[str, DataIdValue], wanted: Mapping[str, DataIdValue]) -> bool:
    """Whether a data ID has every dimension that is wanted, with that value; it may have more."""
    return all(name in data_id and str(data_id[name]) == str(wanted[name]) for name in wanted)


@dataclass(frozen=True)
class Selection:
    """Quanta by ids, task labels and data IDs: of each kind given, one must be met.

    With none of the three everything is selected.
    """

    quantum_ids: frozenset[str] = frozenset()
    task_labels: frozenset[str] = frozenset()
    data_ids: tuple[Mapping[str, DataIdValue], ...] = field(default=())

    @classmethod
    def of(
        cls, quanta: Iterable[str] = (), tasks: Iterable[str] = (), data_ids: Iterable[str] = ()
    ) -> "Selection":
        """Read what the options of a command hold; raises `SelectionError`."""
        parsed = tuple(parse_data_id(text) for text in data_ids)
        return cls(frozenset(quanta), frozenset(tasks), parsed)

    @property
    def is_everything(self) -> bool:
        """Whether nothing in particular was asked for."""
        return not (self.quantum_ids or self.task_labels or self.data_ids)

    def takes(self, quantum_id: str, label: str, data_id: Mapping[str, DataIdValue]) -> bool:
        """Whether a quantum is meant."""
        return (
            (not self.quantum_ids or quantum_id in self.quantum_ids)
            and (not self.task_labels or label in self.task_labels)
            and (not self.data_ids or any(matches(data_id, w) for w in self.data_ids))
        )
