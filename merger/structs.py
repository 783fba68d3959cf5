# SPDX-License-Identifier: BSD-3-Clause
"""msgspec twins of the dataclasses in `registry`.

`registry.typed_json` is standard library only, for the worker. Decoding 27,000 deltas wants
msgspec, and only its structs refuse unknown fields, so the twins are derived from the
dataclasses: one definition, and a test that both decoders accept and refuse the same.
"""

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")


def struct_of(cls: type) -> type[msgspec.Struct]:
    """Return the struct with the fields, types and defaults of a dataclass."""
    hints = typing.get_type_hints(cls)
    fields: list[Any] = []
    for field in dataclasses.fields(cls):
        kind = _twin(hints[field.name])
        if field.default is not dataclasses.MISSING:
            fields.append((field.name, kind, field.default))
        elif field.default_factory is not dataclasses.MISSING:
            default = msgspec.field(default_factory=field.default_factory)
            fields.append((field.name, kind, default))
        else:
            fields.append((field.name, kind))
    # Trees of strings and numbers have no cycles, and the collector need not walk 27,000 of them.
    return msgspec.defstruct(
        cls.__name__, fields, frozen=True, gc=False, forbid_unknown_fields=True
    )


def _twin(kind: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return struct_of(cast(type, kind))
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(lambda a, b: a | b, (_twin(member) for member in members))
    if origin is list:
        return list[_twin(members[0])]  # type: ignore[misc]
    if origin is dict:
        return dict[str, _twin(members[1])]  # type: ignore[misc]
    return kind


class Decoder(typing.Generic[T]):
    """Reads JSON as the struct of a dataclass; the caller sees the type of the dataclass."""

    def __init__(self, cls: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(struct_of(cls), strict=True)

    def decode(self, text: bytes) -> T:
        """Read one object.

        Raises
        ------
        msgspec.ValidationError
            If a field is missing, unknown or of another type.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError
            If the text is no JSON.
        """
        return cast(T, self._decoder.decode(text))

    def decode_lines(self, text: bytes) -> list[T]:
        """Read one object per line; raises as `decode`."""
        return cast(list[T], self._decoder.decode_lines(text))
