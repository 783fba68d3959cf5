# SPDX-License-Identifier: BSD-3-Clause
"""Our reader and writer of ClassAds agree with HTCondor's own."""

from typing import Any

import classad2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import FormatError
from transfer_plugins.classads import (
    ClassAd,
    Expression,
    Value,
    format_ad,
    parse_ads,
    parse_old_ad,
)

# HTCondor's strings end at NUL.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
RESERVED = {"true", "false", "undefined", "error", "is", "isnt", "inf", "nan"}
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name.lower() not in RESERVED
)


def ads_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[ClassAd]:
    """Ads whose names differ in more than case, which HTCondor does not tell apart."""
    pairs = st.lists(st.tuples(NAMES, values), max_size=4, unique_by=lambda p: p[0].lower())
    return pairs.map(dict)


VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | NUMBERS | TEXTS,
    lambda children: st.lists(children, max_size=3) | ads_of(children),
    max_leaves=6,
)


def plain(value: object) -> Value:
    """A value of HTCondor's bindings as one of ours."""
    if isinstance(value, classad2.ClassAd):
        return {name: plain(value[name]) for name in value.keys()}
    if isinstance(value, list):
        return [plain(element) for element in value]
    if value is classad2.Value.Undefined:
        return None
    assert isinstance(value, bool | int | float | str), value
    return value


def nearly(value: Value) -> Value:
    """A value with its numbers cut to the 15 digits behind the point that HTCondor writes."""
    if isinstance(value, float):
        return float(f"{value:.15E}")
    if isinstance(value, list):
        return [nearly(element) for element in value]
    if isinstance(value, dict):
        return {name.lower(): nearly(element) for name, element in value.items()}
    return value


@given(ads_of(VALUES))
def test_what_we_write_htcondor_reads(ad: ClassAd) -> None:
    assert plain(classad2.parseOne(format_ad(ad))) == ad
    assert "\n" not in format_ad(ad)


@given(ads_of(VALUES))
def test_what_htcondor_writes_we_read(ad: ClassAd) -> None:
    text = str(classad2.ClassAd(ad))
    assert [nearly(found) for found in parse_ads(text)] == [nearly(ad)]


@given(st.lists(ads_of(VALUES), max_size=3))
def test_what_we_write_we_read(ads: list[ClassAd]) -> None:
    for separator in ("", "\n", " ", "\n\n\t"):
        assert parse_ads(separator.join(format_ad(ad) for ad in ads)) == ads


@given(st.text("[]{}()=;,\"\\'a1. \n+", max_size=12))
def test_any_text_is_read_or_refused_and_never_hangs(text: str) -> None:
    try:
        ads = parse_ads(text)
    except FormatError as error:
        assert str(error).startswith("ClassAd: expected")
    else:
        assert all(isinstance(ad, dict) for ad in ads)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "expected the name of an attribute, found 'its end'"),
        ("[ a = 1", "expected the name of an attribute, found 'its end'"),
        ("[ a 1 ]", "expected '=', found '1'"),
        ("a = 1", "expected '[', found 'a'"),
        ("[ = 1 ]", "expected the name of an attribute, found '='"),
        ('[ "a" = 1 ]', "expected the name of an attribute, found '\"a\"'"),
        ("[ a = {1 ", "expected ',' or '}', found 'its end'"),
        ("[ a = {", "expected '}', found its end"),
        ("[ a = {;} ]", "expected ',' or '}', found ';'"),
        ("[ a = {1 ] }", "expected ',' or '}', found ']'"),
        ("]", "expected '[', found ']'"),
    ],
)
def test_damaged_ad_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_ads(text)
    assert str(caught.value) == f"ClassAd: {message}"


def test_paths_of_other_alphabets_arrive_as_they_are() -> None:
    written = str(classad2.ClassAd({"LocalFileName": "/scratch/Zürich/Übung"}))
    assert r"\303\274" in written, "HTCondor writes UTF-8 as octal escapes"
    assert parse_ads(written) == [{"LocalFileName": "/scratch/Zürich/Übung"}]


def test_bytes_that_are_no_utf8_survive() -> None:
    found = parse_ads(r'[ LocalFileName = "/scratch/a\377b" ]')
    assert found == [{"LocalFileName": b"/scratch/a\xffb".decode("utf-8", "surrogateescape")}]
    assert parse_ads(format_ad(found[0])) == found


def test_expressions_are_kept_as_they_are_written() -> None:
    text = '[ a = 1 + b; c = foo(1, {2}); d = x ? [y = 1] : 2; e = real("INF"); f = -x; g = 2 ]'
    found = parse_ads(text)[0]
    assert found.pop("g") == 2
    assert all(isinstance(value, Expression) for value in found.values())
    assert found["c"] == Expression("foo ( 1 , { 2 } )")


def test_input_ads_with_data_of_the_plugin_are_read() -> None:
    text = """[ PluginData = [ Retries = 3; Hosts = { "a", "b" } ]; Protocol = "qs3" ]
[ LocalFileName = "/scratch/x"; Url = "qs3://bucket/x"; Secret = undefined; Time = absTime("x") ]"""
    ads = parse_ads(text)
    assert ads[0]["PluginData"] == {"Retries": 3, "Hosts": ["a", "b"]}
    assert ads[1]["Url"] == "qs3://bucket/x"


def test_job_ad_of_the_old_format() -> None:
    ad = parse_old_ad(
        'QuantumExecS3Endpoint = "http://s3.example:9000"\n'
        "QuantumExecTransferDeadline = 900\n"
        'Requirements = (TARGET.Arch == "X86_64") && (TARGET.Memory >= RequestMemory)\n'
        "Rank = 0.0\nWantIO=true\nCmd = undefined\n\nno assignment here\n"
        "Args = { 1, [ a = }\n"
        "Last = 1\n"
    )
    assert ad["quantumexecs3endpoint"] == "http://s3.example:9000"
    assert ad["quantumexectransferdeadline"] == 900
    assert isinstance(ad["requirements"], Expression)
    assert (ad["rank"], ad["wantio"], ad["cmd"], ad["last"]) == (0.0, True, None, 1)
    assert ad["args"] == Expression("{ 1, [ a = }"), "one that is unreadable hides no other"
