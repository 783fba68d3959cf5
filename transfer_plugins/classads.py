# SPDX-License-Identifier: BSD-3-Clause
"""ClassAds as the plugin protocol uses them: literals only, without HTCondor's bindings.

The input file of a plugin holds new-format ads (``[ Url = "…"; LocalFileName = "…" ]``), the job
ad is in the old format, one ``Name = expression`` a line. Expressions are not evaluated: what is
no literal is kept as its text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from registry.errors import FormatError


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that is no literal, as it was written."""

    text: str


Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | Expression | None"
ClassAd: TypeAlias = dict[str, Value]


_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")
    | (?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)(?![\w.]))
    | (?P<word>[A-Za-z_][\w.]*|'(?:[^'\\]|\\.)*')
    | (?P<mark>[\[\]{}=;,])
    | (?P<other>\S))""",
    re.VERBOSE,
)
_WORDS: dict[str, Value] = {"true": True, "false": False, "undefined": None}
_ESCAPES = {
    **{b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b"},
    **{b"f": b"\f", b"a": b"\a", b"v": b"\v"},
}
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2}|[0-7]{1,2}|.)", re.DOTALL)
# HTCondor writes no raw control characters; NUL would end its strings.
_WRITTEN_ESCAPES = {
    **{code: f"\\{code:03o}" for code in (*range(1, 32), 127)},
    **{ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"},
    **{ord("\\"): "\\\\", ord('"'): '\\"', 0: " "},
}


def parse_ads(text: str) -> list[ClassAd]:
    """Read new-format ads written one after another.

    Raises
    ------
    FormatError
        If a bracket is missing or an attribute has no name.
    """
    tokens = _Tokens(text)
    ads = []
    while tokens.kind != "end":
        if tokens.text == ",":
            tokens.advance()
            continue
        ads.append(_parse_ad(tokens))
    return ads


def parse_old_ad(text: str) -> ClassAd:
    """Read an old-format ad such as the job ad; names are given in lower case."""
    ad: ClassAd = {}
    for line in text.splitlines():
        name, separator, expression = line.partition("=")
        if separator:
            ad[name.strip().lower()] = _parse_old_value(expression)
    return ad


def _parse_old_value(expression: str) -> Value:
    """Read one value of an old-format ad; what cannot be read must not hide the other values."""
    try:
        return _parse_value(_Tokens(expression))
    except FormatError:
        return Expression(expression.strip())


def format_ad(ad: Mapping[str, Value]) -> str:
    """Write a new-format ad on one line."""
    return "[ " + " ".join(f"{name} = {_format(value)};" for name, value in ad.items()) + " ]"


def _format(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "undefined"
    if isinstance(value, str):
        return f'"{value.translate(_WRITTEN_ESCAPES)}"'
    if isinstance(value, list):
        return "{ " + ", ".join(_format(element) for element in value) + " }"
    if isinstance(value, dict):
        return format_ad(value)
    return value.text if isinstance(value, Expression) else repr(value)


class _Tokens:
    """The tokens of a text, one at a time."""

    def __init__(self, text: str) -> None:
        self._matches: Iterator[re.Match[str]] = _TOKEN.finditer(text)
        self.kind = self.text = ""
        self.advance()

    def advance(self) -> None:
        found = next(self._matches, None)
        self.kind = (found.lastgroup or "end") if found else "end"
        self.text = found[self.kind] if found and self.kind != "end" else ""

    def expect(self, mark: str) -> None:
        if self.text != mark or self.kind != "mark":
            raise FormatError(f"ClassAd: expected {mark!r}, found {self.text or 'its end'!r}")
        self.advance()


def _parse_ad(tokens: _Tokens) -> ClassAd:
    tokens.expect("[")
    ad: ClassAd = {}
    while tokens.text != "]":
        if tokens.text == ";":
            tokens.advance()
            continue
        if tokens.kind != "word":
            raise FormatError(
                f"ClassAd: expected the name of an attribute, found {tokens.text or 'its end'!r}"
            )
        name = _unescape(tokens.text[1:-1]) if tokens.text[0] == "'" else tokens.text
        tokens.advance()
        tokens.expect("=")
        ad[name] = _parse_value(tokens)
    tokens.advance()
    return ad


def _parse_value(tokens: _Tokens) -> Value:
    """Read a value up to the mark that ends it; anything but one literal is an expression."""
    value = _parse_literal(tokens)
    rest = _skip_expression(tokens)
    return Expression(f"{_format(value)} {rest}") if rest else value


def _parse_literal(tokens: _Tokens) -> Value:
    kind, text = tokens.kind, tokens.text
    if kind == "mark" and text == "[":
        return _parse_ad(tokens)
    if kind == "mark" and text == "{":
        return _parse_list(tokens)
    if kind in ("mark", "end"):
        return None
    tokens.advance()
    if kind == "string":
        return _unescape(text[1:-1])
    if kind == "number":
        return float(text) if any(c in text for c in ".eE") else int(text)
    return _WORDS.get(text.lower(), Expression(text))


def _parse_list(tokens: _Tokens) -> list[Value]:
    tokens.advance()
    elements: list[Value] = []
    while tokens.text != "}" or tokens.kind != "mark":
        if tokens.kind == "end":
            raise FormatError("ClassAd: expected '}', found its end")
        elements.append(_parse_value(tokens))
        if tokens.text == ",":
            tokens.advance()
        elif tokens.text != "}":
            raise FormatError(f"ClassAd: expected ',' or '}}', found {tokens.text or 'its end'!r}")
    tokens.advance()
    return elements


def _skip_expression(tokens: _Tokens) -> str:
    """Take the rest of an expression up to ``;``, ``,`` or a bracket that was opened before it."""
    rest, depth = [], 0
    while tokens.kind != "end":
        if tokens.kind == "mark" and depth == 0 and tokens.text in ";,]}":
            break
        if tokens.text in ("[", "{", "("):
            depth += 1
        elif tokens.text in ("]", "}", ")"):
            depth -= 1
        rest.append(tokens.text)
        tokens.advance()
    return " ".join(rest)


def _unescape(text: str) -> str:
    """Replace escapes, over bytes: HTCondor writes each byte of UTF-8 as an octal escape."""
    resolved = _ESCAPE.sub(_unescape_one, text.encode("utf-8", "surrogateescape"))
    return resolved.decode("utf-8", "surrogateescape")


def _unescape_one(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code, 8)]) if code[:1] in b"01234567" else _ESCAPES.get(code, code)
