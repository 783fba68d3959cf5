# SPDX-License-Identifier: BSD-3-Clause
"""Values of a submit configuration that must fit each other, or stand safely in a submit file."""

import difflib
import re
from typing import TYPE_CHECKING

from executor.submit.configuration_source import Place, Source
from executor.submit.requests import Requests
from registry.hidden_words import has_secret

if TYPE_CHECKING:
    from executor.submit.configuration import SubmitConfiguration

_PATHS = ("worker_executable", "merge_executable", "merge_config", "bundle")
_WORD = re.compile(r"(?!.*(\A|/)\.\.(/|\Z))[^\s\"'\\]*\Z")
_WORD_TOLD = "a word without spaces, quotes, backslashes and .."
_GROUP = re.compile(r"[A-Za-z0-9_.@-]+\Z")
_LIMITS = re.compile(r"[A-Za-z0-9_.]+(:[0-9.]+)?(\s*,\s*[A-Za-z0-9_.]+(:[0-9.]+)?)*\Z")
_IMAGE = re.compile(r"((docker|oras|library|shub)://[A-Za-z0-9._/:@-]+|/[A-Za-z0-9._/@+-]+)\Z")
_COLLECTION = re.compile(r"(?!.*(\A|/)\.\.?(/|\Z))[A-Za-z0-9_.@+-]+(/[A-Za-z0-9_.@+-]+)*\Z")


def check_configuration(found: "SubmitConfiguration", source: Source) -> None:
    """Check what types alone do not say.

    Raises
    ------
    ConfigurationError
        The message names file and key.
    """
    _check_top(found, source)
    _check_level((), found, source)
    for key in ("site", "pipetask", "cluster"):
        for label, level in getattr(found, key, {}).items():
            _check_level((key, label), level, source)
    if found.compute_site and found.site and found.compute_site not in found.site:
        near = difflib.get_close_matches(found.compute_site, found.site, n=1)
        advice = f"did you mean {near[0]}?" if near else f"one of {', '.join(found.site)}"
        raise source.error(
            ("computeSite",), f"expected a section of site, found {found.compute_site!r}; {advice}"
        )


def _check_top(found: "SubmitConfiguration", source: Source) -> None:
    for name in _PATHS:
        value = getattr(found, name)
        if value and not value.startswith("/"):
            raise source.error((_key(name),), f"expected an absolute path, found {value!r}")
    if not found.submit_path:
        raise source.error(("submitPath",), "expected a directory, found none")
    if has_secret(found.s3_endpoint_url):
        raise source.error(("s3EndpointUrl",), "expected an address without a secret")
    for name in ("project", "campaign", "operator", "payload_name", "compute_site"):
        _expect((_key(name),), getattr(found, name), _WORD, _WORD_TOLD, source)
    if found.output:
        _expect(("output",), found.output, _COLLECTION, "the name of a collection", source)


def _check_level(place: Place, level: Requests, source: Source) -> None:
    first, most = level.request_memory, level.request_memory_max
    if first is not None and most is not None and most < first:
        keys = ("requestMemoryMax", "memoryLimit")
        key = next((key for key in keys if (*place, key) in source.files), keys[0])
        raise source.error((*place, key), f"expected at least requestMemory, {first}; found {most}")
    forms = {
        "container_image": (_IMAGE, "docker://…, oras://… or an absolute path"),
        "accounting_group": (_GROUP, "the name of a group"),
        "accounting_user": (_GROUP, "the name of a user"),
        "concurrency_limit": (_LIMITS, "names of limits, with commas"),
    }
    for name, (form, told) in forms.items():
        value = getattr(level, name)
        if value is not None:
            _expect((*place, _key(name)), value, form, told, source)
    for code in level.final_exit_codes():
        if not 0 < code < 256:
            at = (*place, "retryUnlessExit")
            raise source.error(at, f"expected codes from 1 to 255, found {code}")


def _expect(place: Place, value: str, form: re.Pattern[str], told: str, source: Source) -> None:
    if not form.match(value):
        raise source.error(place, f"expected {told}, found {value!r}")


def _key(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
