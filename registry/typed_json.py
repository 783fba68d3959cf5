# SPDX-License-Identifier: BSD-3-Clause
"""JSON to dataclasses and back, strict about types, naming the place of an error.

Standard library only, for the worker and the plugin. The merger decodes the same dataclasses
with msgspec, which is several times faster on 27,000 deltas; a test keeps the two of one mind.
"""

import dataclasses
import enum
import functools
import json
import math
import sys
import types
import typing
from typing import Any, TypeVar

from registry.errors import FormatError, NewerFormatError

T = TypeVar("T")


def encode(value: object) -> str:
    """One line of compact JSON; dataclasses as objects, non-ASCII as it is; no NaN."""
    return json.dumps(
        value, default=_plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def canonical(value: object) -> str:
    """The one text of a JSON value: keys sorted, no spaces, so that equal values compare equal."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def decode(cls: type[T], text: str | bytes, what: str) -> T:
    """Read JSON text as an instance of a dataclass.

    Parameters
    ----------
    what
        Name of the thing being read, for the error: "job file 's3://…'".

    Raises
    ------
    FormatError
        If the text is no JSON, or a field is missing, unknown or of another type.
    """
    return typing.cast(T, structure(cls, load(text, what), what))


def decode_format(cls: type[T], text: str | bytes, what: str, *, newest: int, upgrade: str) -> T:
    """Read JSON text whose member ``format`` tells which release wrote it.

    Parameters
    ----------
    newest
        The newest format that this release reads.
    upgrade
        What to do about a newer one.

    Raises
    ------
    NewerFormatError
        If a newer release wrote it; what else it holds is not looked at.
    FormatError
        As `decode` does.
    """
    value = load(text, what)
    found = value.get("format") if isinstance(value, dict) else None
    if type(found) is int and found > newest:
        raise NewerFormatError(
            f"{what}: expected format {newest} or older, found {found}; {upgrade}"
        )
    return typing.cast(T, structure(cls, value, what))


def load(text: str | bytes, what: str) -> object:
    """Read JSON as RFC 8259 has it, without the extensions that `json` accepts by itself.

    Raises
    ------
    FormatError
        Also for NaN, infinities, and lone surrogates, which no database takes.
    """
    try:
        # Given bytes, json guesses UTF-16 and passes lone surrogates.
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, parse_constant=_refuse_number, parse_float=_finite)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what}: expected JSON, found {error}") from error
    return typing.cast(object, value)


def _refuse_number(text: str) -> float:
    raise ValueError(f"a number that is not finite: {text}")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def structure(kind: Any, value: Any, place: str) -> Any:
    """Check a decoded JSON value against a type and build the dataclasses in it."""
    if kind is Any or kind is object:
        return value
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _structure_optional(kind, value, place)
    if origin is list or origin is tuple:
        _expect(isinstance(value, list), "a list", value, place)
        element = typing.get_args(kind)[0]
        built = [structure(element, v, f"{place}[{i}]") for i, v in enumerate(value)]
        return tuple(built) if origin is tuple else built
    if origin is dict:
        _expect(isinstance(value, dict), "an object", value, place)
        element = typing.get_args(kind)[1]
        return {key: structure(element, v, f"{place}.{key}") for key, v in value.items()}
    if dataclasses.is_dataclass(kind):
        return _structure_dataclass(typing.cast(type, kind), value, place)
    return _structure_scalar(kind, value, place)


def _structure_optional(kind: Any, value: Any, place: str) -> Any:
    members = typing.get_args(kind)
    if value is None and types.NoneType in members:
        return None
    others = [m for m in members if m is not types.NoneType]
    if len(others) == 1:
        return structure(others[0], value, place)
    _expect(type(value) in others, " or ".join(m.__name__ for m in others), value, place)
    return value


def _structure_dataclass(cls: type, value: Any, place: str) -> Any:
    _expect(isinstance(value, dict), "an object", value, place)
    hints, required = _fields_of(cls)
    for name in value:
        if name not in hints:
            raise FormatError(f"{place}: unknown field {name!r}; expected one of {sorted(hints)}")
    for name in required:
        if name not in value:
            raise FormatError(f"{place}: field {name!r} is missing")
    return cls(**{name: structure(hints[name], v, f"{place}.{name}") for name, v in value.items()})


@functools.cache
def _fields_of(cls: type) -> tuple[dict[str, Any], list[str]]:
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    required = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    return {f.name: hints[f.name] for f in fields}, required


def _structure_scalar(kind: Any, value: Any, place: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum):
        members = [m.value for m in kind]
        _expect(value in members, f"one of {members}", value, place)
        return kind(value)
    if kind is float:
        _expect(type(value) in (int, float) and _is_double(value), "a number", value, place)
        return float(value)
    # bool is a subclass of int, but true is not a size.
    _expect(type(value) is kind, _JSON_NAMES[kind], value, place)
    return value


def _is_double(number: int | float) -> bool:
    """Whether a number has a place among the doubles; integers may be larger than all of them."""
    return abs(number) <= sys.float_info.max


_JSON_NAMES = {str: "a string", int: "an integer", bool: "true or false"}


def _expect(is_right: bool, expected: str, found: object, place: str) -> None:
    if not is_right:
        shown = repr(found)
        shown = shown if len(shown) <= 80 else shown[:77] + "…"
        raise FormatError(f"{place}: expected {expected}, found {shown}")
