# SPDX-License-Identifier: BSD-3-Clause
"""The fast decoder and that of the worker accept and refuse the same."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import names, typed_json
from registry.attempt import new_attempt_id
from registry.delta import (
    ADDED_LATER,
    DELTA_FORMAT,
    Delta,
    DeltaError,
    LogEntry,
    ResourceUse,
    decode_body,
    delta_body,
    read_delta,
    write_delta,
)
from registry.errors import FormatError, NewerFormatError
from registry.graph_record import PredictedQuantum
from registry.model import DimensionRecord
from registry.structs import Decoder, delta_decoders, read_delta_fast
from tests import factories

GRAPH = factories.make_graph()
DELTA = factories.make_delta(
    GRAPH,
    dimension_record=[DimensionRecord("exposure", {"exposure": 0}, {"airmass": 1.25, "n": None})],
    wrapper_log=[LogEntry(0.25, "staged_in", {"n_inputs": 1, "bytes": 2.5, "of": ["x", None]})],
)
BODY = delta_body(write_delta(DELTA))
KEY = names.delta_key(DELTA.run, DELTA.quantum_id, DELTA.attempt_id)
OLDER_BODY = delta_body(factories.in_format(1, DELTA))
decoders = delta_decoders()


def with_msgspec(text: bytes, delta_format: int = DELTA_FORMAT) -> object:
    """What the merger reads, as plain objects; None if it refuses."""
    try:
        delta = decoders[delta_format].decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if delta.format != delta_format:
        return None
    found = msgspec.to_builtins(delta)
    found |= {name: getattr(delta, name) for name in added_after(delta_format, Delta)}
    found["resources"] |= {
        name: getattr(delta.resources, name) for name in added_after(delta_format, ResourceUse)
    }
    return found


def added_after(delta_format: int, cls: type) -> list[str]:
    return [name for name, since in ADDED_LATER[cls].items() if since > delta_format]


def with_typed_json(text: bytes, delta_format: int = DELTA_FORMAT) -> object:
    """The same of what the worker reads."""
    try:
        return plain(decode_body(text, delta_format, "delta"))
    except FormatError:
        return None


def plain(value: object) -> Any:
    return json.loads(typed_json.encode(dataclasses.asdict(value)))  # type: ignore[call-overload]


def test_real_delta() -> None:
    assert with_msgspec(BODY) == with_typed_json(BODY) == plain(DELTA)


def test_delta_of_format_1_has_nothing_of_what_came_later() -> None:
    found = with_msgspec(OLDER_BODY, 1)
    assert found == with_typed_json(OLDER_BODY, 1)
    older = dataclasses.replace(
        DELTA,
        format=1,
        resources=dataclasses.replace(
            DELTA.resources, read_bytes=None, write_bytes=None, scratch_bytes=None
        ),
        requested=None,
        versions={},
        wrapper_log=[],
    )
    assert found == plain(older)


def test_delta_of_format_2_has_kept_everything() -> None:
    text = delta_body(factories.in_format(2, DELTA))
    found = with_msgspec(text, 2)
    assert found == with_typed_json(text, 2) == plain(dataclasses.replace(DELTA, format=2))


def test_what_is_alike_in_two_formats_is_equal() -> None:
    older, newest = (
        decoders[number].decode(delta_body(factories.in_format(number, DELTA))) for number in (2, 3)
    )
    assert older.rows == newest.rows
    assert older.requested == newest.requested is not None


def test_newest_member_is_refused_in_format_2() -> None:
    text = BODY.replace(b'"format":3', b'"format":2')
    assert (with_msgspec(text, 2), with_typed_json(text, 2)) == (None, None)


ADDED = {
    "requested": b'"requested":null',
    "versions": b'"versions":{}',
    "wrapper_log": b'"wrapper_log":[]',
    "not_kept": b'"not_kept":[]',
}


@pytest.mark.parametrize("name", ADDED)
def test_new_member_is_refused_in_format_1(name: str) -> None:
    text = OLDER_BODY[:-1] + b"," + ADDED[name] + b"}"
    assert (with_msgspec(text, 1), with_typed_json(text, 1)) == (None, None)


@pytest.mark.parametrize("name", ["read_bytes", "write_bytes", "scratch_bytes"])
def test_new_measure_is_refused_in_format_1(name: str) -> None:
    text = OLDER_BODY.replace(b'"max_rss_bytes"', b'"%s":1,"max_rss_bytes"' % name.encode())
    assert text != OLDER_BODY
    assert (with_msgspec(text, 1), with_typed_json(text, 1)) == (None, None)


@pytest.mark.parametrize("other", [1, 3])
def test_format_is_the_one_that_the_frame_tells(other: int) -> None:
    """A member may stand twice in JSON, and the last one counts."""
    told = 4 - other
    body = {1: OLDER_BODY, 3: BODY}[told]
    text = body[:-1] + b',"format":%d}' % other
    assert (with_msgspec(text, told), with_typed_json(text, told)) == (None, None)


@pytest.mark.parametrize("place", [(name,) for name in ADDED] + [("resources", "read_bytes")])
def test_format_3_has_every_member(place: tuple[str, ...]) -> None:
    body = json.loads(BODY)
    inner = body if len(place) == 1 else body[place[0]]
    del inner[place[-1]]
    text = json.dumps(body).encode()
    assert (with_msgspec(text), with_typed_json(text)) == (None, None)


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
    BODY.replace(b'"read_bytes":', b'"read_bytes":0.5,"was":'),
    BODY.replace(b'"cpus":4', b'"cpus":true'),
    BODY.replace(b'"cpus":4', b'"gpus":4'),
    BODY.replace(b'"python":"3.13.1"', b'"python":3.13'),
    BODY.replace(b'"python":"3.13.1"', b'"python":null'),
    BODY.replace(b'"elapsed_s":0.25', b'"elapsed_s":null'),
    BODY.replace(b'"n_inputs":1', b'"n_inputs":NaN'),
    BODY.replace(b'"not_kept":[]', b'"not_kept":null'),
    BODY.replace(b'"not_kept":[]', b'"not_kept":[1]'),
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
    BODY.replace(b'"cpus":4', b'"cpus":null'),
    BODY.replace(b'"cpus":4,', b""),
    BODY.replace(b'"python":"3.13.1"', b'"\\u0000":"\\ud83d\\ude00"'),
    BODY.replace(b'"n_inputs":1', b'"n_inputs":{"deep":[1e308,null]}'),
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


def altered(old: str, new: str, delta: Delta = DELTA) -> bytes:
    """A delta with another text and the right checksum."""
    text = typed_json.encode(delta)
    assert old in text
    return factories.framed(text.replace(old, new)[1:].encode())


@pytest.mark.parametrize("read", [read_delta, read_delta_fast])
def test_either_reader_refuses_what_is_damaged(read: Callable[[bytes, str], Delta]) -> None:
    content = write_delta(DELTA)
    assert read(content, KEY).attempt_id == DELTA.attempt_id
    for damaged, told in (
        (content[:-40], "truncated or altered"),
        (content.replace(b"successful", b"successfux"), "truncated or altered"),
        (altered('"status":', '"state":'), "state"),
        (altered('"no_work":false', '"no_work":0'), "no_work"),
        (altered('"graph_id":', '"format":2,"graph_id":'), "one format"),
        (write_delta(dataclasses.replace(DELTA, attempt_id=new_attempt_id())), "holds quantum"),
    ):
        with pytest.raises(DeltaError, match=told):
            read(damaged, KEY)
    with pytest.raises(NewerFormatError, match="upgrade"):
        read(altered('"format":3', '"format":99'), KEY)


# Every round makes all types anew, in eight threads at the same moment.
_IN_THREADS = """
import sys, threading
from registry import structs
content, key = sys.stdin.buffer.read(), sys.argv[1]
sys.setswitchinterval(1e-6)
errors = []

def read(start):
    start.wait()
    try:
        structs.read_delta_fast(content, key)
    except Exception as error:
        errors.append(error)

for _ in range(30):
    structs.struct_of.cache_clear()
    structs._delta_decoders.cache_clear()
    start = threading.Barrier(8)
    threads = [threading.Thread(target=read, args=[start]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert not errors, errors
"""


def test_types_are_made_in_one_thread_at_a_time() -> None:
    command = [sys.executable, "-c", _IN_THREADS, KEY]
    done = subprocess.run(command, input=write_delta(DELTA), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
