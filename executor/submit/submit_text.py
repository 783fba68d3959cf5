# SPDX-License-Identifier: BSD-3-Clause
"""Text of submit descriptions and DAG files: quoted, or refused where it would be read otherwise.

A value of a configuration or of a graph that holds a line break, a quote or a macro could add lines
of its own to a submit description. None of these is needed, so they are refused, not escaped.
"""

import math
import re
from collections.abc import Mapping

from executor.submit.configuration import ConfigurationError

_SAFE_WORD = re.compile(r"[^\s\"';$\\\x00-\x1f\x7f]+\Z")
_SAFE_TEXT = re.compile(r"[^\"$\\\x00-\x1f\x7f]*\Z")
_SAFE_LINE = re.compile(r"[^\x00-\x1f\x7f]*\Z")
_SAFE_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Node names and categories stand unquoted in a DAG file; DAGMan takes neither . nor + in a node.
_SAFE_NODE = re.compile(r"[A-Za-z0-9_-]+\Z")


def submit_text(lines: Mapping[str, str]) -> str:
    """Return a submit description of one job.

    Raises
    ------
    ConfigurationError
        If a value would end its line.
    """
    for key, value in lines.items():
        if not _SAFE_LINE.match(value) or value.endswith("\\"):
            raise ConfigurationError(
                f"submit description, {key}: expected one line without control characters, "
                f"found {value!r}"
            )
    return "".join(f"{key} = {value}\n" for key, value in lines.items()) + "queue\n"


def safe_word(word: str, what: str) -> str:
    """Return a path, address or argument; raises `ConfigurationError` if it needs quoting."""
    if not _SAFE_WORD.match(word):
        raise ConfigurationError(
            f"{what}: expected no white space, quotes, ;, $ or backslash, found {word!r}"
        )
    return word


def node_word(word: str, what: str) -> str:
    """Return a name for a DAG file; raises `ConfigurationError` if DAGMan would not take it."""
    if not _SAFE_NODE.match(word):
        raise ConfigurationError(
            f"{what}: expected letters, digits, _ and - only, as DAGMan takes them; found {word!r}"
        )
    return word


def class_ad_string(text: str, what: str) -> str:
    """Return a string for an attribute of a job; raises `ConfigurationError`."""
    if not _SAFE_TEXT.match(text):
        raise ConfigurationError(
            f"{what}: expected no double quotes, $, backslash or control characters, found {text!r}"
        )
    return f'"{text}"'


def class_ad_value(value: str | int | float | bool, what: str) -> str:
    """Return a value of YAML as one of ClassAds; text is a string, never an expression."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return class_ad_string(value, what)
    if not math.isfinite(value) or (abs(value) >= 2**63 and isinstance(value, int)):
        raise ConfigurationError(f"{what}: expected a number that ClassAds have, found {value!r}")
    return repr(value)


def environment_text(variables: Mapping[str, str], what: str) -> str:
    """Return ``environment`` as a submit description takes it: ``"A=1 'B=x y'"``.

    Raises
    ------
    ConfigurationError
        If a name is none, or a value holds a macro or a control character.
    """
    words = []
    for name, value in variables.items():
        if not _SAFE_VARIABLE.match(name):
            raise ConfigurationError(
                f"{what}: expected names of letters, digits and _, found {name!r}"
            )
        if "$" in value or not _SAFE_LINE.match(value):
            raise ConfigurationError(
                f"{what}: {name}: expected no $ and no control characters, found {value!r}"
            )
        word = f"{name}={value}".replace('"', '""')
        words.append("'" + word.replace("'", "''") + "'" if re.search(r"[\s']", word) else word)
    return f'"{" ".join(words)}"'
