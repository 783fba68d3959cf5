# SPDX-License-Identifier: BSD-3-Clause
"""JSON to dataclasses: what is written is read again, and every error names its place."""

import enum
import json
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import FormatError
from registry.typed_json import canonical, decode, encode


class Colour(enum.StrEnum):
    """An enumeration, as statuses are."""

    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    """A dataclass within another."""

    name: str
    size: int = 0


@dataclass(frozen=True)
class Outer:
    """Every kind of field that our formats have."""

    text: str
    number: float
    is_on: bool
    colour: Colour
    maybe: int | None
    data_id: dict[str, str | int]
    inner: Inner
    rows: list[Inner] = field(default_factory=list)
    anything: dict[str, object] = field(default_factory=dict)


SAMPLE = Outer('é\n"', 1.5, True, Colour.RED, None, {"a": 1, "b": "x"}, Inner("i"), [Inner("j", 2)])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
FIELDS = [
    *("text", "number", "is_on", "colour", "maybe", "data_id", "inner", "rows", "anything"),
]


def sample_with(**changes: object) -> str:
    """The JSON of the sample with other members."""
    return json.dumps({**json.loads(encode(SAMPLE)), **changes})


@given(
    st.builds(
        Outer,
        number=st.floats(allow_nan=False, allow_infinity=False),
        anything=st.dictionaries(st.text(), JSON_VALUES),
    )
)
def test_what_is_encoded_can_be_decoded(value: Outer) -> None:
    text = encode(value)
    assert decode(Outer, text, "sample") == value
    assert decode(Outer, text.encode(), "sample") == value
    assert "\n" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": 1}, "sample.text: expected a string, found 1"),
        ({"number": "1"}, "sample.number: expected a number, found '1'"),
        ({"number": True}, "sample.number: expected a number, found True"),
        ({"is_on": 1}, "sample.is_on: expected true or false, found 1"),
        ({"colour": "green"}, "sample.colour: expected one of ['red', 'blue'], found 'green'"),
        ({"colour": []}, "sample.colour: expected one of ['red', 'blue'], found []"),
        ({"maybe": 1.0}, "sample.maybe: expected an integer, found 1.0"),
        ({"maybe": True}, "sample.maybe: expected an integer, found True"),
        ({"data_id": {"a": 1.5}}, "sample.data_id.a: expected str or int, found 1.5"),
        ({"data_id": {"a": True}}, "sample.data_id.a: expected str or int, found True"),
        ({"data_id": {"a": None}}, "sample.data_id.a: expected str or int, found None"),
        ({"data_id": []}, "sample.data_id: expected an object, found []"),
        ({"inner": None}, "sample.inner: expected an object, found None"),
        ({"inner": {}}, "sample.inner: field 'name' is missing"),
        ({"rows": {}}, "sample.rows: expected a list, found {}"),
        ({"rows": [{"name": "a"}, 7]}, "sample.rows[1]: expected an object, found 7"),
        ({"rows": [{"name": 7}]}, "sample.rows[0].name: expected a string, found 7"),
        (
            {"inner": {"name": "a", "nmae": 1}},
            "sample.inner: unknown field 'nmae'; expected one of ['name', 'size']",
        ),
        ({"text": ["x" * 200]}, f"sample.text: expected a string, found ['{'x' * 75}…"),
    ],
)
def test_error_names_the_place(changes: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode(Outer, sample_with(**changes), "sample")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("{} {}", "Extra data"),
        ("[" * 100_000, "recursion"),
        ('{"number": NaN}', "a number that is not finite: NaN"),
        ('{"number": -Infinity}', "a number that is not finite: -Infinity"),
        ('{"number": 1e999}', "a number that is not finite: 1e999"),
        ('{"text": "\\ud800"}', "surrogates not allowed"),
        ('{"size": ' + "9" * 5000 + "}", "Exceeds the limit"),
        (b'{"text": "\xff"}', "invalid start byte"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ("{}".encode("utf-16"), "can't decode byte"),
    ],
)
def test_text_that_is_no_json_is_refused(text: str | bytes, found: str) -> None:
    with pytest.raises(FormatError, match=f"sample: expected JSON, found .*{found}"):
        decode(Outer, text, "sample")


def test_integer_too_large_for_a_number_is_refused() -> None:
    with pytest.raises(FormatError, match=r"sample\.number: expected a number, found 1000"):
        decode(Outer, sample_with(number=10**400), "sample")


def test_surrogate_pairs_are_text() -> None:
    assert decode(Inner, '{"name": "\\ud83d\\ude00"}', "sample") == Inner("😀")


@given(st.sampled_from(FIELDS), JSON_VALUES)
def test_any_value_in_any_field_is_read_or_refused(name: str, value: object) -> None:
    try:
        decoded = decode(Outer, sample_with(**{name: value}), "sample")
    except FormatError as error:
        assert str(error).startswith(f"sample.{name}")
    else:
        assert json.loads(encode(decoded))[name] == value


@given(st.sets(st.sampled_from(FIELDS)))
def test_missing_fields_are_named_unless_they_have_a_default(missing: set[str]) -> None:
    members = {k: v for k, v in json.loads(encode(SAMPLE)).items() if k not in missing}
    if missing <= {"rows", "anything"}:
        assert decode(Outer, json.dumps(members), "sample").text == SAMPLE.text
        return
    with pytest.raises(FormatError, match=r"sample: field '(.*)' is missing") as caught:
        decode(Outer, json.dumps(members), "sample")
    assert str(caught.value).split("'")[1] in missing


def test_canonical_text_does_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": ["é", {"d": 1, "c": 2}]}) == '{"a":["é",{"c":2,"d":1}],"b":1}'


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_json_are_not_written(number: float) -> None:
    for write in (encode, canonical):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write({"value": number})


def test_other_objects_are_not_written() -> None:
    with pytest.raises(TypeError, match="cannot write set as JSON"):
        encode({"value": {1}})
