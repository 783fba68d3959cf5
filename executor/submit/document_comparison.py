# SPDX-License-Identifier: BSD-3-Clause
"""JSON and YAML documents compared: the first paths at which they differ."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

_MAX_LINES = 10
_MAX_SHOWN = 60


def compare_json(old: Path, new: Path) -> list[str]:
    """Compare two JSON files; raises `ValueError` if one is none."""
    return _told(json.loads(old.read_bytes()), json.loads(new.read_bytes()))


def compare_yaml(old: Path, new: Path) -> list[str]:
    """Compare two YAML files, plain values only; raises `yaml.YAMLError`."""
    import yaml

    return _told(yaml.safe_load(old.read_bytes()), yaml.safe_load(new.read_bytes()))


def _told(old: object, new: object) -> list[str]:
    found = list(itertools.islice(_differences("$", old, new), _MAX_LINES + 1))
    return found if len(found) <= _MAX_LINES else [*found[:_MAX_LINES], "and more"]


def _differences(path: str, old: object, new: object) -> Iterator[str]:
    """Walk two documents side by side; without recursion into what only one of them has."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            place = f"{path}.{key}" if str(key).isidentifier() else f"{path}[{key!r}]"
            if key not in new:
                yield f"{place}: missing, was {_shown(old[key])}"
            elif key not in old:
                yield f"{place}: extra, is {_shown(new[key])}"
            else:
                yield from _differences(place, old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list):
        for index, (one, two) in enumerate(zip(old, new, strict=False)):
            yield from _differences(f"{path}[{index}]", one, two)
        if len(old) != len(new):
            yield f"{path}: {len(old)} elements, now {len(new)}"
    elif type(old) is not type(new) or not _is_equal(old, new):
        yield f"{path}: {_shown(old)}, now {_shown(new)}"


def _is_equal(old: object, new: object) -> bool:
    """NaN is no difference to NaN."""
    return old == new or (old != old and new != new)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
