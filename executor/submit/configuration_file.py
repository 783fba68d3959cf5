# SPDX-License-Identifier: BSD-3-Clause
"""Reading a submit configuration: keys checked, variables put in, values converted.

A key is known, or known from BPS and without effect here (a warning), or a variable of the user
(``{name}`` stands somewhere), or a mistake.
"""

import difflib
import getpass
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from executor.submit import bps_keys
from executor.submit.configuration_levels import LEVEL_KEYS, plain_level
from executor.submit.configuration_source import Place, Source, read_source, with_variables
from executor.submit.requests import Requests

C = TypeVar("C", bound=Requests)

_log = logging.getLogger(__name__)
_VARIABLE = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PAYLOAD = "payload"
_PROFILE = "profile"
_PAYLOAD_KEYS = frozenset({"payloadName", "output", "operator", "project", "campaign"})
# Variables of variables of variables can make a short file a text without end.
_LONGEST_TEXT = 100_000
# Sections of BPS below which anything may stand.
_PIPETASK_INIT = "pipetaskInit"
_UNUSED_IN = {"site": bps_keys.UNUSED_IN_SITE, "cluster": bps_keys.UNUSED_IN_CLUSTER}


def read_file(
    path: Path, kind: type[C], environment: Mapping[str, str] = os.environ
) -> tuple[C, Source]:
    """Read a file and what it includes as a configuration; returns what was written, too.

    Raises
    ------
    ConfigurationError
        The message names file, key, what was expected and what was found.
    """
    source = read_source(path, environment)
    reader = _Reader(source, kind, environment)
    return msgspec.structs.replace(kind(), **reader.fields()), source


