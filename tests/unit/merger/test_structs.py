# SPDX-License-Identifier: BSD-3-Clause
"""The fast decoder and that of the worker accept and refuse the same."""

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.structs import Decoder
from registry import typed_json
from registry.delta import Delta, delta_body, write_delta
from registry.errors import FormatError
from registry.graph_record import PredictedQuantum
from registry.model import DimensionRecord
from tests import factories

GRAPH = factories.make_graph()
DELTA = factories.make_delta(
    GRAPH,
    dimension_record=[DimensionRecord("exposure", {"exposure": 0}, {"airmass": 1.25, "n": None})],
)
BODY = delta_body(write_delta(DELTA))
decoder = Decoder(Delta)


def with_msgspec(text: bytes) -> object:
    """What the merger reads, as plain objects; None if it refuses."""
    try:
        return msgspec.to_builtins(decoder.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def with_typed_json(text: bytes) -> object:
    """The same of what the worker reads."""
    try:
        return plain(typed_json.decode(Delta, text, "delta"))
    except FormatError:
        return None


def plain(value: object) -> Any:
    return json.loads(typed_json.encode(dataclasses.asdict(value)))  # type: ignore[call-overload]


def test_real_delta() -> None:
    assert with_msgspec(BODY) == with_typed_json(BODY) == plain(DELTA)


def test_predicted_quanta() -> None:
    lines = [typed_json.encode(quantum).encode() for quantum in GRAPH.quanta]
    decoded = Decoder(PredictedQuantum).decode_lines(b"\n".join(lines))
    assert [msgspec.to_builtins(quantum) for quantum in decoded] == [
        dataclasses.asdict(quantum) for quantum in GRAPH.quanta
    ]


REFUSED = [
    b"",
    b"null",
    b"[]",
    BODY[:-1],
    BODY + b"x",
    b"\xef\xbb\xbf" + BODY,
    BODY.decode().encode("utf-16"),
    BODY.replace(b'"host":"worker-7"', b'"host":"\\ud800"'),
    BODY.replace(b'"host":"worker-7"', b'"host":"\xed\xa0\x80"'),
    BODY.replace(b'"host":"worker-7"', b'"host":"\xff"'),
    BODY.replace(b'"host":"worker-7"', b'"host":"a\nb"'),
    BODY.replace(b'"host":"worker-7"', b'"host":null'),
    BODY.replace(b'"host":"worker-7"', b'"host":7'),
    BODY.replace(b'"host":"worker-7",', b""),
    BODY.replace(b'"host"', b'"HOST":"a","host"'),
    BODY.replace(b'"status":"successful"', b'"status":"fine"'),
    BODY.replace(b'"status":"successful"', b'"status":null'),
    BODY.replace(b'"exit_code":0', b'"exit_code":0.0'),
    BODY.replace(b'"exit_code":0', b'"exit_code":1e2'),
    BODY.replace(b'"exit_code":0', b'"exit_code":true'),
    BODY.replace(b'"exit_code":0', b'"exit_code":"0"'),
    BODY.replace(b'"exit_code":0', b'"exit_code":00'),
    BODY.replace(b'"wall_s":60.25', b'"wall_s":NaN'),
    BODY.replace(b'"wall_s":60.25', b'"wall_s":Infinity'),
    BODY.replace(b'"wall_s":60.25', b'"wall_s":1e999'),
    BODY.replace(b'"wall_s":60.25', b'"wall_s":true'),
    BODY.replace(b'"airmass":1.25', b'"airmass":NaN'),
    BODY.replace(b'"airmass":1.25', b'"airmass":1e400'),
    BODY.replace(b'"no_work":false', b'"no_work":0'),
    BODY.replace(b'"no_work":false', b'"no_work":null'),
    BODY.replace(b'"detector":1', b'"detector":1.0'),
    BODY.replace(b'"detector":1', b'"detector":null'),
    BODY.replace(b'"detector":1', b'"detector":[1]'),
    BODY.replace(b'"exit_code":0', b'"exit_code":' + b"1" * 5000),
    BODY.replace(b'"airmass":1.25', b'"airmass":' + b"[" * 100_000 + b"]" * 100_000),
]

ACCEPTED = [
    BODY + b" \n",
    BODY.replace(b'"wall_s":60.25', b'"wall_s":60'),
    BODY.replace(b'"wall_s":60.25', b'"wall_s":-0.0'),
    BODY.replace(b'"exit_code":0', b'"exit_code":null'),
    BODY.replace(b'"exit_code":0', b'"exit_code":-0'),
    BODY.replace(b'"exit_code":0', b'"exit_code":99999999999999999999999'),
    BODY.replace(b'"exit_code":0', b'"exit_code":1,"exit_code":2'),
    BODY.replace(b'"host":"worker-7"', b'"host":"\\u0000\\ud83d\\ude00\xc3\xa9"'),
    BODY.replace(b'"airmass":1.25', b'"airmass":{"a":[1,2.5,"x",null,true,{}]}'),
    BODY.replace(b'"airmass":1.25', b'"airmass":123456789012345678901234567890'),
    BODY.replace(b'"detector":1', b'"detector":"one"'),
]


@pytest.mark.parametrize("text", REFUSED)
def test_both_refuse(text: bytes) -> None:
    assert (with_msgspec(text), with_typed_json(text)) == (None, None)


@pytest.mark.parametrize("text", ACCEPTED)
def test_both_accept_and_read_the_same(text: bytes) -> None:
    found = with_msgspec(text)
    assert found is not None
    assert found == with_typed_json(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value that something else can be put in."""
    found = [path] if path else []
    if isinstance(value, dict):
        entries = list(value.items())
    else:
        entries = list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in entries:
        found += places(inner, (*path, key))
    return found


PLACES = places(json.loads(BODY))


@given(st.sampled_from(PLACES), values, st.booleans())
def test_any_value_in_any_place(place: tuple[Any, ...], value: object, is_added: bool) -> None:
    changed = json.loads(BODY)
    target = changed
    for step in place[:-1]:
        target = target[step]
    if is_added and isinstance(target, dict):
        target["another"] = value
    else:
        target[place[-1]] = value
    # Lone surrogates are written as escapes here, as a careless writer would.
    text = json.dumps(changed, allow_nan=True).encode()
    assert with_msgspec(text) == with_typed_json(text)


@given(st.integers(0, len(BODY) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_any_damage(place: int, inserted: bytes, n_removed: int) -> None:
    text = BODY[:place] + inserted + BODY[place + n_removed :]
    assert with_msgspec(text) == with_typed_json(text)
