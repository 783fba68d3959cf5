# SPDX-License-Identifier: BSD-3-Clause
"""Dataset types and data IDs as they come, gathered as numbers and not as objects.

A million quanta name ten million datasets; here each costs eight bytes per dimension.
"""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from executor.graph.column_codes import Integers
from executor.graph.graph_reader import MAX_INTEGER, value_problem
from executor.graph.graph_tables import DIMENSION_PREFIX
from registry.model import DatasetType


class WrongValueError(ValueError):
    """A data ID that cannot be gathered; whoever gathers knows the place."""


@dataclass
class Texts:
    """The values of all text dimensions, each once; a value is stood for by its number."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        """The number of a text; raises `WrongValueError` for text that no file can hold."""
        found = self.numbers.get(text)
        if found is None:
            problem = value_problem(text)
            if problem:
                raise WrongValueError(f"expected {problem}, found {text!r}")
            found = self.numbers[text] = len(self.numbers)
        return found

    def column(self, numbers: Integers, mask: np.ndarray | None = None) -> pa.Array:
        """The texts of some numbers; none where the mask is true."""
        known = pa.array(self.numbers, pa.string())
        return known.take(pa.array(numbers, mask=mask))


class References:
    """A growing list of dataset references: type and data ID of each.

    Parameters
    ----------
    dimensions
        Dimension → ``int`` or ``str``.
    texts
        Shared by all lists of a graph, so that equal texts have equal numbers.
    """

    def __init__(
        self, kinds: Mapping[str, DatasetType], dimensions: Mapping[str, str], texts: Texts
    ) -> None:
        self._dimensions = dimensions
        self._texts = texts
        self._codes = array("q")
        self._values = [[array("q") for _ in kind.dimensions] for kind in kinds.values()]
        self._kinds = {
            kind.name: (code, len(kind.dimensions), self._columns(kind, code))
            for code, kind in enumerate(kinds.values())
        }
        self._names = [kind.dimensions for kind in kinds.values()]

    def _columns(
        self, kind: DatasetType, code: int
    ) -> list[tuple[str, Callable[[int], None], bool]]:
        return [
            (name, self._values[code][place].append, self._dimensions[name] == "int")
            for place, name in enumerate(kind.dimensions)
        ]

    def __len__(self) -> int:
        """The number of references."""
        return len(self._codes)

    def append(self, dataset_type: str, data_id: Mapping[str, object]) -> None:
        """Add one; raises `WrongValueError` if type, dimensions or values are not as declared."""
        found = self._kinds.get(dataset_type)
        if found is None:
            raise WrongValueError(
                f"expected one of the dataset types {sorted(self._kinds)}, found {dataset_type!r}"
            )
        code, n_dimensions, columns = found
        if type(data_id) is not dict and not isinstance(data_id, Mapping):
            self._refuse(dataset_type, data_id)
        if len(data_id) != n_dimensions:
            self._refuse(dataset_type, data_id)
        for name, append, is_integer in columns:
            value = data_id.get(name)
            if type(value) is int and is_integer:
                if not -MAX_INTEGER <= value <= MAX_INTEGER:
                    raise WrongValueError(f"{name}: expected {value_problem(value)}, found {value}")
                append(value)
            elif type(value) is str and not is_integer:
                append(self._texts.number(value))
            else:
                self._refuse(dataset_type, data_id)
        self._codes.append(code)

    def _refuse(self, dataset_type: str, data_id: object) -> None:
        code = self._kinds[dataset_type][0]
        wanted = {name: self._dimensions[name] for name in self._names[code]}
        raise WrongValueError(
            f"{dataset_type}: expected a data ID with dimensions {wanted}, found {data_id!r}"
        )

    def codes(self) -> Integers:
        """The place of each one's dataset type among all."""
        return np.frombuffer(self._codes, np.int64) if self._codes else np.empty(0, np.int64)

    def values(self, code: int) -> list[Integers]:
        """The values of the references to one dataset type, a column per dimension."""
        return [
            np.frombuffer(column, np.int64) if column else np.empty(0, np.int64)
            for column in self._values[code]
        ]

    def columns(self) -> dict[str, pa.Array]:
        """Everything as the columns of a table, none where a type lacks a dimension."""
        codes = self.codes()
        return {
            DIMENSION_PREFIX + name: self._column(name, kind, codes)
            for name, kind in self._dimensions.items()
        }

    def _column(self, dimension: str, kind: str, codes: Integers) -> pa.Array:
        values = np.zeros(len(codes), np.int64)
        is_missing = np.ones(len(codes), bool)
        for code, names in enumerate(self._names):
            if dimension in names:
                rows = codes == code
                values[rows] = self.values(code)[names.index(dimension)]
                is_missing[rows] = False
        if kind == "int":
            return pa.array(values, mask=is_missing)
        return self._texts.column(values, is_missing)