class _Reader:
    """One reading of a source as a struct."""

    def __init__(
        self, source: Source, kind: type[Requests], environment: Mapping[str, str]
    ) -> None:
        self._source = source
        self._kind = kind
        self._environment = environment
        self._sections = {
            field.encode_name: get_args(field.type)[1]
            for field in msgspec.structs.fields(kind)
            if get_origin(field.type) is dict and _is_level(get_args(field.type)[1])
        }
        self._variables = _scalars(source.tree)
        self._variables.setdefault("operator", getpass.getuser())
        self._used = {name for text in _texts(source.tree) for name in _VARIABLE.findall(text)}
        self._expanded: dict[str, str] = {}
        self._unused: list[Place] = []

    def fields(self) -> dict[str, object]:
        """The fields that the source sets."""
        tree = dict(self._source.tree)
        sections = {key: tree.pop(key) for key in self._sections if key in tree}
        payload = self._mapping((_PAYLOAD,), tree.pop(_PAYLOAD, None))
        found = self._level((), tree, self._kind, bps_keys.UNUSED_AT_TOP)
        found.update(self._payload_fields(payload))
        for key, section in sections.items():
            found[_field_name(self._kind, key)] = self._section(key, section)
        if self._unused:
            told = bps_keys.told(self._unused)
            _log.warning("submit configuration %s: no effect here: %s", self._source.path, told)
        return found

    def _payload_fields(self, tree: Mapping[str, Any]) -> dict[str, object]:
        known = {k: self._put_in((_PAYLOAD, k), v) for k, v in tree.items() if k in _PAYLOAD_KEYS}
        for key in tree:
            if key not in known:
                self._check_unused((_PAYLOAD, key), bps_keys.UNUSED_IN_PAYLOAD, _PAYLOAD_KEYS)
        return self._converted((_PAYLOAD,), known, self._kind)

    def _section(self, key: str, section: object) -> dict[str, Requests]:
        kind = self._sections[key]
        unused = _UNUSED_IN.get(key, bps_keys.UNUSED_EVERYWHERE)
        found = {}
        for label, tree in self._mapping((key,), section).items():
            place = (key, label)
            if label == _PIPETASK_INIT and key == "pipetask":
                self._unused.append(place)
                continue
            fields = self._level(place, self._mapping(place, tree), kind, unused)
            found[label] = self._made(place, kind, fields)
        return found

    def _made(self, place: Place, kind: type[C], fields: dict[str, object]) -> C:
        missing = [
            field.encode_name
            for field in msgspec.structs.fields(kind)
            if field.required and field.name not in fields
        ]
        if missing:
            raise self._source.error(place, f"expected key {missing[0]}, found none")
        make: Callable[..., C] = kind
        return make(**fields)

    def _level(
        self, place: Place, tree: Mapping[str, Any], kind: type[Requests], unused: Collection[str]
    ) -> dict[str, object]:
        """The fields that one level sets."""
        names = {field.encode_name for field in msgspec.structs.fields(kind)} - {"submitLines"}
        known = names | LEVEL_KEYS
        for key in tree:
            if key not in known:
                self._check_unused((*place, key), unused, known)
        for key in self._mapping((*place, _PROFILE), tree.get(_PROFILE)):
            if key != "condor":
                at = (*place, _PROFILE, key)
                self._check_unused(at, bps_keys.UNUSED_PROFILES, ("condor",))
        used = {k: self._put_in((*place, k), v) for k, v in tree.items() if k in known}
        return self._converted(place, plain_level(place, used, self._source), kind)

    def _check_unused(self, place: Place, unused: Collection[str], known: Collection[str]) -> None:
        """Take note of a key without effect; raises if nobody knows it."""
        key = place[-1]
        if key in unused or (place[:-1] in ((), (_PAYLOAD,)) and key in self._used):
            if key in unused:
                self._unused.append(place)
            return
        if key in self._source.tree.get("site", {}) or re.fullmatch(r"command\d+", key):
            self._unused.append(place)
            return
        if key.startswith("+"):
            raise self._source.error(place, "expected an attribute of the job below attributes")
        near = difflib.get_close_matches(key, sorted({*known, *unused}), n=1, cutoff=0.6)
        advice = f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(known))}"
        raise self._source.error(place, f"expected a key that is known, found {key!r}; {advice}")

    def _put_in(self, place: Place, value: Any) -> Any:
        """Put variables into all texts of a value."""
        if isinstance(value, dict):
            return {key: self._put_in((*place, str(key)), below) for key, below in value.items()}
        if isinstance(value, list):
            return [self._put_in(place, below) for below in value]
        return self._text(place, value, ()) if isinstance(value, str) else value

    def _text(self, place: Place, text: str, above: tuple[str, ...]) -> str:
        if re.search(r"<(ENV|FILE|WMS):|bpsEval\(", text):
            raise self._source.error(
                place, f"expected text, ${{NAME}} or {{key}}; found {text!r}, which BPS alone knows"
            )
        # Values of the environment are text as it is: nothing is put in once more.
        found = "".join(
            self._variable(place, part, text, above)
            if number % 2
            else with_variables(part, self._environment, self._source, place)
            for number, part in enumerate(_VARIABLE.split(text))
        )
        if len(found) > _LONGEST_TEXT:
            raise self._source.error(
                place, f"expected {_LONGEST_TEXT} characters at most, found {len(found)}"
            )
        return found

    def _variable(self, place: Place, name: str, text: str, above: tuple[str, ...]) -> str:
        if name in above or name not in self._variables:
            told = "which is defined by itself" if name in above else self._undefined(name)
            raise self._source.error(place, f"{text!r}: found {{{name}}}, {told}")
        if name not in self._expanded:
            self._expanded[name] = self._text(place, self._variables[name], (*above, name))
        return self._expanded[name]

    def _undefined(self, name: str) -> str:
        if name in bps_keys.MADE_BY_BPS:
            return (
                "which BPS makes anew at every call; leave it out: below submitPath each RUN and "
                "each submission has a directory of its own"
            )
        if name in self._environment:
            return f"which no key defines; ${{{name}}} is the variable of the environment"
        near = difflib.get_close_matches(name, self._variables, n=1)
        return (
            f"which no key defines; did you mean {{{near[0]}}}?"
            if near
            else ("which no key defines")
        )

    def _converted(
        self, place: Place, tree: Mapping[str, Any], kind: type[Requests]
    ) -> dict[str, object]:
        found: dict[str, object] = {}
        for field in msgspec.structs.fields(kind):
            value = tree.get(field.encode_name)
            if value is None:
                continue
            at = (*place, field.encode_name)
            try:
                found[field.name] = msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                told = str(error).removesuffix(" - at `$`").replace(" | null", "")
                raise self._source.error(at, f"{told[:1].lower()}{told[1:]}: {value!r}") from error
        return found

    def _mapping(self, place: Place, value: object) -> dict[str, Any]:
        if not isinstance(value, dict | None):
            raise self._source.error(place, f"expected keys, found {value!r}")
        return value or {}


def _is_level(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Requests)


def _field_name(kind: type[Requests], key: str) -> str:
    return next(f.name for f in msgspec.structs.fields(kind) if f.encode_name == key)


def _scalars(tree: Mapping[str, Any]) -> dict[str, str]:
    """What ``{name}`` can stand for: single values at the top, and in ``payload`` before them."""
    payload = tree.get(_PAYLOAD)
    levels = [tree, payload if isinstance(payload, dict) else {}]
    return {
        key: str(value)
        for level in levels
        for key, value in level.items()
        if isinstance(value, str | int | float)
    }


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _texts(below)
    elif isinstance(value, str):
        yield value
