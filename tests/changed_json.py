# SPDX-License-Identifier: BSD-3-Clause
"""Changing one place of a JSON value, wherever it is."""

import json
from typing import Any

from tests.factories import framed

Place = tuple[str | int, ...]


def places(value: object, path: Place = ()) -> list[Place]:
    """Every place in a JSON value."""
    entries: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    found = [path] if path else []
    return found + [p for key, inner in entries for p in places(inner, (*path, key))]


def at(value: Any, path: Place) -> Any:
    """What stands at a place."""
    for step in path:
        value = value[step]
    return value


def changed_delta(body: object, place: Place, value: object) -> bytes:
    """The delta of a body with another value at a place, and with the right checksum."""
    body = json.loads(json.dumps(body))
    at(body, place[:-1])[place[-1]] = value
    return framed(json.dumps(body, separators=(",", ":")).encode()[1:])
