# SPDX-License-Identifier: BSD-3-Clause
"""Whatever way a datastore record writes a key, sweep knows the object that is meant."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.listed_objects import ListedObjects, short_attempt_in, without_attempt
from merger.named_keys import keys_named
from registry import names
from registry.attempt import new_attempt_id, short_attempt
from registry.model import MAX_NAME_LENGTH
from transfer_plugins.object_store import StoredObject

RUN = "u/me/night1"
KEY = f"{RUN}/image/a%2Fb c+d~é.fits"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"s3://bucket/prefix/{KEY}",
        f"s3://bucket/prefix/{quote(KEY)}",
        f"s3a://other/{quote(KEY, safe='')}",
        f"https://s3.example.org/bucket/prefix/{quote(KEY)}?versionId=1#x",
        f"file://localhost/data//repo/./{quote(KEY)}",
        f"file:///data/x/../repo/{KEY}",
        f"prefix/{KEY}",
    ],
)
def test_forms_of_one_key(text: str) -> None:
    assert KEY in set(keys_named(text, RUN))


@pytest.mark.parametrize("text", ["u/me/night10/x", "xu/me/night1/x", "", "u/me/night1", "%"])
def test_others_mean_nothing_here(text: str) -> None:
    assert set(keys_named(text, RUN)) == set()


PARTS = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1)


@given(st.lists(PARTS, min_size=1, max_size=3), PARTS)
def test_any_key_is_found_in_its_uri(parts: list[str], root: str) -> None:
    key = "/".join([RUN, *parts])
    for text in (key, f"file:///{quote(root)}/{quote(key)}", f"s3://b/{quote(key, safe='')}"):
        assert key in set(keys_named(text, RUN))


def listed(*keys: str) -> ListedObjects:
    objects = ListedObjects()
    for key in keys:
        objects.add(StoredObject(key, 1, 0.0), is_log=key.endswith(".log.gz"))
    objects.seal()
    return objects


@given(st.sets(st.text(min_size=1, max_size=3), max_size=20), st.sets(st.text(max_size=3)))
def test_exactly_the_named_objects_are_protected(keys: set[str], named: set[str]) -> None:
    ordered = sorted(keys, key=lambda key: key.encode(errors="surrogateescape"))
    with listed(*ordered) as objects:
        objects.protect_keys(named)
        assert [objects.is_protected[n] for n in range(len(keys))] == [k in named for k in ordered]
        read = objects.read(range(len(keys)))
        assert [(one.number, one.key) for one in read] == list(enumerate(ordered))


def test_attempts_protect_what_carries_them() -> None:
    one, other = new_attempt_id(), new_attempt_id()
    path = names.dataset_path(RUN, "image", {"exposure": 1}, ".fits")
    keys = [names.dataset_key(path, ".fits", attempt) for attempt in (one, other)]
    log = names.log_key(RUN, one, one)
    with listed(*keys, log, path) as objects:
        objects.protect_attempts([short_attempt(one)])
        assert list(objects.is_protected) == [True, False, False, False]
        objects.protect_logs_of([one])
        assert list(objects.is_protected) == [True, False, True, False]
        assert list(objects.without_attempt()) == [False, False, False, True]
        objects.protect_without_attempt()
        assert list(objects.is_protected) == [True, False, True, True]


@pytest.mark.parametrize("extension", ["", ".fits", ".tar.gz"])
@pytest.mark.parametrize("value", ["x", "a.0123456789abcdef0123.b", "y" * 2 * MAX_NAME_LENGTH])
def test_attempt_is_found_in_any_key(extension: str, value: str) -> None:
    attempt = new_attempt_id()
    path = names.dataset_path(RUN, "image", {"name": value}, extension)
    key = names.dataset_key(path, extension, attempt)
    assert short_attempt_in(key) == short_attempt(attempt)
    assert without_attempt(key) == without_attempt(path)


def test_objects_of_unknown_age_are_young() -> None:
    with ListedObjects() as objects:
        objects.add(StoredObject("a", 1), is_log=False)
        objects.add(StoredObject("b", 1, 5.0), is_log=False)
        objects.seal()
        assert list(objects.older_than(float("inf"))) == [False, True]
