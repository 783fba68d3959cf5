# SPDX-License-Identifier: BSD-3-Clause
"""Keys and paths: whatever a data ID holds, they are safe, short enough and distinct."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import names
from registry.attempt import new_attempt_id
from registry.errors import InvalidNameError
from registry.model import DataId, check_identifier, derived_id
from tests.samples import ATTEMPT_ID, QUANTUM_ID, RUN

_AWKWARD = [
    "",
    ".",
    "..",
    "/",
    "../..",
    "a/../b",
    "~",
    "%2F",
    "x" * 300,
    "é" * 300,
    "\0",
    "\n",
    ".",
]
VALUES = st.one_of(
    st.text(max_size=300), st.sampled_from(_AWKWARD), st.integers(), st.text("./~%", max_size=4)
)
# Few characters and short texts: what would collide, if anything does.
NARROW = st.text("ab_/.%~-", max_size=3)


@given(st.dictionaries(st.sampled_from(["visit", "detector", "band"]), VALUES))
def test_any_data_id_gives_a_safe_key(data_id: DataId) -> None:
    attempt_id = new_attempt_id()
    path = names.dataset_path(RUN, "calexp", data_id, ".fits")
    key = names.dataset_key(path, ".fits", attempt_id)
    for text in (path, key):
        assert names.check_key(text, "key") == text
        assert text.isascii()
        assert text.startswith(f"{RUN}/calexp/")
        assert text.endswith(".fits")
        # A temporary name beside it begins with .part- and ends with random characters.
        assert all(len(part) + 30 <= 255 for part in text.split("/"))
        assert f"/{names.CONTROL}/" not in text


@given(
    st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.lists(NARROW, min_size=n, max_size=n)] * 2))
)
def test_distinct_data_ids_have_distinct_paths(pair: tuple[list[str], list[str]]) -> None:
    paths = [
        names.dataset_path(RUN, "calexp", {f"d{i}": v for i, v in enumerate(values)}, "")
        for values in pair
    ]
    assert (pair[0] == pair[1]) == (paths[0] == paths[1])


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=2, max_size=2), st.booleans())
def test_long_values_stay_distinct(ends: list[str], is_last: bool) -> None:
    paths = set()
    for end in ends:
        data_id: DataId = {"name": "x" * 200 + end, "number": 1}
        ordered = data_id if is_last else dict(reversed(data_id.items()))
        paths.add(names.dataset_path(RUN, "calexp", ordered, ""))
    assert len(paths) == len(set(ends))


def test_values_of_people_stay_readable() -> None:
    data_id: DataId = {"instrument": "HSC", "visit": 1228, "band": "i+z"}
    path = names.dataset_path(RUN, "calexp", data_id, ".fits")
    assert path == f"{RUN}/calexp/HSC/1228/calexp_HSC_1228_i+z.fits"
    assert names.dataset_path(RUN, "summary", {}, ".txt") == f"{RUN}/summary/summary.txt"


@pytest.mark.parametrize("extension", ["", ".fits", ".tar.gz"])
def test_two_attempts_never_write_the_same_key(extension: str) -> None:
    path = names.dataset_path(RUN, "calexp", {"visit": 1}, extension)
    first = new_attempt_id()
    keys = {names.dataset_key(path, extension, a) for a in (first, new_attempt_id(after=first))}
    assert len(keys) == 2
    assert all(key.endswith(extension) for key in keys)


@given(st.uuids(), st.uuids())
def test_delta_key_can_be_parsed(quantum: object, attempt: object) -> None:
    key = names.delta_key(RUN, str(quantum), str(attempt))
    assert names.parse_delta_key(key) == (str(quantum), str(attempt))
    assert key.startswith(names.delta_prefix(RUN, str(quantum)))
    assert key.startswith(names.delta_prefix(RUN))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "readme.txt",
        f"{QUANTUM_ID}.json",
        f"{QUANTUM_ID}.{ATTEMPT_ID}",
        f"{QUANTUM_ID}.{ATTEMPT_ID}.json.part",
        f"{QUANTUM_ID}.{ATTEMPT_ID}.json\n",
        f"{QUANTUM_ID.upper()}.{ATTEMPT_ID}.json",
        f"{QUANTUM_ID.replace('-', '')}----.{ATTEMPT_ID}.json",
        f"ab{QUANTUM_ID}.{ATTEMPT_ID}.json",
        f"{'-' * 36}.{ATTEMPT_ID}.json",
    ],
)
def test_other_names_are_no_delta_keys(name: str) -> None:
    assert names.parse_delta_key(names.delta_prefix(RUN) + name) is None


@pytest.mark.parametrize("run", ["night1", "u/me/2026-01-02", "HSC/runs/w_2026.01", "a@b+c"])
def test_runs_of_people_are_accepted(run: str) -> None:
    assert names.check_run(run) == run
    assert names.check_key(names.job_key(run, QUANTUM_ID), "key")


@pytest.mark.parametrize(
    "run",
    [
        *("", "/", "a/", "/a", "a//b", ".", "..", "a/..", "a/.hidden", "a..b", "-a", "a b", "a\nb"),
        *("a\n", "é", "a\0", "u/quantum-exec", "quantum-exec/a", "a?b", "a#b", "a%2Fb", "a:b"),
        "x" * 121,
    ],
)
def test_unsafe_run_is_refused(run: str) -> None:
    with pytest.raises(InvalidNameError, match=r"RUN .*: part .* must begin with"):
        names.check_run(run)


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a//b", ".", "a/./b", "../a", "a/..", "a\nb"])
def test_key_that_leaves_the_datastore_is_refused(key: str) -> None:
    with pytest.raises(InvalidNameError, match="place: expected a key relative to the datastore"):
        names.check_key(key, "place")


@pytest.mark.parametrize(
    "name", ["", "7a", "a-b", "a b", "a/b", "é", "a\n", "quantum-exec", "x" * 121]
)
def test_unsafe_identifier_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError, match="dataset type: expected letters, digits"):
        check_identifier(name, "dataset type")


def test_control_objects_lie_where_no_dataset_type_can() -> None:
    keys = [
        names.job_key(RUN, QUANTUM_ID),
        names.delta_key(RUN, QUANTUM_ID, ATTEMPT_ID),
        names.log_key(RUN, QUANTUM_ID, ATTEMPT_ID),
        names.graph_record_key(RUN, QUANTUM_ID),
        names.predicted_quanta_key(RUN, QUANTUM_ID),
    ]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(names.control_prefix(RUN)) for key in keys)
    with pytest.raises(InvalidNameError):
        check_identifier(names.CONTROL, "dataset type")


def test_derived_ids_depend_on_every_part() -> None:
    ids = [derived_id("dataset", "r", {"a": 1}), derived_id("dataset", "r", {"a": "1"})]
    ids += [derived_id("dataset", "s", {"a": 1}), derived_id("quantum", "r", {"a": 1})]
    assert len(set(ids)) == len(ids)
    assert derived_id("x", {"a": 1, "b": 2}) == derived_id("x", {"b": 2, "a": 1})


@pytest.mark.parametrize("ending", [".log.gz", ".log"])
def test_log_key_is_parsed(ending: str) -> None:
    """Logs were not compressed before delta format 2."""
    quantum_id, attempt_id = derived_id("quantum"), new_attempt_id()
    key = names.log_key("u/me/night1", quantum_id, attempt_id).removesuffix(".log.gz") + ending
    assert names.parse_log_key(key) == (quantum_id, attempt_id)
    assert names.parse_log_key(key + ".part") is None
    assert names.parse_delta_key(key) is None


def test_archive_key_is_parsed() -> None:
    first, last = new_attempt_id(), new_attempt_id()
    key = names.archive_key("u/me/night1", first, last, f"sha256:{'ab' * 32}")
    assert key.startswith("u/me/night1/quantum-exec/archive/")
    assert names.parse_archive_key(key) == (first, last, "ab" * 8)
    assert names.parse_archive_key(key + ".part") is None
    assert names.parse_delta_key(key) is None
